"""Timed batches: whatever came in during an interval leaves at its end, shuffled across circuits.

Hides which cell is which within a batch; does not hide flows: 50 ms and 200 ms batches link 100% of web-like flows to a
simple correlator (DESIGN.md section 5). Overload: beyond `max_cells` the batch leaves early, so memory is bounded
and nothing is lost.
"""

from __future__ import annotations

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch
from phantomband.core.mixing.queues import CIRCUIT_BYTES, Circuit, by_link
from phantomband.core.mixing.shuffle import Draw, interleave


class TimedMixing:
    """Batches of `interval` seconds, at most `max_cells` cells."""

    passes = False

    def __init__(self, interval: float, max_cells: int, random: RandomSource) -> None:
        self._interval = interval
        self._max_cells = max_cells
        self._draw = Draw(random)
        self._queues: dict[Circuit, list[bytes]] = {}
        self._due: float | None = None
        self.held = 0
        self.early = 0

    @property
    def deadline(self) -> float | None:
        return self._due

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        if self._due is None:
            self._due = (now // self._interval + 1) * self._interval
        for cell in cells:
            self._queues.setdefault((link, cell[:CIRCUIT_BYTES]), []).append(cell)
        self.held += len(cells)
        if self.held >= self._max_cells:
            self._due = now
            self.early += 1

    def release(self, now: float) -> Batch:
        if self._due is None or now < self._due:
            return []
        queues, self._queues = self._queues, {}
        self._due, self.held = None, 0
        return by_link(interleave(queues, self._draw))
