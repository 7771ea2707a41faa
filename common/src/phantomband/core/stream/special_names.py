"""Names that mean something on the asker's machine or network, or in another network, but nothing in the public DNS.

Such a name leaves a program by mistake: an onion address in a browser without Tor, the printer's name, a cluster's
service. Sent on, it would tell an exit and its resolver what this user or his household looks for, and whoever runs
the resolver may answer it. So the client refuses it, and an exit that gets one anyway does not look it up.

Sources: IANA's Special-Use Domain Names (RFC 6761); .onion (RFC 7686), .local and Appendix G (RFC 6762), .alt
(RFC 9476), home.arpa (RFC 8375), service.arpa (RFC 9665), .internal (ICANN board, 29 July 2024), .corp, .home and .mail
(ICANN board, 4 February 2018); and the names of peer-to-peer systems (draft-grothoff-iesg-special-use-p2p-names).

`test`, `example` and example.com are not here: RFC 6761, sections 6.2 and 6.5, says that programs SHOULD NOT treat them
as special.
"""

from __future__ import annotations

LOOPBACK = "localhost"
"""RFC 6761, section 6.3: it and all under it are the asker's own machine."""

SPECIAL_USE = frozenset(
    {
        LOOPBACK, "local", "internal", "home.arpa", "service.arpa",
        "corp", "home", "intranet", "lan", "mail", "private",
        "onion", "i2p", "exit", "gnu", "zkey", "bit", "alt",
        "invalid",
    }
)  # fmt: skip
"""Domains; every name under one of them is special too."""


def is_special_use(name: str) -> bool:
    """Whether no exit should be asked for this host name. An IP address literal is none."""
    return _under(name, SPECIAL_USE)


def is_loopback_name(name: str) -> bool:
    """Whether the name is localhost or under it: in a test network, whose exits reach themselves, it is served."""
    return _under(name, frozenset({LOOPBACK}))


def _under(name: str, domains: frozenset[str]) -> bool:
    """Without regard to case (RFC 4343) and to dots at the end."""
    labels = name.rstrip(".").lower().split(".")
    return any(".".join(labels[at:]) in domains for at in range(len(labels)))
