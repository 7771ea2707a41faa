"""How pieces that have waited for each other are given to one of asyncio's transports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from phantomband.transports.base import Buffer

JOIN_BELOW_BYTES = 4096
"""Buffers smaller than this on average are joined before the write. Our choice, not yet measured."""


def write_pieces(transport: asyncio.WriteTransport, pieces: Sequence[Buffer], size: int) -> None:
    """All of them, in one system call if it takes them. Args: size: bytes of all together."""
    if size < JOIN_BELOW_BYTES * len(pieces):
        transport.write(b"".join(pieces))
    else:
        transport.writelines(pieces)
