"""What waits for the gateway: while its lane is not up yet, or has enough to do.

A strategy may release more at once than a lane takes (64 MiB, then it is broken off). The lane gets frames up to its
high water, the others wait here, in order. While something waits the mixer releases nothing more, so the strategy's
bound and its drop rule hold for what comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from phantomband.runtime.lane.base import HIGH_WATER, Buffer, LaneSender


class Output:
    """Frames on their way to the gateway."""

    def __init__(self, lane: LaneSender, max_cells: int) -> None:
        """Args: max_cells: that wait at most: more than are ever released at once."""
        self._lane = lane
        self._max_cells = max_cells
        self._waiting: deque[tuple[int, Sequence[Buffer], int]] = deque()
        self.cells = 0
        """Cells that wait."""
        self.lost = 0

    @property
    def busy(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiting)

    def send(self, kind: int, parts: Sequence[Buffer], cells: int = 0) -> None:
        """One frame with so many cells.

        Over the bound it is lost and counted. If the lane is up its receiver is stuck: the lane then gets all that
        waits, which breaks it off, so that every circuit of the node ends and nobody waits for what was lost.
        """
        if self.cells + cells > self._max_cells:
            self.lost += cells
            while self._waiting and self._lane.up:
                self._first()
            return
        self._waiting.append((kind, parts, cells))
        self.cells += cells
        self.drain()

    def drain(self) -> None:
        """Hands the lane what it takes without being congested."""
        while self._waiting and self._lane.up and self._lane.buffered <= HIGH_WATER:
            self._first()

    def clear(self) -> None:
        """What waits is worthless."""
        self._waiting.clear()
        self.cells = 0

    def _first(self) -> None:
        kind, parts, cells = self._waiting.popleft()
        self.cells -= cells
        if not self._lane.send(kind, parts):
            self.lost += cells
