"""Two connections of transports, spliced: what one receives the other sends, as fast as the slower takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.transports.base import Buffer, Connection

MAX_EARLY = 1024 * 1024
"""Bytes that come at one end while there is no other yet, although it was paused: what a transport had at hand."""


CLOSE_PAUSE, CLOSE_LOOKS = 0.25, 480
"""Seconds between two looks whether all is sent, and how many: slow peers have two minutes for the last megabyte."""


class Half:
    """The receiver of one end. It reads nothing until it is joined.

    Args:
        gone: called once, when the connection is closed.
    """

    __slots__ = ("_early", "_early_bytes", "_gone", "_other", "connection", "over")

    def __init__(self, connection: Connection, gone: Callable[[Half], None]) -> None:
        self.connection = connection
        self.over = False
        self._other: Half | None = None
        self._gone = gone
        self._early: list[bytes] = []
        self._early_bytes = 0
        connection.pause_reading()

    def join(self, other: Half) -> None:
        """From now on bytes flow both ways. If one has closed meanwhile, the other is closed too."""
        self._other, other._other = other, self
        for one, two in ((self, other), (other, self)):
            for piece in one._early:
                two.connection.write(piece)
            one._early.clear()
            if one.over:
                two.close_when_sent()
        self.connection.resume_reading()
        other.connection.resume_reading()

    def close_when_sent(self, looks: int = CLOSE_LOOKS) -> None:
        """Ends this side in order. Not at once: a connection told to close gives its peer 10 s for the rest."""
        if self.over:
            return
        if looks and self.connection.buffered:
            asyncio.get_running_loop().call_later(CLOSE_PAUSE, self.close_when_sent, looks - 1)
        else:
            self.connection.close()

    def received(self, data: Buffer) -> None:
        other = self._other
        if other is None:
            self._early_bytes += len(data)
            if self._early_bytes > MAX_EARLY:
                self.connection.abort()
            self._early.append(bytes(data))
            return
        other.connection.write(bytes(data))
        if other.connection.congested:
            self.connection.pause_reading()

    def writable(self) -> None:
        if self._other is not None and not self._other.over:
            self._other.connection.resume_reading()

    def closed(self, error: Exception | None) -> None:
        self.over = True
        if self._other is not None and not self._other.over:
            # A connection that pauses does not notice its peer's end.
            self._other.connection.resume_reading()
            if error is None:
                self._other.close_when_sent()
            else:
                self._other.connection.abort()
        self._gone(self)
