"""What leaves, in which pieces and when: the lengths of a flow, and in IAT modes 1 and 2 its rhythm.

    mode 0   a burst goes out whole, its last segment padded to a length from the server's table
    mode 1   the same in segments of 1,448 bytes, each followed by a delay of 0 to 10 ms
    mode 2   the length of every segment is from the table, each followed by such a delay

Source: obfs4-spec, section 6, and obfs4proxy. Sans-io: whoever drives it writes and waits.
"""

from __future__ import annotations

from enum import IntEnum

from phantomband.transports.obfs4 import lengths
from phantomband.transports.obfs4.elligator import RandomSource
from phantomband.transports.obfs4.framing import SEGMENT_BYTES, TYPE_PAYLOAD, Sealer
from phantomband.transports.obfs4.lengths import DELAY_UNIT, Table


class IatMode(IntEnum):
    """The `iat-mode` of a bridge line."""

    OFF = 0
    SEGMENTS = 1
    PARANOID = 2


class Shaper:
    """Args:
    seed: 24 bytes, the server's; before a client has it, its own.
    random: what is drawn from the tables.
    """

    def __init__(self, sealer: Sealer, mode: IatMode, seed: bytes, random: RandomSource) -> None:
        self._sealer, self.mode, self._random = sealer, mode, random
        self._lengths: Table | None = None
        self._delays: Table | None = None
        self.reseed(seed)

    def reseed(self, seed: bytes) -> None:
        """Tables of another seed; made when they are first needed, since they take milliseconds."""
        self._seed = seed
        self._lengths = self._delays = None

    def burst(self, data: bytes) -> bytearray:
        """`data` in frames; padded, unless that is done segment by segment."""
        frames = self._sealer.seal(data)
        if self.mode is not IatMode.PARANOID:
            frames += self._padded(len(frames), self._length())
        return frames

    def segment(self, held: bytearray) -> bytes:
        """Takes the next segment off `held`, which is not empty; mode 2 may add padding to it before."""
        if self.mode is not IatMode.PARANOID:
            return _take(held, SEGMENT_BYTES)
        while True:
            target = self._length()
            if len(held) < target:
                held += self._padded(len(held), target)
            # A gap that took two packets is longer than wanted: draw again, as obfs4proxy does.
            if target and len(held) >= target:
                return _take(held, target)

    def delay(self) -> float:
        """Seconds until the next segment."""
        self._delays = self._delays or lengths.delays(self._seed)
        return self._delays.sample(self._random) * DELAY_UNIT

    def _length(self) -> int:
        self._lengths = self._lengths or lengths.lengths(self._seed)
        return self._lengths.sample(self._random)

    def _padded(self, size: int, target: int) -> bytes:
        return b"".join(self._sealer.packet(TYPE_PAYLOAD, b"", count) for count in lengths.padding(size, target))


def _take(held: bytearray, count: int) -> bytes:
    taken = bytes(held[:count])
    del held[:count]
    return taken
