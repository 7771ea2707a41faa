"""What programs say, made fit for our log and our errors: without addresses, hosts, keys, control characters."""

from __future__ import annotations

import re

MAX_TEXT = 240
"""Characters that are kept."""

_HIDDEN = re.compile(
    r"""
      [a-z][a-z0-9+.-]*://\S+                          # URLs
    | \[?[0-9a-f]*:[0-9a-f:.]*:[0-9a-f:.%]*\]?(:\d+)?  # IPv6
    | \d{1,3}(\.\d{1,3}){3}(:\d+)?                     # IPv4
    | (?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9])?\.)+[a-z]{2,}(:\d+)?    # names of hosts
    | [a-z0-9+/_=-]{24,}                               # keys, certificates, fingerprints
    """,
    re.IGNORECASE | re.VERBOSE,
)


def scrub(text: str) -> str:
    """`text`, shortened, with [scrubbed] for whatever looks like an address, a host or a key."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * MAX_TEXT])
    clean = _HIDDEN.sub("[scrubbed]", printable).strip()
    return clean if len(clean) <= MAX_TEXT else clean[:MAX_TEXT] + "..."
