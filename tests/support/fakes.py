"""Fakes of what a link drives: a connection that remembers, and an owner that remembers."""

from __future__ import annotations

from dataclasses import dataclass, field

from phantomband.core.cell import CELL_BYTES
from phantomband.core.dircall import DirectoryMessage
from phantomband.runtime.link_driver import LinkDriver
from phantomband.transports.base import WRITE_HIGH_WATER, Buffer, Connection


class FakeConnection(Connection):
    """Takes everything; `stuck` bytes are said to wait."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.stuck = 0
        self.reading = True
        self.ended: str | None = None

    def write(self, data: Buffer) -> None:
        self.written.append(bytes(data))

    def congest(self, congested: bool = True) -> None:
        self.stuck = WRITE_HIGH_WATER + 1 if congested else 0

    @property
    def buffered(self) -> int:
        return self.stuck

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.ended = self.ended or "close"

    def abort(self) -> None:
        self.ended = self.ended or "abort"

    def take(self) -> bytes:
        """What was written since the last `take`."""
        out = b"".join(self.written)
        self.written.clear()
        return out


@dataclass
class FakeOwner:
    """A `LinkOwner` that remembers."""

    up: list[bytes | None] = field(default_factory=list)
    cells: bytearray = field(default_factory=bytearray)
    messages: list[DirectoryMessage] = field(default_factory=list)
    overflows: list[bytes] = field(default_factory=list)
    closed: int = 0
    released: int = 0

    def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None:
        self.up.append(peer_key)

    def link_cells(self, driver: LinkDriver, cells: bytearray | bytes) -> None:
        assert not len(cells) % CELL_BYTES
        self.cells += cells

    def link_directory(self, driver: LinkDriver, message: DirectoryMessage) -> None:
        self.messages.append(message)

    def link_overflow(self, driver: LinkDriver, circuit: bytes) -> None:
        self.overflows.append(circuit)

    def link_closed(self, driver: LinkDriver) -> None:
        self.closed += 1

    def link_released(self, driver: LinkDriver) -> None:
        assert self.released < self.closed, "released before it was closed, or twice"
        self.released += 1
