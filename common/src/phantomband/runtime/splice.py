"""A stream of a circuit and a TCP connection, spliced: bytes, half-closes and resets, both ways, faithfully.

Used by the client (towards the application) and by the exit (towards the target).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from phantomband.core.stream.messages import Answer, EndReason
from phantomband.core.stream.stream import Stream

SOCKET_HIGH = 512 * 1024
"""Bytes waiting for the TCP connection above which no more stream credit is given."""

SOCKET_LOW = 128 * 1024

_LINGER_ZERO = struct.pack("ii", 1, 0)


class SocketStream(asyncio.Protocol):
    """The protocol of the TCP connection and the handler of the stream."""

    def __init__(self, on_gone: Callable[[SocketStream], None]) -> None:
        """Args: on_gone: called once, when neither side is left."""
        self.stream: Stream | None = None
        self.transport: asyncio.Transport | None = None
        self.bytes_in = self.bytes_out = 0
        self._on_gone = on_gone
        self._stream_over = self._socket_over = False
        self._reason = EndReason.DONE
        self._told = False
        self.reading = True
        """Whether the TCP connection is read: not while too much waits for the stream."""
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._early_fin = False

    # ---- the TCP connection --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(SOCKET_HIGH, SOCKET_LOW)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        early, self._early, self._early_bytes = self._early, [], 0
        if early:
            if self.stream is not None:
                self.stream.take(True)
            self.data(early)
        if self._early_fin:
            self.finished()
        if self._stream_over:
            self._shut()
        elif self.stream is not None and not self.stream.may_read:
            self.hold()

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if self.stream is not None and not self.stream.write(data) and self.transport is not None:
            self.reading = False
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self.stream is not None:
            self.stream.finish()
        return True

    def pause_writing(self) -> None:
        if self.stream is not None:
            self.stream.take(False)

    def resume_writing(self) -> None:
        if self.stream is not None:
            self.stream.take(True)

    def connection_lost(self, error: Exception | None) -> None:
        self._socket_over = True
        if self.stream is not None and not self._stream_over:
            self._stream_over = True
            self.stream.end(EndReason.RESET if error is not None else EndReason.DONE)
        self._gone()

    # ---- the stream ----------------------------------------------------------------------------------------------

    def connected(self, answers: list[Answer]) -> None:
        """Answers to BEGIN are the business of whoever opened the stream."""

    def data(self, pieces: list[bytes]) -> None:
        transport = self.transport
        if transport is None:
            self._early += pieces  # before the connection stands; no credit is given, so the window bounds it
            self._early_bytes += sum(map(len, pieces))
            if self.stream is not None:
                self.stream.take(False)
            return
        if self._socket_over:
            return
        if len(pieces) == 1:
            self.bytes_out += len(pieces[0])
            transport.write(pieces[0])
        else:
            joined = b"".join(pieces)
            self.bytes_out += len(joined)
            transport.write(joined)

    def finished(self) -> None:
        if self.transport is None:
            self._early_fin = True
        elif not self._socket_over and not self.transport.is_closing():
            self.transport.write_eof()

    def ended(self, reason: EndReason) -> None:
        self._stream_over = True
        self._reason = reason
        self._shut()
        self._gone()

    def _shut(self) -> None:
        """Ends the TCP connection as the stream ended; one that is not there yet is ended as soon as it is."""
        if self.transport is None or self._socket_over:
            return
        if self._reason is EndReason.DONE:
            self.transport.close()
        else:
            self.reset()

    def hold(self) -> None:
        if self.transport is not None and not self._socket_over and not self.transport.is_closing():
            self.reading = False
            self.transport.pause_reading()

    def writable(self) -> None:
        if self.transport is not None and not self._socket_over and not self.transport.is_closing():
            self.reading = True
            self.transport.resume_reading()

    # ---- both ----------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Ends the TCP connection with RST, as the far side's was."""
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):  # closed already by the system, and we shall be told in the loop's next turn
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.transport.abort()

    def end(self, reason: EndReason) -> None:
        """Ends both sides from here."""
        if self.stream is not None and not self._stream_over:
            self._stream_over = True
            self.stream.end(reason)
        if self.transport is not None and not self._socket_over:
            self.transport.abort()
        self._gone()

    @property
    def gone(self) -> bool:
        """Neither side is left."""
        return self._told

    @property
    def unsent_bytes(self) -> int:
        """What the far side of the TCP connection has not taken."""
        if self.transport is None or self._socket_over:
            return self._early_bytes
        return self._early_bytes + self.transport.get_write_buffer_size()

    def _gone(self) -> None:
        over = self._stream_over and (self._socket_over or self.transport is None)
        if over and not self._told:
            self._told = True
            self._on_gone(self)
