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

Overload: see queues.py.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit
from phantomband.core.mixing.queues import QueuedMixing, by_link
from phantomband.core.mixing.shuffle import choose, interleave

Numbered = tuple[int, bytes]
"""A cell with its number."""


class PoolMixing(QueuedMixing[Numbered]):
    """Each `interval` seconds a share `fraction` of what is held above `minimum` leaves."""

    def __init__(
        self, interval: float, minimum: int, fraction: float, max_wait: float, max_cells: int, random: RandomSource
    ) -> None:
        """Args: max_wait: seconds; minimum: cells, below `max_cells`; fraction: over 0, at most 1."""
        super().__init__(max_cells, random)
        self._interval = interval
        self._minimum = minimum
        self._fraction = fraction
        self._max_wait = max_wait
        self._came: OrderedDict[int, tuple[float, Circuit]] = OrderedDict()
        """When each held cell came, and its circuit, by its number; the oldest first."""
        self._next = 0
        self._tick: int | None = None
        """The next tick that is wanted: its time is so many intervals."""

    @property
    def deadline(self) -> float | None:
        if not self._came:
            return None
        due = self._oldest + self._max_wait
        if self._tick is not None:
            due = min(due, self._tick * self._interval)
        return due

    @property
    def _oldest(self) -> float:
        return next(iter(self._came.values()))[0]

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        for circuit, run in self._runs(link, cells):
            numbered = list(enumerate(run, self._next))
            self._next += len(run)
            self._queues.setdefault(circuit, []).extend(numbered)
            self._came.update((number, (now, circuit)) for number, _ in numbered)
            self.held += len(run)
            self._bound(circuit)
        self._set_tick(now)

    def release(self, now: float) -> Batch:
        if self.deadline is None or now < self.deadline:
            return []
        leaving = self._take(self._overdue(now))
        for circuit, cells in self._take(self._chosen(now)).items():
            leaving.setdefault(circuit, []).extend(cells)
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
            leaving = queue[:count]
            del queue[:count]
            for number, _ in leaving:
                del self._came[number]
            self.held -= count
            taken[circuit] = [cell for _, cell in leaving]
            if not queue:
                del self._queues[circuit]
        return taken

    def _removed(self, queues: list[list[Numbered]]) -> None:
        for queue in queues:
            for number, _ in queue:
                del self._came[number]
        if self.held <= self._minimum:
            self._tick = None
