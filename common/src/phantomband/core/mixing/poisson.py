"""Exponential delays: each cell is given one of its own, independent of all others.

Sources: Kesdogan, Egner and Bueschkes, Stop-and-Go-MIXes, 1998; Loopix, 2017.

**This is Loopix for single cells only.** Circuits need their order, so a cell leaves when its own delay and those
of all cells before it in its circuit are over: release times are a running maximum. For a circuit that sends one
cell in many mean delays that changes nothing: its delays are Exp(mean), and the memoryless property holds. For a
flow it does: n cells that come together leave the first after Exp(mean), the last after mean (1 + 1/2 + ... + 1/n)
on average, and in bursts, each as long as a slow cell held the ones behind it up. Delay then depends on the flow's
own rate and says so to who sees both sides. Flows need rates that do not depend on payload instead (`slots`, link
padding); DESIGN.md section 5.

Ties and late releases leave in the order of release times. Overload: see queues.py.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit
from phantomband.core.mixing.queues import QueuedMixing, by_link

Timed = tuple[float, bytes]
"""A cell with its release time, seconds."""


class PoissonMixing(QueuedMixing[Timed]):
    """Delays of `mean` seconds on average, at most `max_cells` cells.

    Release times of a circuit do not fall, so its order is kept, and only the first of each circuit is in the heap.
    """

    def __init__(self, mean: float, max_cells: int, random: RandomSource) -> None:
        super().__init__(max_cells, random)
        self._mean = mean
        self._heap: list[tuple[float, Circuit]] = []
        """The first release time of each circuit that has cells."""

    @property
    def deadline(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        for circuit, run in self._runs(link, cells):
            queue = self._queues.get(circuit)
            due = now if queue is None else queue[-1][0]
            timed = []
            for cell in run:
                due = max(due, now + self._draw.exponential(self._mean))
                timed.append((due, cell))
            if queue is None:
                self._queues[circuit] = timed
                heappush(self._heap, (timed[0][0], circuit))
            else:
                queue += timed
            self.held += len(run)
            self._bound(circuit)

    def release(self, now: float) -> Batch:
        out: list[tuple[Circuit, bytes]] = []
        heap, queues = self._heap, self._queues
        while heap and heap[0][0] <= now:
            due, circuit = heap[0]
            queue = queues[circuit]
            while queue and queue[0][0] == due:  # those that a slow cell held up leave with it
                out.append((circuit, queue.pop(0)[1]))
            if queue:
                heapreplace(heap, (queue[0][0], circuit))
            else:
                heappop(heap)
                del queues[circuit]
        self.held -= len(out)
        return by_link(out)

    def _removed(self, queues: list[list[Timed]]) -> None:
        self._heap = [(queue[0][0], circuit) for circuit, queue in self._queues.items()]
        heapify(self._heap)
