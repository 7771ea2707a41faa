"""Which transports a client may use, and in what order it would rather."""

from __future__ import annotations

from collections.abc import Sequence

from phantomband.core.errors import UserError
from phantomband.transports.registry import THROUGH_PROXY, TRANSPORTS
from phantomband.transports.tcp.proxy import Proxy

AUTO = "auto"

ORDER = ("tls", "quic", "websocket", "obfs4", "doh")
"""What `auto` means. The fastest of those that look like the web first, and last the one that is slow everywhere. Plain
`tcp` is for relays among themselves: it looks like nothing that a browser does."""


def names_of(setting: str, external: Sequence[str] = (), proxy: Proxy | None = None) -> list[str]:
    """The transports of the setting `transport`: `auto`, or names with commas between them, first choice first.

    Args:
        external: those that other programs do; `auto` means none of them.
        proxy: through which all must go; `auto` means only those that can.

    Raises:
        UserError: one is unknown.
    """
    names = list(dict.fromkeys(part.strip() for part in setting.split(",")))
    if names == [AUTO]:
        return [name for name in ORDER if name in (TRANSPORTS if proxy is None else THROUGH_PROXY)]
    for name in names:
        if name not in TRANSPORTS and name not in external:
            known = ", ".join((*TRANSPORTS, *external))
            raise UserError(f"transport: {name!r} is unknown. Use {AUTO}, or some of {known}")
    return names
