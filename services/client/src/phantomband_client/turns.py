"""When circuits are built ahead, and when they end.

The guard sees every CREATE and DESTROY, whatever the link's padding hides. With a profile whose circuits are paced it
must not learn from them when a user does something. There circuits come and go by a plan of their own:

- all that the profile lets be there are built ahead, each a random time after there was room for it; a stream takes
  one that is there, or waits for it like nobody else did;
- each ends at a time that is drawn when it is built, used or not; if streams are open then, at a later look;
- one that takes no more streams for another reason ends at a random time too.

What still shows, and happens rarely: a third user at once, a target that no circuit's exit allows, an exit without
room, `newnym`, and that a circuit outlives its time because a stream is open for long.
"""

from __future__ import annotations

from collections.abc import Iterable

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.profiles import Profile

from phantomband_client.managed import Managed

IDLE_SECONDS = 120.0
"""A used circuit without streams is closed after so long, where circuits are not paced."""

AHEAD_SECONDS = 3.0
"""A circuit is built ahead within this time after there was room for it."""

LEAST_TURN = 0.5
"""A paced circuit lives for at least this share of `circuit_lifetime`, at most for all of it."""

LINGER_SECONDS = 60.0
"""A paced circuit whose time has come while streams are open is looked at again within this time."""

MOST_TURNS = 2.0
"""After so many times `circuit_lifetime` a paced circuit takes no new streams, though some have always been open."""

HANDOVER_SECONDS = 60.0
"""A paced circuit makes room for another user's once it has not been used for so long."""


class Turns:
    """The plan of one pool.

    Args:
        ready: circuits to keep ahead; 0: none, and so none of this holds for paced ones either.
        lifetime: seconds, `circuit_lifetime`.
    """

    def __init__(self, profile: Profile, ready: int, lifetime: float, random: RandomSource) -> None:
        self._most = profile.max_circuits
        self._paced = bool(profile.pace)
        self._ready = min(ready, max(1, self._most - 1))
        self._lifetime, self._random = lifetime, random

    @property
    def planned(self) -> bool:
        """Whether circuits come and go by the plan, whatever users do."""
        return self._paced and self._ready > 0

    def lacking(self, circuits: Iterable[Managed]) -> bool:
        """Whether one is to be built ahead. Nothing that is used ever goes to make room for one."""
        held = list(circuits)
        if len(held) >= self._most:
            return False
        return self.planned or sum(m.isolation is None and not m.retired for m in held) < self._ready

    def ahead(self, circuits: Iterable[Managed]) -> float:
        """Seconds to wait before building it, so that building one does not tell that another was taken.

        The first of all is built at once: there is none that could have been taken.
        """
        return self._within(AHEAD_SECONDS) if any(True for _ in circuits) else 0.0

    def born(self, managed: Managed) -> None:
        """Draws how long a new circuit lives."""
        if self.planned:
            least = LEAST_TURN * self._lifetime
            managed.ends = managed.started + least + self._within(self._lifetime - least)

    def fresh(self, managed: Managed, now: float) -> bool:
        """Whether it takes new streams."""
        if managed.retired:
            return False
        if managed.ends is not None:
            return now - managed.started < MOST_TURNS * self._lifetime
        return managed.first_used is None or now - managed.first_used < self._lifetime

    def over(self, managed: Managed, now: float) -> bool:
        """Whether an open circuit is to be destroyed now."""
        if managed.ends is None:
            idle = managed.isolation is not None and now - managed.last_used > IDLE_SECONDS
            return not managed.streams and (idle or not self.fresh(managed, now))
        if now < managed.ends:
            return False
        if managed.streams:
            managed.ends = now + self._within(LINGER_SECONDS)
            return False
        return True

    def retire(self, managed: Managed, now: float, *, soon: bool = False) -> None:
        """No new streams for this circuit. Args: soon: whether it may show when it is not needed any more."""
        managed.retired = True
        if managed.ends is not None:
            managed.ends = min(managed.ends, now if soon else now + self._within(LINGER_SECONDS))

    def yielding(self, circuits: Iterable[Managed], now: float) -> Managed | None:
        """The one that is destroyed to make room for a circuit that a stream waits for; None: all are in use."""
        idle = [m for m in circuits if m.open and not m.streams]
        if self.planned:
            idle = [
                m for m in idle
                if m.isolation is None or not self.fresh(m, now) or now - m.last_used >= HANDOVER_SECONDS
            ]  # fmt: skip
        return min(idle, key=lambda m: (self.fresh(m, now), m.isolation is not None, m.last_used), default=None)

    def _within(self, seconds: float) -> float:
        return seconds * int.from_bytes(self._random(4), "big") / 2**32
