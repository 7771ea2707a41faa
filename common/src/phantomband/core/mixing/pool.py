"""Timed dynamic pool: each interval some of the cells leave, chosen at random, and a pool stays behind.

Sources: Cottrell's Mixmaster; Mixminion, 2003; Diaz and Serjantov, Generalising Mixes, 2003.

At the end of an interval with n cells held, a share f of those above the minimum m leaves: f (n - m) cells, rounded
up or down at random so that the mean is exact, every cell as likely as any other. Of each circuit its oldest go, so
that order is kept. With a arrivals an interval the pool settles at n = m + a / f before a tick, and a cell that
came just before one waits m / a + 1 / f - 1 further intervals on average (Little's law); the tail is geometric, so
an observer cannot say in which batch a cell left, only how likely each is.

A pool whose arrivals stop would keep m cells for ever, and circuits wait for their last cell: nothing is held for
longer than `max_wait`. Low load thus gives less than the formula says. Volumes of flows over many intervals stay
visible.

Overload: at `max_cells` the longest queues give up cells early (see queues.py); others wait on.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch
from phantomband.core.mixing.queues import CIRCUIT_BYTES, Circuit, by_link, excess, longest
from phantomband.core.mixing.shuffle import Draw, choose, interleave


class PoolMixing:
    """Each `interval` seconds a share `fraction` of what is held above `minimum` leaves."""

    passes = False

    def __init__(
        self, interval: float, minimum: int, fraction: float, max_wait: float, max_cells: int, random: RandomSource
    ) -> None:
        """Args: max_wait: seconds; minimum: cells, below `max_cells`; fraction: over 0, at most 1."""
        self._interval = interval
        self._minimum = minimum
        self._fraction = fraction
        self._max_wait = max_wait
        self._max_cells = max_cells
        self._draw = Draw(random)
        self._queues: dict[Circuit, deque[tuple[int, bytes]]] = {}
        self._came: OrderedDict[int, tuple[float, Circuit]] = OrderedDict()
        """When each held cell came, and its circuit, by its number; the oldest first."""
        self._next = 0
        self._tick: int | None = None
        """The next tick that is wanted: its time is so many intervals."""
        self._full: float | None = None
        self.early = 0
        """Cells that left early, at the bound."""

    @property
    def held(self) -> int:
        return len(self._came)

    @property
    def deadline(self) -> float | None:
        if not self._came:
            return None
        due = self._oldest + self._max_wait
        if self._tick is not None:
            due = min(due, self._tick * self._interval)
        return due if self._full is None else min(due, self._full)

    @property
    def _oldest(self) -> float:
        return next(iter(self._came.values()))[0]

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        for number, cell in enumerate(cells, self._next):
            circuit = (link, cell[:CIRCUIT_BYTES])
            self._queues.setdefault(circuit, deque()).append((number, cell))
            self._came[number] = (now, circuit)
        self._next += len(cells)
        if self._full is None and self.held >= self._max_cells:
            self._full = now
        self._set_tick(now)

    def release(self, now: float) -> Batch:
        if self.deadline is None or now < self.deadline:
            return []
        leaving = self._take(self._overdue(now))
        if spare := excess(self.held, self._max_cells):
            self.early += spare
            _join(leaving, self._take(longest(self._queues, spare, self._draw)))
        _join(leaving, self._take(self._chosen(now)))
        self._full = None
        self._set_tick(now)
        return by_link(interleave(leaving, self._draw))

    def _set_tick(self, now: float) -> None:
        """A tick is wanted only while more than the minimum is held; ticks are multiples of the interval."""
        if self.held <= self._minimum:
            self._tick = None
        elif self._tick is None:
            self._tick = math.floor(now / self._interval) + 1

    def _overdue(self, now: float) -> dict[Circuit, int]:
        """How many cells of each circuit have waited for `max_wait`."""
        counts: dict[Circuit, int] = {}
        for came, circuit in self._came.values():
            if now < came + self._max_wait:
                break
            counts[circuit] = counts.get(circuit, 0) + 1
        return counts

    def _chosen(self, now: float) -> dict[Circuit, int]:
        """Cells that the ticks up to `now` let go."""
        left = self.held
        while self._tick is not None and self._tick * self._interval <= now:
            left -= self._draw.rounded(self._fraction * max(0, left - self._minimum))
            self._tick = self._tick + 1 if left > self._minimum else None
        return choose({circuit: len(queue) for circuit, queue in self._queues.items()}, self.held - left, self._draw)

    def _take(self, counts: dict[Circuit, int]) -> dict[Circuit, list[bytes]]:
        taken: dict[Circuit, list[bytes]] = {}
        for circuit, count in counts.items():
            queue = self._queues[circuit]
            cells = taken[circuit] = []
            for _ in range(count):
                number, cell = queue.popleft()
                del self._came[number]
                cells.append(cell)
            if not queue:
                del self._queues[circuit]
        return taken


def _join(first: dict[Circuit, list[bytes]], then: dict[Circuit, list[bytes]]) -> None:
    for circuit, cells in then.items():
        first.setdefault(circuit, []).extend(cells)
