"""How a total of cells a second is shared between those who ask for a fixed rate that costs whether they use it or not.

    source      at most a quarter of the total: a network that clients come from, or a relay
    reserve     the last quarter is for who asks for little (64 cells/s): of it a source has at most a sixteenth

So neither one client with many circuits nor a few that ask for much leave nothing to who asks for little.
"""

from __future__ import annotations

from collections.abc import Hashable

SOURCE_SHARE = 4
RESERVE_SHARE = 4
"""One part in so many of the total."""

RESERVE_SOURCE_SHARE = 16
"""One part in so many of the reserve."""

LITTLE = 64
"""Cells a second: four times what the profile `strong` asks of an exit."""


class RateShares:
    """Who has how much of `total` cells a second."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._reserve = total // RESERVE_SHARE
        self._reserved = 0
        self._sources: dict[Hashable, tuple[int, int]] = {}
        """(of the common part, of the reserve)."""
        self._held: dict[Hashable, tuple[Hashable, int, int]] = {}
        """By holder: its source, and what it has of the common part and of the reserve."""

    @property
    def given(self) -> int:
        """Cells a second that holders have together."""
        return self.used + self._reserved

    def take(self, holder: Hashable, source: Hashable, rate: int) -> bool:
        """Gives `holder` so much in place of what it has; false, and it has none, where there is no room."""
        self.give_back(holder)
        if rate <= 0:
            return False
        common, reserved = self._sources.get(source, (0, 0))
        if common + rate <= self.total // SOURCE_SHARE and self.used + rate <= self.total - self._reserve:
            self._has(holder, source, rate, 0)
            return True
        most = max(LITTLE, self._reserve // RESERVE_SOURCE_SHARE)
        if rate <= LITTLE and reserved + rate <= most and self._reserved + rate <= self._reserve:
            self._has(holder, source, 0, rate)
            return True
        return False

    def give_back(self, holder: Hashable) -> None:
        """A holder that has nothing, or is gone."""
        held = self._held.get(holder)
        if held is not None:
            source, common, reserved = held
            self._has(holder, source, -common, -reserved)

    def _has(self, holder: Hashable, source: Hashable, common: int, reserved: int) -> None:
        self.used += common
        self._reserved += reserved
        before = self._sources.get(source, (0, 0))
        now = before[0] + common, before[1] + reserved
        if now == (0, 0):
            self._sources.pop(source, None)
        else:
            self._sources[source] = now
        if common < 0 or reserved < 0:
            del self._held[holder]
        else:
            self._held[holder] = source, common, reserved
