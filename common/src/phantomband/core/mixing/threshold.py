"""Threshold batches: `count` cells at a time leave, shuffled across circuits.

Sources: Chaum, 1981; Serjantov, Dingledine and Syverson, From a Trickle to a Flood, 2002.

A cell hides among the `count` - 1 others of its batch, whatever the load; the price is that waiting depends on the
load: on average (`count` - 1) / 2 cells' time. At low load that would be for ever, so all that is held leaves
`max_wait` after the oldest cell came, however few: then a cell hides among fewer. Whoever sends `count` - 1 cells
of their own picks one out (n-1), and one who sends none and waits sees lone cells leave. Volumes of flows over
several batches stay visible.

Overload: batches leave at `count`. Where nobody takes them (a gateway that is held up), the bound of queues.py holds.
"""

from __future__ import annotations

from phantomband.core.cell import CIRCUIT_ID_BYTES
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit
from phantomband.core.mixing.queues import by_link, excess, longest
from phantomband.core.mixing.shuffle import Draw, interleave


class ThresholdMixing:
    """Batches of `count` cells; nothing is held for longer than `max_wait` seconds."""

    passes = False

    def __init__(self, count: int, max_wait: float, random: RandomSource, max_cells: int = 65_536) -> None:
        """Args: max_cells: more than `count`."""
        self._count = count
        self._max_cells = max_cells
        self._max_wait = max_wait
        self._draw = Draw(random)
        self._held: list[tuple[float, Circuit, bytes]] = []
        self._due: float | None = None
        self._dropped: dict[Circuit, None] = {}
        self.dropped_cells = 0
        self.timeouts = 0
        """Times that `max_wait` sent fewer than `count` cells."""

    @property
    def deadline(self) -> float | None:
        return self._due

    @property
    def held(self) -> int:
        return len(self._held)

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        before = len(self._held) + len(cells)
        arrived = [(now, (link, cell[:CIRCUIT_ID_BYTES]), cell) for cell in cells]
        self._held += [held for held in arrived if held[1] not in self._dropped]
        self.dropped_cells += before - len(self._held)
        if len(self._held) > self._max_cells:
            self._drop()
        if self._held and self._due is None:
            self._due = now + self._max_wait
        if self._due is not None and len(self._held) >= self._count:
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

    def take_dropped(self) -> list[Circuit]:
        out, self._dropped = self._dropped, {}
        return list(out)

    def drop_link(self, link: LinkId) -> None:
        self._keep([held for held in self._held if held[1][0] != link])

    def _drop(self) -> None:
        queues: dict[Circuit, list[bytes]] = {}
        for _, circuit, cell in self._held:
            queues.setdefault(circuit, []).append(cell)
        self._dropped.update(dict.fromkeys(longest(queues, excess(self.held, self._max_cells), self._draw)))
        before = self.held
        self._keep([held for held in self._held if held[1] not in self._dropped])
        self.dropped_cells += before - self.held

    def _keep(self, held: list[tuple[float, Circuit, bytes]]) -> None:
        self._held = held
        if not held:
            self._due = None
        elif len(held) < self._count:
            self._due = held[0][0] + self._max_wait

    def _shuffled(self, cells: list[tuple[float, Circuit, bytes]]) -> list[tuple[Circuit, bytes]]:
        queues: dict[Circuit, list[bytes]] = {}
        for _, circuit, cell in cells:
            queues.setdefault(circuit, []).append(cell)
        return interleave(queues, self._draw)
