"""Whose clock is off: what the votes of the other directories say of theirs, and so of ours.

A vote is sent at once when it is signed and says the time of its directory. So that time less ours at its arrival is
the difference of both clocks, less the seconds that it took on the way. If most others differ alike, it is ours that
is off.

A clock that is set, or jumps, is not voted by until others agree or it has stayed so: a vote is signed once an epoch,
and one for an epoch that has not come is wasted on it.
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
        self.patience = float(length)
        """Seconds after which a clock that jumped, and that nobody contradicts, is believed again."""
        self._shift, self._shifted_at = 0.0, float("-inf")
        """How far ours has jumped since it was last believed, and when it last did."""

    def note(self, directory: int, their_time: float, now: float) -> None:
        """A signed message of `directory` arrived just after it was signed."""
        if directory != self._own:
            self._offsets[directory] = Offset(their_time - now, now)

    def jumped(self, seconds: float, now: float) -> None:
        """Our clock was set: at `now`, by itself, it shows `seconds` more than it would have.

        What was heard before says nothing any more: after a suspend everybody's clock is ahead of where ours stood.
        A jump that undoes the one before leaves nothing to doubt.
        """
        if not self._doubts_jump(now - seconds):
            self._shift = 0.0
        self._offsets.clear()
        self._shift, self._shifted_at = self._shift + seconds, now

    def own_error(self, now: float, age: float = MAX_AGE_SECONDS) -> float:
        """Seconds that most others' clocks are ahead of ours, if it is ours that is off; else 0."""
        recent = self._recent(now, age)
        for positive in (True, False):
            alike = sorted(s for s in recent.values() if abs(s) > self.bound and (s > 0) is positive)
            if 2 * len(alike) > len(recent) and len(recent) > 1:
                return alike[len(alike) // 2]
        return 0.0

    def own_trouble(self, now: float) -> str:
        """By how much this machine's clock is off, by those of most others; empty when it is not known to be."""
        error = self.own_error(now)
        return _off(error) if error else ""

    def doubt(self, now: float) -> str:
        """Why this machine's clock is not to be voted by; empty when it is.

        Only what was heard in the last two epochs counts: if all directories once heard all others late, they must not
        wait for each other for good.
        """
        if error := self.own_error(now, 2 * self.patience):
            return _off(error)
        if self._doubts_jump(now):
            word = "ahead" if self._shift > 0 else "back"
            return (
                f"this machine's clock jumped {abs(self._shift):.0f} s {word}: no vote until others agree, or it has "
                f"stayed so for {self.patience:.0f} s"
            )
        return ""

    def trouble(self, now: float) -> str:
        """Which clock is off, by how much and what to do; empty when none is known to be."""
        if own := self.own_trouble(now) or self.doubt(now):
            return own
        off = {i: seconds for i, seconds in self._recent(now).items() if abs(seconds) > self.bound}
        if not off:
            return ""
        names = ", ".join(f"{self._genesis.directories[i].nickname} ({seconds:+.0f} s)" for i, seconds in off.items())
        return f"clocks of other directories are off by ours: {names}. Tell their operators"

    def _recent(self, now: float, age: float = MAX_AGE_SECONDS) -> dict[int, float]:
        return {i: o.seconds for i, o in self._offsets.items() if abs(now - o.at) < age}

    def _doubts_jump(self, now: float) -> bool:
        if abs(self._shift) <= self.bound or not self._shifted_at <= now < self._shifted_at + self.patience:
            return False
        agree = sum(o.at >= self._shifted_at and abs(o.seconds) <= self.bound for o in self._offsets.values())
        return 2 * agree < max(1, self._genesis.size - 1)


def _off(error: float) -> str:
    word = "behind" if error > 0 else "ahead of"
    return f"this machine's clock is about {abs(error):.0f} s {word} those of most directories: set it"
