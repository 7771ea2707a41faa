"""Timed batches: whatever came in during an interval leaves at its end, shuffled across circuits.

Hides which cell is which within a batch; does not hide flows: 50 ms and 200 ms batches link 100% of web-like flows to a
simple correlator (docs/explanation/anonymity.md). Overload: see queues.py.
"""

from __future__ import annotations

import math

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch
from phantomband.core.mixing.queues import QueuedMixing, by_link
from phantomband.core.mixing.shuffle import interleave


class TimedMixing(QueuedMixing[bytes]):
    """Batches of `interval` seconds, at most `max_cells` cells."""

    def __init__(self, interval: float, max_cells: int, random: RandomSource, phase: float = 0.0) -> None:
        """Args: phase: where in an interval its end is, from 0 to 1; drawn by a service, so that mixers whose clocks
        agree, such as those of one machine, do not release at the same moments.
        """
        super().__init__(max_cells, random)
        self._interval = interval
        self._phase = phase * interval
        self._due: float | None = None

    @property
    def deadline(self) -> float | None:
        return self._due

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        for circuit, run in self._runs(link, cells):
            self._queues.setdefault(circuit, []).extend(run)
            self.held += len(run)
            if self._due is None:
                self._due = self._phase + (math.floor((now - self._phase) / self._interval) + 1) * self._interval
            self._bound(circuit)

    def release(self, now: float) -> Batch:
        if self._due is None or now < self._due:
            return []
        queues, self._queues = self._queues, {}
        self._due, self.held = None, 0
        return by_link(interleave(queues, self._draw))

    def _removed(self, queues: list[list[bytes]]) -> None:
        if not self.held:
            self._due = None
