"""What waits to be sent on one link: one queue a link, round-robin over its circuits (PROTOCOL.md section 4).

While the connection takes bytes, a batch is sealed and written at once. When it is congested, cells wait by circuit,
each circuit up to a cap; over the cap the circuit is given up, so that neither a slow link nor one circuit can fill
memory.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from phantomband.core.cell import CELL_BYTES, CIRCUIT_ID_BYTES, LINK_CIRCUIT
from phantomband.core.link import Link
from phantomband.transports.base import WRITE_HIGH_WATER, Buffer, Connection

CIRCUIT_CAP = 4096
"""Cells of one circuit that may wait for one link: 8 MiB, twice the largest congestion window."""

LINK_QUEUE_CAP = 16_384
"""Cells of the link's own queue (circuit 0), which carries directory answers of up to 4 MiB each: 32 MiB."""

LINK_CAP = 32_768
"""Cells that may wait for one link: 64 MiB; over it the circuit with the longest queue is given up. It is never the
link's own queue as long as there is another: that would end the link, so a client could end one that others share."""

TURN_CELLS = 15
"""Most cells of one circuit sent in its turn: one full record."""

UNCHARGED_BYTES = WRITE_HIGH_WATER // 4
"""Of a connection's own buffer, 128 KiB: that much is no sign that the peer does not read. A gateway takes only so many
links that all of these together have room."""

WRITE_CELLS = 120
"""Cells sealed at once when a queue is drained: eight full records."""


class Egress:
    """The queue of one link that is not paced."""

    __slots__ = (
        "_charged", "_connection", "_hold", "_link", "_overflow", "_queues", "cells_sent", "given_up", "padding_sent",
        "waiting",
    )  # fmt: skip

    paced = False

    def __init__(
        self,
        link: Link,
        connection: Connection,
        overflow: Callable[[bytes], None],
        hold: Callable[[int], None] = lambda delta: None,
    ) -> None:
        """Args:

        overflow: told the id of a circuit whose queue was given up.
        hold: told how many bytes more, or fewer, wait.
        """
        self._link = link
        self._hold = hold
        self._charged = 0
        self._connection = connection
        self._overflow = overflow
        self._queues: OrderedDict[bytes, _Queue] = OrderedDict()
        self.waiting = 0
        self.cells_sent = 0
        self.padding_sent = 0
        """Of `cells_sent`, those that were no one's."""
        self.given_up = 0

    def take_over(self, before: Egress) -> None:
        """What waits in another queue of this link, which is not used any more, and what it counted."""
        before.stop()
        self._queues, self.waiting, self._charged = before._queues, before.waiting, before._charged
        self.cells_sent, self.padding_sent, self.given_up = before.cells_sent, before.padding_sent, before.given_up
        self.drain()

    def stop(self) -> None:
        """Nothing more is sent by itself."""

    @property
    def active(self) -> bool:
        """Whether something is sent even when nothing waits."""
        return False

    def carried(self) -> None:
        """A circuit's cell came over this link."""

    def add(self, cells: Buffer) -> None:
        """A batch of whole cells in their order."""
        if self.waiting or self._connection.congested:
            self._queue(bytes(cells))
            self.drain()
            return
        self.cells_sent += len(cells) // CELL_BYTES
        self._connection.write(self._link.seal(cells))
        if self._charged or self._connection.congested:
            self.settle()

    def drain(self) -> None:
        """Sends what waits, circuits in turn, until the connection is congested."""
        while self.waiting and not self._connection.congested:
            batch = b"".join(self._take(WRITE_CELLS))
            self.cells_sent += len(batch) // CELL_BYTES
            self._connection.write(self._link.seal(batch))
        self.settle()

    def settle(self) -> None:
        """Says what waits now, here and in the connection, if it is not what was said last."""
        held = self.waiting * CELL_BYTES + max(0, self._connection.buffered - UNCHARGED_BYTES)
        if held != self._charged:
            delta, self._charged = held - self._charged, held
            self._hold(delta)

    def forget(self) -> None:
        """The link is no more: what waits is dropped."""
        self.stop()
        self._queues.clear()
        self.waiting = 0
        if self._charged:
            self._hold(-self._charged)
            self._charged = 0

    def own_waiting(self) -> int:
        """Cells that wait in the link's own queue."""
        queue = self._queues.get(LINK_CIRCUIT)
        return queue.cells if queue is not None else 0

    def shed(self) -> bool:
        """Gives up the circuit with the longest queue; false when no circuit has one."""
        longest = self._longest()
        if longest is None:
            return False
        self._give_up(longest)
        self.settle()
        return True

    def _longest(self) -> bytes | None:
        circuits = (circuit for circuit in self._queues if circuit != LINK_CIRCUIT)
        return max(circuits, key=lambda c: self._queues[c].cells, default=None)

    def reset(self, cells: Buffer) -> None:
        """Every circuit of the link is dead: what waits for them is dropped, and `cells`, which say so, are sent."""
        for circuit in [c for c in self._queues if c != LINK_CIRCUIT]:
            self.waiting -= self._queues.pop(circuit).cells
        self.add(cells)

    def _queue(self, cells: bytes) -> None:
        """Cells of one circuit that stand together stay together, as one piece."""
        at, end = 0, len(cells)
        while at < end:
            start, circuit = at, cells[at : at + CIRCUIT_ID_BYTES]
            limit = min(end, start + TURN_CELLS * CELL_BYTES)
            at += CELL_BYTES
            while at < limit and cells[at : at + CIRCUIT_ID_BYTES] == circuit:
                at += CELL_BYTES
            self._append(circuit, cells[start:at])
        self.settle()

    def _append(self, circuit: bytes, piece: bytes) -> None:
        queue = self._queues.get(circuit)
        if queue is None:
            queue = self._queues[circuit] = _Queue()
        count = len(piece) // CELL_BYTES
        queue.pieces.append(piece)
        queue.cells += count
        self.waiting += count
        if queue.cells > (CIRCUIT_CAP if circuit != LINK_CIRCUIT else LINK_QUEUE_CAP):
            self._give_up(circuit)
        elif self.waiting > LINK_CAP:
            self._give_up(self._longest() or LINK_CIRCUIT)

    def _give_up(self, circuit: bytes) -> None:
        self.waiting -= self._queues.pop(circuit).cells
        self.given_up += 1
        self._overflow(circuit)

    def _take(self, room: int) -> list[bytes]:
        """About `room` cells: up to fifteen of each circuit in turn."""
        out: list[bytes] = []
        queues = self._queues
        taken = 0
        while queues and taken < room:
            circuit, queue = queues.popitem(last=False)
            turn = 0
            while queue.pieces and turn + len(queue.pieces[0]) // CELL_BYTES <= TURN_CELLS:
                out.append(queue.pieces.popleft())
                turn += len(out[-1]) // CELL_BYTES
            queue.cells -= turn
            taken += turn
            if queue.pieces:
                queues[circuit] = queue
        self.waiting -= taken
        return out


class _Queue:
    """What waits of one circuit."""

    __slots__ = ("cells", "pieces")

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.cells = 0
