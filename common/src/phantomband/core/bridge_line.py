"""A bridge line: all that a client needs to reach a network through one node, in one line of text.

    Bridge tls 192.0.2.1:443 <node id, 64 hex digits> link-key=<64 hex digits> network=<64 hex digits> [name=value ...]

The network id is the hash of the whole genesis file, so the file itself can come from the bridge. Further names are
parameters of the transport, such as `sni=example.org`, or `cert=... iat-mode=0` as other programs' obfs4 lines have
them; their values are percent-encoded. Names in lines for external programs have hyphens where addresses have
underscores. Whoever gives out a line can choose the network that a client joins: a line is to be trusted like a genesis
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote, urlsplit

from phantomband.core.crypto.dh import check_public_untrusted
from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.address import NodeAddress, parse_ip

WORD = "Bridge"
TRANSPORTS = ("tcp", "tls", "quic", "obfs4", "websocket", "doh")

HYPHENATED = {"iat-mode": "iat_mode"}
"""Parameters that bridge lines of other programs write with a hyphen, which addresses in documents do not have."""

CERTIFICATE_SAFE = "+/"
"""Not percent-encoded in obfs4 lines: those programs write the certificate as base64."""

PROGRAM_SAFE = "+/:,="
"""The same in lines for external programs, whose parameters are URLs and lists."""

MAX_LINE = 4096
"""Characters."""

KEYS = ("link-key", "network")
"""Words that every line has; all others are the transport's."""

HEX_DIGITS = 64
FORM = "Bridge TRANSPORT IP:PORT NODE-ID link-key=HEX network=HEX"


@dataclass(frozen=True, slots=True)
class BridgeLine:
    """A node to begin with."""

    address: NodeAddress
    node_id: NodeId
    link_key: bytes
    """X25519, 32 bytes."""
    network_id: bytes
    """32 bytes."""

    @classmethod
    def parse(cls, text: str, more: Sequence[str] = ()) -> Self:
        """From a line; the word `Bridge` at its beginning may be left out.

        Args: more: transports of external programs.

        Raises:
            UserError: says which part is wrong, and what it should be.
        """
        words = text.split() if len(text) <= MAX_LINE else []
        if words and words[0].lower() == WORD.lower():
            words = words[1:]
        if len(words) < 3:
            raise UserError(f"a bridge line has the form: {FORM}. Copy the whole line, as one line")
        transport, place, node = words[:3]
        known = dict.fromkeys((*TRANSPORTS, *more))
        if transport not in known:
            raise UserError(
                f"bridge line: transport {_short(transport)} is unknown. Use one of: {', '.join(known)}; or give the "
                "program that does it (pluggable, --pt)"
            )
        values = _values(words[3:], hyphens=transport not in TRANSPORTS)
        link_key, network_id = (_hex(name, values.pop(name, None)) for name in KEYS)
        try:
            check_public_untrusted(link_key, "link-key")
        except Malformed as e:
            raise UserError(f"bridge line: {e}: nobody has such a key. Copy the whole line again") from None
        return cls(_address(transport, place, values), NodeId(_hex("the node id", node)), link_key, network_id)

    def text(self) -> str:
        """The line that `parse` reads."""
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        spelling = {name: hyphenated for hyphenated, name in HYPHENATED.items()}
        external = self.address.transport not in TRANSPORTS
        if external:
            spelling = {name: name.replace("_", "-") for name, _ in self.address.parameters}
        safe = CERTIFICATE_SAFE if self.address.transport == "obfs4" else PROGRAM_SAFE if external else ""
        parameters = [
            f"{spelling.get(name, name)}={quote(value, safe=safe)}" for name, value in self.address.parameters
        ]
        return " ".join(
            (
                WORD, self.address.transport, f"{host}:{self.address.port}", self.node_id.hex(),
                f"link-key={self.link_key.hex()}", f"network={self.network_id.hex()}", *parameters,
            )
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"BridgeLine({self.address.transport} [scrubbed])"


def parse_all(lines: Sequence[str], more: Sequence[str] = ()) -> tuple[BridgeLine, ...]:
    """Several bridges of one network. Args: more: transports of external programs.

    Raises:
        UserError: a line is wrong, says which; or they name different networks.
    """
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(BridgeLine.parse(line, more))
        except UserError as e:
            raise UserError(f"{e} (bridge {number} of {len(lines)})" if len(lines) > 1 else str(e)) from None
    if len({bridge.network_id for bridge in found}) > 1:
        raise UserError("the bridges are of different networks. Use lines with one and the same network=")
    return tuple(found)


def _values(words: Sequence[str], hyphens: bool) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UserError(f"bridge line: {_short(word)} is not of the form name=value. Copy the whole line again")
        name = name.replace("-", "_") if hyphens and name not in KEYS else HYPHENATED.get(name, name)
        if name in values:
            raise UserError(f"bridge line: {_short(name)} stands there twice. Remove one")
        values[name] = unquote(value)
    return values


def _hex(name: str, text: str | None) -> bytes:
    if text is None:
        raise UserError(f"bridge line: {name}= is missing. Copy the whole line again")
    try:
        if len(text) == HEX_DIGITS:
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise UserError(f"bridge line: {name} must be {2 * NODE_ID_BYTES} hex digits, not {_short(text)}")


def _address(transport: str, place: str, values: dict[str, str]) -> NodeAddress:
    try:
        url = urlsplit(f"//{place}")
        host, port = url.hostname, url.port
        if host is None or port is None or url.path or url.username:
            raise ValueError("there is no IP:PORT")
        return NodeAddress(transport, str(parse_ip(host)), port, tuple(sorted(values.items())))
    except (ValueError, Malformed) as e:
        raise UserError(f"bridge line: {_short(place)} cannot be used: {e}. Write IP:PORT, never a name") from None


def _short(text: str) -> str:
    """What a person typed, as far as it helps."""
    return repr(text if len(text) <= 24 else text[:21] + "...")
