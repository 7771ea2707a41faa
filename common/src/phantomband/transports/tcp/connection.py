"""A connected stream socket as a `Connection`: the ground of `tcp`, `tls` and of `quic`'s bridge.

Writes of one loop iteration leave in one system call. Reads of all connections of one transport go through
one buffer, because a receiver has done with it when it returns; thousands of idle connections cost no
buffers.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from phantomband.transports.base import WRITE_HIGH_WATER, Accept, Buffer, Connection, Receiver, packed_ip
from phantomband.transports.pieces import write_pieces

READ_BUFFER_BYTES = 256 * 1024
"""As much as one read can give: eight link records."""

LOW_WATER = WRITE_HIGH_WATER // 4
"""A connection that was congested calls `writable` once no more than this waits."""

UNSENT_BYTES = WRITE_HIGH_WATER
"""Bytes that the kernel takes before it has sent them; what is under way is not limited. Left alone it takes up to
4 MiB for a peer that does not read, which no budget of ours sees."""

CLOSE_TIMEOUT = 10.0
"""Seconds that a peer has to take what was queued at a close; then the rest is lost."""


def read_buffer() -> memoryview:
    """One for each transport object and event loop."""
    return memoryview(bytearray(READ_BUFFER_BYTES))


class StreamConnection(asyncio.BufferedProtocol, Connection):
    """Both the protocol below (asyncio's) and the connection above (ours) of one socket."""

    def __init__(self, accept: Accept, buffer: memoryview) -> None:
        self._accept = accept
        self._buffer = buffer
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0
        self._flush_due = False
        self._was_congested = False
        self._paused = False
        self._reading = True
        self._closing = False
        self._patience: asyncio.TimerHandle | None = None

    # from the network

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)
        # One mark for both: then a transport that is not paused has no more than LOW_WATER waiting.
        self._transport.set_write_buffer_limits(high=LOW_WATER, low=LOW_WATER)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._receiver: Receiver = self._accept(self)
        if not self._reading:
            self._loop.call_soon(self._stay_paused)

    def _stay_paused(self) -> None:
        """uvloop begins to read behind `connection_made`, paused or not."""
        if not self._reading:
            self.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._closing:
            self._receiver.received(self._buffer[:nbytes])

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._flush_due:  # else the flush will look
            self._drained()

    def eof_received(self) -> None:
        """The peer closed: what we have queued still goes out, then the transport closes itself."""
        if not self._closing:
            self.flush()
            self._closing = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._patience is not None:
            self._patience.cancel()
        self._receiver.closed(exc or self._cause())

    def _cause(self) -> Exception | None:
        """Why the stream ended, where the socket itself cannot know it."""
        return None

    # from above

    @property
    def peer_ip(self) -> bytes:
        name = self._transport.get_extra_info("peername")
        return packed_ip(name[0]) if isinstance(name, tuple) else b""

    def keep_alive(self, seconds: int) -> None:
        """Has the system probe a peer that was silent for `seconds`, and each `seconds` from then on."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)

    def write(self, data: Buffer) -> None:
        if self._closing:
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)
        if self.congested:
            self._was_congested = True

    def hand_over(self, receiver: Receiver) -> None:
        """From now on `receiver` is told what happens: after a handshake that is no part of the stream."""
        self._receiver = receiver

    def want_writable(self) -> None:
        """Has `writable` called when no more than LOW_WATER waits after the next flush, congested or not.

        For a connection above that was congested while its bytes were not here yet.
        """
        self._was_congested = True

    def flush(self) -> None:
        """Gives what waits to the operating system now, as far as it takes it."""
        self._flush_due = False
        if self._waiting:
            waiting, size = self._waiting, self._waiting_bytes
            self._waiting, self._waiting_bytes = [], 0
            write_pieces(self._transport, waiting, size)
        if not self._paused:
            self._drained()

    def _drained(self) -> None:
        if self._was_congested and not self._closing:
            self._was_congested = False
            self._receiver.writable()

    @property
    def buffered(self) -> int:
        return self._waiting_bytes + self._transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        self._reading = False
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._reading = True
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._closing or self._transport.is_closing():
            return
        self.flush()
        self._closing = True
        # Not transport.close(): closing a socket with unread bytes in it sends a reset, which overtakes what
        # we wrote. So we read on, and drop, until the peer has seen our end of stream and closes.
        try:
            self._transport.write_eof()
        except OSError:  # the peer has gone, and the loop has not told us yet
            self._transport.abort()
            return
        self._transport.resume_reading()
        self._patience = self._loop.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()
