"""The queue of a link that is paced: what is sent, and when, does not depend on what waits (core/shaping).

Cells always wait, by circuit, with the bounds of an `Egress`. At each slot circuits take turns to give exactly the
cells that it carries; when nothing waits any more the owner's filler makes up the number, and PAD cells what it does
not give. A slot is one write: as few records as can be for its number of cells, so its size depends on that alone.

When the connection is congested at a slot, the slot is lost: nothing is added to what the peer does not take. While an
adaptive pacer is silent, the link carries no circuits, and the link's own cells (circuit 0) go out at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.core.cell import CELL_BYTES, CIRCUIT_ID_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.errors import Bug
from phantomband.core.link import Link
from phantomband.core.shaping import Pacer
from phantomband.runtime.egress import TURN_CELLS, Egress
from phantomband.transports.base import Buffer, Connection

PAD = encode(LINK_CIRCUIT, Command.PAD)

Fill = Callable[[int], Buffer]
"""Given a number, makes up to so many whole cells to fill a slot. It is called when nothing waits, and they leave
behind all that waited: a cell that it seals for a circuit keeps its place. What it adds to the queue leaves later."""

TIMER_GRAIN_SECONDS = 0.001
"""uvloop's clock and timers count whole milliseconds: a timer may fire so much before its time."""


def no_fill(count: int) -> bytes:
    """All dummies are PAD cells."""
    return b""


class PacedEgress(Egress):
    """The queue of one link, and the timer of its slots."""

    __slots__ = ("_fill", "_loop", "_pacer", "_stopped", "_timer")

    paced = True

    def __init__(
        self,
        link: Link,
        connection: Connection,
        overflow: Callable[[bytes], None],
        pacer: Pacer,
        fill: Fill,
        hold: Callable[[int], None] = lambda delta: None,
    ) -> None:
        super().__init__(link, connection, overflow, hold)
        self._pacer = pacer
        self._fill = fill
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._arm()

    def take_over(self, before: Egress) -> None:
        if any(circuit != LINK_CIRCUIT for circuit in before._queues):
            self.carried()
        super().take_over(before)

    @property
    def active(self) -> bool:
        return self._pacer.deadline is not None

    def carried(self) -> None:
        self._pacer.carried(self._loop.time())
        if self._timer is None:
            self._arm()

    def add(self, cells: Buffer) -> None:
        """A batch of whole cells in their order."""
        batch = bytes(cells)
        if _names_circuits(batch):
            self.carried()
        elif not self.active:
            super().add(batch)
            return
        self._queue(batch)

    def drain(self) -> None:
        """Only slots send; but while there are none, what waits is the link's own."""
        if not self.active:
            super().drain()

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        deadline = None if self._stopped else self._pacer.deadline
        self._timer = None if deadline is None else self._loop.call_at(deadline, self._slots)

    def _slots(self) -> None:
        """Sends the slot that is due, and those that were missed."""
        now = self._loop.time() + TIMER_GRAIN_SECONDS
        try:
            while count := self._pacer.due(now, self.waiting):
                if not self._connection.congested:
                    self._send(count)
        finally:
            self.settle()
            self._arm()

    def _send(self, count: int) -> None:
        cells = self._take_exactly(min(count, self.waiting))
        missing = count - sum(map(len, cells)) // CELL_BYTES
        self.cells_sent += count
        self.padding_sent += missing
        dummies = PAD * missing
        try:
            if missing:
                dummies = self._dummies(missing)
        finally:
            self._connection.write(self._link.seal(b"".join((*cells, dummies))))

    def _dummies(self, count: int) -> bytes:
        filled = self._fill(count)
        given, rest = divmod(len(filled), CELL_BYTES)
        if rest or given > count:
            raise Bug("a slot is filled with whole cells, and no more than it lacks")
        return bytes(filled) + PAD * (count - given)

    def _take_exactly(self, wanted: int) -> list[bytes]:
        """`wanted` cells, which wait: up to fifteen of each circuit in turn, pieces cut where needed."""
        out: list[bytes] = []
        queues = self._queues
        left = wanted
        while left:
            circuit, queue = queues.popitem(last=False)
            turn = min(left, TURN_CELLS, queue.cells)
            queue.cells -= turn
            left -= turn
            while turn:
                piece = queue.pieces.popleft()
                if len(piece) > turn * CELL_BYTES:
                    queue.pieces.appendleft(piece[turn * CELL_BYTES :])
                    piece = piece[: turn * CELL_BYTES]
                out.append(piece)
                turn -= len(piece) // CELL_BYTES
            if queue.pieces:
                queues[circuit] = queue
        self.waiting -= wanted
        return out


def _names_circuits(cells: bytes) -> bool:
    """Whether a batch has a cell of a circuit."""
    return any(cells[at : at + CIRCUIT_ID_BYTES] != LINK_CIRCUIT for at in range(0, len(cells), CELL_BYTES))
