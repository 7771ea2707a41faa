"""Stream 0 of a QUIC connection as a connection of ours.

stream 0's bytes, client to server   =   knock | the link's bytes
stream 0's bytes, server to client   =   the link's bytes
end of stream                        =   orderly close; the end that receives it closes the connection
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from phantomband.transports.base import WRITE_HIGH_WATER, Accept, Buffer, Connection, Receiver, packed_ip
from phantomband.transports.quic.library import NetworkAddress

STREAM_ID = 0
"""The first bidirectional stream of a client (RFC 9000, section 2.1)."""

WINDOW_BYTES = 4 * 1024 * 1024
"""Credit that a peer has beyond what we have taken: 4 MB fills 400 Mbit/s over 80 ms."""

UNSENT_BYTES = 256 * 1024
"""What the library holds and has not sent yet; the rest waits here."""

LOW_WATER = WRITE_HIGH_WATER // 4

CLOSE_SECONDS = 10.0
"""That a peer has to take what was queued at a close."""


class Below(Protocol):
    """The QUIC connection below a stream."""

    peer: NetworkAddress

    @property
    def unsent(self) -> int:
        """Bytes that the library holds and has not sent for the first time."""

    def send(self, data: Buffer) -> None:
        """Gives bytes to the library."""

    def send_end(self) -> None:
        """The end of the stream, once."""

    def hold(self, held: bool) -> None:
        """Whether what comes waits in the library."""

    def transmit(self) -> None: ...

    def close(self) -> None: ...


class QuicStream(Connection):
    """Stream 0 as a connection.

    Args:
        protocol: the QUIC connection below, its handshake done.
        first: a client's knock; goes out with what the receiver writes first.
    """

    def __init__(self, protocol: Below, accept: Accept, first: bytes = b"") -> None:
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Buffer] = deque()
        self._waiting_bytes = 0
        self._flush_due = self._was_congested = False
        self._closing = self._told = False
        self._reading = True
        self._kept: deque[bytes] = deque()
        self._end: tuple[Exception | None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        if first:
            self.write(first)
        self._receiver: Receiver = accept(self)

    @property
    def peer_ip(self) -> bytes:
        return packed_ip(self._protocol.peer[0]) if self._protocol.peer else b""

    # from the network

    def arrived(self, data: bytes) -> None:
        """Bytes of the stream, in order."""
        self._kept.append(data)
        self._deliver()

    def ended(self, error: Exception | None) -> None:
        """Nothing comes any more, and nothing can be sent."""
        if self._end is None:
            self._end = (error,)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._deliver()

    def _deliver(self) -> None:
        while self._kept and self._reading:
            data = self._kept.popleft()
            if not self._closing:
                self._receiver.received(data)
        if self._end is not None and not self._kept and not self._told:
            self._told = self._closing = True
            if self._patience is not None:
                self._patience.cancel()
            # Never from within a call of the receiver's own.
            self._loop.call_soon(self._receiver.closed, self._end[0])

    def moved(self) -> None:
        """The library has sent something: it can have more, and who wrote too much may write again."""
        self._feed()
        if self._was_congested and not self._closing and self.buffered <= LOW_WATER:
            self._was_congested = False
            self._receiver.writable()

    # from above

    def write(self, data: Buffer) -> None:
        if self._closing:
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self.congested:
            self._was_congested = True
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self._feed()
        self._protocol.transmit()

    def _feed(self) -> None:
        while self._waiting and self._protocol.unsent < UNSENT_BYTES:
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            self._protocol.send(data)
        if self._closing and not self._waiting and self._end is None:
            self._protocol.send_end()

    @property
    def buffered(self) -> int:
        return self._waiting_bytes + self._protocol.unsent

    def pause_reading(self) -> None:
        self._reading = False
        self._protocol.hold(True)

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        self._deliver()
        if self._reading:
            self._protocol.hold(False)

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self.resume_reading()
        self._patience = self._loop.call_later(CLOSE_SECONDS, self.abort)
        self._flush()

    def abort(self) -> None:
        self._closing = True
        self._reading = True
        self._kept.clear()
        self._protocol.close()
        self.ended(None)
