"""Decisions out of bytes: how the fuzz targets that drive a state machine read their input.

The same bytes are the same run, so a target needs nothing but itself to be run again. What is not there any more reads
as zeros, and `more` says when to stop: cutting an input short is a shorter run, which is what makes inputs small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Decisions:
    """Reads one input from its beginning."""

    def __init__(self, data: bytes, steps: int = 200) -> None:
        """Args: steps: how often `more` says so at most: a bound on one run's time."""
        self._data, self._at, self._steps = data, 0, steps

    @property
    def more(self) -> bool:
        """Whether there is anything left to decide. Ask it once for each step."""
        self._steps -= 1
        return self._steps >= 0 and self._at < len(self._data)

    def byte(self) -> int:
        at = self._at
        self._at += 1
        return self._data[at] if at < len(self._data) else 0

    def below(self, bound: int) -> int:
        """A number from 0 to `bound` - 1, of one byte, or of three where one is not enough."""
        return (self.byte() if bound <= 256 else int.from_bytes(self.bytes(3), "big")) % bound

    def flag(self) -> bool:
        return bool(self.byte() & 1)

    def one(self, of: Sequence[T]) -> T:
        return of[self.below(len(of))]

    def bytes(self, size: int) -> bytes:
        """Exactly so many."""
        found = self._data[self._at : self._at + size]
        self._at += size
        return found.ljust(size, b"\0")

    def piece(self, most: int = 255) -> bytes:
        """Some bytes, as many as one byte says."""
        return self.bytes(self.below(most + 1))

    def rest(self) -> bytes:
        """All that is left."""
        found, self._at = self._data[self._at :], max(self._at, len(self._data))
        return found
