"""Loops: cover cells that a hop sends back, and so a measurement of the way there and back.

    LOOP and LOOPED: nonce 8

(Danezis, Sassaman: Heartbeat Traffic to Counter (n-1) Attacks, WPES 2003; Loopix, section 4.2: loop traffic.)
"""

from __future__ import annotations

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed

LOOP_BYTES = 8

MAX_OUT = 64
"""Loops of one circuit that may be out at once."""


class Loops:
    """The loops of one circuit at the client."""

    __slots__ = ("_out", "_random", "returned", "sent")

    def __init__(self, random: RandomSource) -> None:
        self._out: dict[bytes, tuple[int, float]] = {}
        self._random = random
        self.sent = self.returned = 0

    @property
    def out(self) -> int:
        """Loops that are not back yet."""
        return len(self._out)

    def start(self, hop: int, now: float) -> bytes | None:
        """Data of a new LOOP to this hop, 8 bytes; None when too many are out."""
        if len(self._out) >= MAX_OUT:
            return None
        nonce = self._random(LOOP_BYTES)
        self._out[nonce] = hop, now
        self.sent += 1
        return nonce

    def returned_untrusted(self, hop: int, nonce: bytes, now: float) -> float:
        """Seconds that a loop took.

        Raises:
            Malformed: that hop was not asked for this.
        """
        asked, left = self._out.get(nonce, (0, 0.0))
        if asked != hop:
            raise Malformed("a loop came back that was not sent, or from another hop")
        del self._out[nonce]
        self.returned += 1
        return now - left

    def oldest(self, now: float) -> tuple[int, float]:
        """(hop, seconds) of the loop that is out longest; (0, 0.0) when none is."""
        for hop, left in self._out.values():
            return hop, now - left
        return 0, 0.0
