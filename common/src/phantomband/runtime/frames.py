"""The frames that the services of a node send each other over lanes.

1 CELLS      batch (core/circuit/batch.py)                                   gateway -> relay -> mixer -> gateway
2 LINK_UP    link 4 | dialed 1 | source 4 | peer's link key 32 or nothing    gateway -> relay
3 LINK_DOWN  link 4                                                          gateway -> relay
4 OVERFLOW   link 4 | circuit 4                                              mixer -> gateway -> relay
5 RESET      nothing: cells were lost, every circuit is dead                 gateway -> relay

`source` groups links by where they come from, so that the relay can share what it has between them. It is a number that
means nothing outside this process of the gateway: the relay learns no address. 0: not known.
"""

from __future__ import annotations

from enum import IntEnum

from phantomband.core.ids import CircuitId, LinkId
from phantomband.core.wire import Reader, u8, u32


class Frame(IntEnum):
    """Kinds of frames."""

    CELLS = 1
    LINK_UP = 2
    LINK_DOWN = 3
    OVERFLOW = 4
    RESET = 5


def link_up(link: LinkId, dialed: bool, peer_key: bytes | None, source: int = 0) -> bytes:
    return u32(link) + u8(dialed) + u32(source) + (peer_key or b"")


def read_link_up(payload: bytes) -> tuple[LinkId, bool, bytes | None, int]:
    """(link, whether we dialled it, the peer's key, source)."""
    reader = Reader(payload)
    link, dialed, source = LinkId(reader.u32()), bool(reader.u8()), reader.u32()
    return link, dialed, reader.rest() or None, source


def link_down(link: LinkId) -> bytes:
    return u32(link)


def read_link_down(payload: bytes) -> LinkId:
    reader = Reader(payload)
    link = LinkId(reader.u32())
    reader.end()
    return link


def overflow(link: LinkId, circuit: bytes) -> bytes:
    return u32(link) + circuit


def read_overflow(payload: bytes) -> tuple[LinkId, CircuitId]:
    reader = Reader(payload)
    out = LinkId(reader.u32()), CircuitId(reader.take(4))
    reader.end()
    return out
