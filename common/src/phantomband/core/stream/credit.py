"""Authenticated credit: nobody is credited for cells that they did not receive.

Sender and receiver count the DATA cells of a circuit (or of a stream). Each `every`-th is a checkpoint: the sender
keeps its 16-byte AEAD tag, the receiver returns that tag in a CREDIT message. Without it a client could grant credit
without reading and fill a relay's memory (Sniper attack; Tor proposal 289).
"""

from __future__ import annotations

import hmac
from collections import deque

from phantomband.core.errors import Malformed

CIRCUIT_EVERY = 32
"""DATA cells of a circuit for one circuit credit."""

STREAM_EVERY = 64
"""DATA cells of a stream for one stream credit."""

STREAM_WINDOW = 1024
"""DATA cells of a stream that may be sent beyond what was credited: 2 MB, the most that a slow reader makes us hold."""


class SentLedger:
    """The sender's side: which checkpoints are out, and when each left."""

    __slots__ = ("_every", "_out", "sent")

    def __init__(self, every: int) -> None:
        self._every = every
        self._out: deque[tuple[bytes, float]] = deque()
        self.sent = 0

    def count(self, sealed: list[bytes], now: float) -> None:
        """DATA cells left; `sealed` are their innermost layers, whose last 16 bytes are the tags."""
        every = self._every
        for i in range(every - 1 - self.sent % every, len(sealed), every):
            self._out.append((sealed[i][-16:], now))
        self.sent += len(sealed)

    def credit_untrusted(self, tag: bytes) -> float:
        """When the oldest open checkpoint left, if `tag` is its tag.

        Raises:
            Malformed: no checkpoint is open, or the tag is another's.
        """
        if not self._out or not hmac.compare_digest(self._out[0][0], tag):
            raise Malformed("credit for a cell that is not the next to be credited")
        return self._out.popleft()[1]

    @property
    def open(self) -> int:
        """Checkpoints not credited yet."""
        return len(self._out)


class ReceivedLedger:
    """The receiver's side: counts cells, keeps the tags that are due."""

    __slots__ = ("_due", "_every", "_left", "_limit", "_open")

    def __init__(self, every: int, limit: int) -> None:
        """Args: limit: most cells that the sender may have beyond what we credited; looked at once a checkpoint."""
        self._every = self._left = every
        self._limit = limit
        self._due: deque[bytes] = deque()
        self._open = 0

    def count(self, sealed: bytes) -> bool:
        """One DATA cell arrived; true when a credit is due.

        Raises:
            Malformed: the sender went beyond its window.
        """
        self._left -= 1
        if self._left:
            return False
        if self._open >= self._limit:
            raise Malformed("the sender went beyond its window")
        self._left = self._every
        self._open += self._every
        self._due.append(sealed[-16:])
        return True

    def take(self) -> bytes | None:
        """The tag to return next; counted as credited."""
        if not self._due:
            return None
        self._open -= self._every
        return self._due.popleft()
