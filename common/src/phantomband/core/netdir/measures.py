"""What loops say of relays: how many came back in time, and how long they took.

A loop that is late or lost counts against every relay that it passed. One that is often among them in vain stands out,
because the others are also in loops without it (Danezis, Sassaman 2003; Loopix, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from phantomband.core.ids import NodeId

MAX_NODES = 20_000
"""Relays of which something is remembered; the one measured first is forgotten first."""

NEWEST_SHARE = 0.1
"""Weight of the newest delay in the smoothed one."""


PRIOR = 20.0
"""Loops that are thought to have come back before any was sent, so that few bad ones say little."""

FADE_SECONDS = 3600.0
"""What is so old counts half."""


@dataclass(slots=True)
class Measure:
    """Of one relay, as one hop among those that a loop passed: a fault of any of them counts for all."""

    returned: float = 0.0
    lost: float = 0.0
    delay: float = 0.0
    """Smoothed seconds of a loop that passed it."""

    @property
    def quality(self) -> float:
        """Share of loops that came back, from 0 to 1; near 1 while there are few."""
        return (self.returned + PRIOR) / (self.returned + self.lost + PRIOR)


class Measures:
    """Of all relays."""

    def __init__(self) -> None:
        self.by_node: dict[NodeId, Measure] = {}
        self.returned = self.lost = 0

    def loop_returned(self, path: Iterable[NodeId], seconds: float) -> None:
        """A loop came back that passed these relays."""
        self.returned += 1
        for node in path:
            measure = self._of(node)
            measure.returned += 1
            measure.delay += (seconds - measure.delay) * (NEWEST_SHARE if measure.returned > 1 else 1.0)

    def loops_lost(self, path: Iterable[NodeId], count: int) -> None:
        """A circuit through these relays died while so many loops were out."""
        self.lost += count
        for node in path:
            self._of(node).lost += count

    def quality(self, node: NodeId) -> float:
        """Of one relay, from 0 to 1; 1 where nothing was measured."""
        found = self.by_node.get(node)
        return found.quality if found is not None else 1.0

    def add(self, node: NodeId, returned: int, lost: int, delay: float) -> None:
        """What somebody else measured since they last said it."""
        measure = self._of(node)
        measure.returned += returned
        measure.lost += lost
        if returned:
            measure.delay += (delay - measure.delay) * (NEWEST_SHARE if measure.delay else 1.0)

    def fade(self, seconds: float) -> None:
        """So much time has passed: what was measured counts less."""
        share = 0.5 ** (seconds / FADE_SECONDS)
        for measure in self.by_node.values():
            measure.returned *= share
            measure.lost *= share

    def take(self) -> dict[NodeId, Measure]:
        """What was measured since the last time, by relay; forgotten here."""
        taken, self.by_node = self.by_node, {}
        return taken

    def _of(self, node: NodeId) -> Measure:
        found = self.by_node.get(node)
        if found is None:
            if len(self.by_node) >= MAX_NODES:
                del self.by_node[next(iter(self.by_node))]
            found = self.by_node[node] = Measure()
        return found
