"""Lengths and delays as their server's seed has them: a few values, each with its own weight.

Every server has tables of its own, so that no length is typical for obfs4. Source: obfs4-spec, section 6;
ScrambleSuit (Winter, Pulls, Fuss, 2013), section 4.3; the tables are those that obfs4proxy makes of the same seed.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Callable

from phantomband.transports.obfs4.drbg import SEED_BYTES, Drbg
from phantomband.transports.obfs4.framing import MAX_PAYLOAD, PACKET_OVERHEAD, SEGMENT_BYTES

RandomSource = Callable[[int], bytes]

MAX_VALUES = 100
"""Values of a table at most (obfs4proxy)."""

MAX_DELAY = 100
"""Of a table of delays, in units of 100 microseconds: 10 ms (obfs4proxy)."""

DELAY_UNIT = 100e-6
"""Seconds."""


class Table:
    """Values with weights.

    Args:
        seed: 24 bytes.
        highest: values are 0 to `highest`.
    """

    __slots__ = ("_sums", "values")

    def __init__(self, seed: bytes, highest: int) -> None:
        drbg = Drbg(seed)
        shuffled = drbg.permutation(highest + 1)
        self.values = shuffled[: drbg.below(min(highest + 1, MAX_VALUES)) + 1]
        self._sums = list(itertools.accumulate(drbg.fraction() for _ in self.values))

    def sample(self, random: RandomSource) -> int:
        """One of the values; draws 7 bytes."""
        at = (int.from_bytes(random(7), "big") >> 3) / 2**53 * self._sums[-1]
        return self.values[min(bisect.bisect_right(self._sums, at), len(self.values) - 1)]


def lengths(seed: bytes) -> Table:
    """Of the last segment of a burst; in IAT mode 2 of every segment."""
    return Table(seed, SEGMENT_BYTES)


def delays(seed: bytes) -> Table:
    """Between segments, in units of `DELAY_UNIT`."""
    return Table(hashlib.sha256(seed).digest()[:SEED_BYTES], MAX_DELAY)


def padding(burst: int, target: int) -> tuple[int, ...]:
    """What brings the last segment of `burst` bytes to `target`: the padding of each of 0, 1 or 2 empty packets.

    A gap too small for a packet is not filled exactly: it takes a full segment and a packet of 21 bytes more. So does
    obfs4proxy; we do not differ.
    """
    tail = burst % SEGMENT_BYTES
    missing = target - tail if target >= tail else SEGMENT_BYTES - tail + target
    if missing > PACKET_OVERHEAD:
        return (missing - PACKET_OVERHEAD,)
    return (MAX_PAYLOAD, missing) if missing else ()
