"""What `poisson` and `slots` share: each cell gets the time of its release when it comes.

Release times of a circuit do not fall, so its order is kept, and only the first of each circuit stands in the heap.
At the bound the longest queues give up their oldest cells early (see queues.py); the cells behind them move up to
the release times that this leaves free, so that the circuit's rhythm goes on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from heapq import heapify, heappop, heappush, heapreplace

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch
from phantomband.core.mixing.queues import CIRCUIT_BYTES, Circuit, by_link, excess, longest
from phantomband.core.mixing.shuffle import Draw, interleave


class ScheduledMixing(ABC):
    """Cells with release times of their own, at most `max_cells` of them."""

    passes = False

    def __init__(self, max_cells: int, random: RandomSource) -> None:
        self._max_cells = max_cells
        self._draw = Draw(random)
        self._cells: dict[Circuit, deque[bytes]] = {}
        self._dues: dict[Circuit, deque[float]] = {}
        """Release times, seconds, as many as there are cells."""
        self._heap: list[tuple[float, Circuit]] = []
        """The first release time of each circuit that has cells."""
        self._full: float | None = None
        self.held = 0
        self.early = 0
        """Cells that left early, at the bound."""

    @abstractmethod
    def _due(self, circuit: Circuit, now: float, last: float | None) -> float:
        """When a cell that comes at `now` leaves, at `last` or later; None: nothing of its circuit waits."""

    @property
    def deadline(self) -> float | None:
        if not self._heap:
            return None
        due = self._heap[0][0]
        return due if self._full is None else min(due, self._full)

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        for cell in cells:
            circuit = (link, cell[:CIRCUIT_BYTES])
            dues = self._dues.get(circuit)
            if dues is None:
                due = self._due(circuit, now, None)
                self._cells[circuit], self._dues[circuit] = deque((cell,)), deque((due,))
                heappush(self._heap, (due, circuit))
            else:
                self._cells[circuit].append(cell)
                dues.append(self._due(circuit, now, dues[-1]))
        self.held += len(cells)
        if self._full is None and self.held >= self._max_cells:
            self._full = now

    def release(self, now: float) -> Batch:
        if self.deadline is None or now < self.deadline:
            return []
        out: list[tuple[Circuit, bytes]] = []
        while self._heap and self._heap[0][0] <= now:
            circuit = self._heap[0][1]
            out.append((circuit, self._cells[circuit].popleft()))
            self._dues[circuit].popleft()
            self._next(circuit)
        self.held -= len(out)
        if spare := excess(self.held, self._max_cells):
            out += self._cut(spare)
        self._full = None
        return by_link(out)

    def _next(self, circuit: Circuit) -> None:
        """Puts the circuit's next release time into the place of its last, the heap's first."""
        if dues := self._dues[circuit]:
            heapreplace(self._heap, (dues[0], circuit))
        else:
            heappop(self._heap)
            del self._cells[circuit], self._dues[circuit]

    def _cut(self, spare: int) -> list[tuple[Circuit, bytes]]:
        """Takes the oldest cells and the latest release times of the longest queues."""
        taken: dict[Circuit, list[bytes]] = {}
        for circuit, count in longest(self._cells, spare, self._draw).items():
            cells, dues = self._cells[circuit], self._dues[circuit]
            taken[circuit] = [cells.popleft() for _ in range(count)]
            for _ in range(count):
                dues.pop()
            if not cells:
                del self._cells[circuit], self._dues[circuit]
        self._heap = [(dues[0], circuit) for circuit, dues in self._dues.items()]
        heapify(self._heap)
        self.held -= spare
        self.early += spare
        return interleave(taken, self._draw)
