"""Whose clock is off: what the votes of the other directories say of theirs, and so of ours.

A vote is sent at once when it is signed and says the time of its directory. So that time less ours at its arrival is
the difference of both clocks, less the seconds that it took on the way. If most others differ alike, it is ours that
is off.
"""

from __future__ import annotations

from dataclasses import dataclass

from phantomband.core.netdir.certified import CLOCK_SKEW_SECONDS
from phantomband.core.netdir.genesis import Genesis

MAX_AGE_SECONDS = 3 * 86400.0
"""What is older says nothing any more."""


@dataclass(frozen=True, slots=True)
class Offset:
    """What one directory's clock said, less what ours did, and when by ours."""

    seconds: float
    at: float


class ClockWatch:
    """Remembers one offset of each directory of a set."""

    def __init__(self, genesis: Genesis, own: int) -> None:
        self._genesis, self._own = genesis, own
        self._offsets: dict[int, Offset] = {}
        length = genesis.clock.epoch_seconds
        self.bound = min(float(CLOCK_SKEW_SECONDS), max(2.0, length / 8))
        """Seconds that a clock may be off: with more, ballots come in the wrong part of an epoch."""

    def note(self, directory: int, their_time: float, now: float) -> None:
        """A signed message of `directory` arrived just after it was signed."""
        if directory != self._own:
            self._offsets[directory] = Offset(their_time - now, now)

    def trouble(self, now: float) -> str:
        """Which clock is off, by how much and what to do; empty when none is known to be."""
        recent = {i: o.seconds for i, o in self._offsets.items() if now - o.at < MAX_AGE_SECONDS}
        off = {i: seconds for i, seconds in recent.items() if abs(seconds) > self.bound}
        if not off:
            return ""
        ahead, behind = (sorted(s for s in off.values() if (s > 0) is positive) for positive in (True, False))
        for alike, word in ((ahead, "behind"), (behind, "ahead")):
            if 2 * len(alike) > len(recent) and len(recent) > 1:
                by = abs(alike[len(alike) // 2])
                return f"this machine's clock is about {by:.0f} s {word} those of most directories: set it"
        names = ", ".join(f"{self._genesis.directories[i].nickname} ({seconds:+.0f} s)" for i, seconds in off.items())
        return f"clocks of other directories are off by ours: {names}. Tell their operators"
