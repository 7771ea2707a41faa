"""Threshold batches: `count` cells at a time leave, shuffled across circuits.

Sources: Chaum, 1981; Serjantov, Dingledine and Syverson, From a Trickle to a Flood, 2002.

A cell hides among the `count` - 1 others of its batch, whatever the load; the price is that waiting depends on the
load: on average (`count` - 1) / 2 cells' time. At low load that would be for ever, so all that is held leaves
`max_wait` after the oldest cell came, however few: then a cell hides among fewer. Whoever sends `count` - 1 cells
of their own picks one out (n-1), and one who sends none and waits sees lone cells leave. Volumes of flows over
several batches stay visible.

Overload: batches leave at `count`, so no more than that and one delivery are ever held.
"""

from __future__ import annotations

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch
from phantomband.core.mixing.queues import CIRCUIT_BYTES, Circuit, by_link
from phantomband.core.mixing.shuffle import Draw, interleave


class ThresholdMixing:
    """Batches of `count` cells; nothing is held for longer than `max_wait` seconds."""

    passes = False

    def __init__(self, count: int, max_wait: float, random: RandomSource) -> None:
        self._count = count
        self._max_wait = max_wait
        self._draw = Draw(random)
        self._held: list[tuple[float, Circuit, bytes]] = []
        self._due: float | None = None
        self.timeouts = 0
        """Times that `max_wait` sent fewer than `count` cells."""

    @property
    def deadline(self) -> float | None:
        return self._due

    @property
    def held(self) -> int:
        return len(self._held)

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        if self._due is None:
            self._due = now + self._max_wait
        self._held += [(now, (link, cell[:CIRCUIT_BYTES]), cell) for cell in cells]
        if len(self._held) >= self._count:
            self._due = min(now, self._due)

    def release(self, now: float) -> Batch:
        if self._due is None or now < self._due:
            return []
        whole = len(self._held) // self._count * self._count
        out: list[tuple[Circuit, bytes]] = []
        for at in range(0, whole, self._count):
            out += self._shuffled(self._held[at : at + self._count])
        del self._held[:whole]
        if self._held and now >= self._held[0][0] + self._max_wait:
            out += self._shuffled(self._held)
            self._held = []
            self.timeouts += 1
        self._due = self._held[0][0] + self._max_wait if self._held else None
        return by_link(out)

    def _shuffled(self, cells: list[tuple[float, Circuit, bytes]]) -> list[tuple[Circuit, bytes]]:
        queues: dict[Circuit, list[bytes]] = {}
        for _, circuit, cell in cells:
            queues.setdefault(circuit, []).append(cell)
        return interleave(queues, self._draw)
