"""Unbiased random order and waiting times from the system's CSPRNG.

Order: Fisher-Yates with rejection sampling. Waiting times: inverse transform of uniforms of 53 bits (Devroye,
Non-Uniform Random Variate Generation, 1986, section II.2).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from phantomband.core.crypto.random_source import RandomSource

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_WORD = 4
_RANGE = 1 << (8 * _WORD)
_UNIFORM_BITS = 53
"""Bits of a double's fraction (IEEE 754): every multiple of 2^-53 in [0, 1) is exact and equally likely."""


class Draw:
    """Uniform and exponential values from a random source, a few kilobytes of it at a time."""

    __slots__ = ("_at", "_pool", "_random")

    def __init__(self, random: RandomSource) -> None:
        self._random = random
        self._pool = b""
        self._at = 0

    def below(self, bound: int) -> int:
        """Uniform in [0, bound): values that would bias the remainder are thrown away."""
        limit = _RANGE - _RANGE % bound
        while True:
            if self._at >= len(self._pool):
                self._pool, self._at = self._random(4096), 0
            value = int.from_bytes(self._pool[self._at : self._at + _WORD], "big")
            self._at += _WORD
            if value < limit:
                return value % bound

    def uniform(self) -> float:
        """Uniform in [0, 1), a multiple of 2^-53."""
        at, end = self._at, self._at + 2 * _WORD
        if end <= len(self._pool):
            value = int.from_bytes(self._pool[at:end], "big")
            self._at = end
        else:
            high, low = self.below(_RANGE), self.below(_RANGE)
            value = high << 8 * _WORD | low
        return (value >> (16 * _WORD - _UNIFORM_BITS)) * 2.0**-_UNIFORM_BITS

    def exponential(self, mean: float) -> float:
        """Exponential with the given mean: -mean ln(1 - u) of a uniform u in [0, 1), so at most 36.8 means."""
        return -mean * math.log1p(-self.uniform())

    def rounded(self, value: float) -> int:
        """One of the two integers beside `value` >= 0, so that the expectation is `value`."""
        whole = math.floor(value)
        return whole + (self.uniform() < value - whole)


def shuffle(items: list[T], draw: Draw) -> None:
    """Puts `items` into a uniformly random order, in place."""
    for i in range(len(items) - 1, 0, -1):
        j = draw.below(i + 1)
        items[i], items[j] = items[j], items[i]


def interleave(queues: dict[K, list[T]], draw: Draw) -> list[tuple[K, T]]:
    """All items in a random order that keeps the order within each queue; every such order is equally likely."""
    turns = [key for key, items in queues.items() for _ in items]
    shuffle(turns, draw)
    iterators = {key: iter(items) for key, items in queues.items()}
    return [(key, next(iterators[key])) for key in turns]


def choose(counts: Mapping[K, int], wanted: int, draw: Draw) -> dict[K, int]:
    """How many of the items of each key are chosen when `wanted` of all items are, every set of items equally likely.

    Args:
        wanted: at most the sum of `counts`.
    """
    chosen: dict[K, int] = {}
    if not wanted:
        return chosen
    turns = [key for key, count in counts.items() for _ in range(count)]
    for i in range(wanted):
        j = i + draw.below(len(turns) - i)
        turns[i], turns[j] = turns[j], turns[i]
        chosen[turns[i]] = chosen.get(turns[i], 0) + 1
    return chosen
