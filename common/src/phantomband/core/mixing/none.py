"""No mixing: cells go at once. The control in every measurement, and the profile `fast`."""

from __future__ import annotations

from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit


class NoMixing:
    """Releases everything at the next opportunity, and drops nothing: what it holds came since the last one."""

    passes = True
    dropped_cells = 0

    def __init__(self) -> None:
        self._held: Batch = []
        self.held = 0
        self._due: float | None = None

    @property
    def deadline(self) -> float | None:
        return self._due

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        self._held.append((link, cells))
        self.held += len(cells)
        self._due = now

    def release(self, now: float) -> Batch:
        out, self._held = self._held, []
        self.held, self._due = 0, None
        return out

    def take_dropped(self) -> list[Circuit]:
        return []

    def drop_link(self, link: LinkId) -> None:
        self._held = [(at, cells) for at, cells in self._held if at != link]
        self.held = sum(len(cells) for _, cells in self._held)
        if not self._held:
            self._due = None
