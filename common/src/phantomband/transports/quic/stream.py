"""One QUIC connection with one stream: stream 0, opened by the client.

    stream 0's bytes, both ways   =   the link's bytes
    end of stream                 =   orderly close; the end that receives it closes the connection

A server may write only after the client has (the stream does not exist before); the link's initiator speaks
first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.quic.connection import QuicConnection, QuicConnectionError
from qh3.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived, StreamReset
from qh3.quic.packet import QuicErrorCode

from phantomband.transports.base import WRITE_HIGH_WATER, Accept, Buffer, Connection, Receiver, packed_ip

STREAM_ID = 0
"""The first bidirectional stream of a client (RFC 9000, section 2.1)."""

WINDOW_BYTES = 4 * 1024 * 1024
"""Credit that a peer has beyond what we have taken: 4 MB fills 400 Mbit/s over 80 ms."""

UNSENT_BYTES = 256 * 1024
"""What the library holds and has not sent yet; the rest waits here."""

LOW_WATER = WRITE_HIGH_WATER // 4

KEEP_ALIVE = 20.0
"""Seconds between a client's pings; NATs forget UDP flows after 30 s and more (RFC 4787, REQ-5 has 2
minutes)."""

CLOSE_SECONDS = 10.0
"""That a peer has to take what was queued at a close."""

NetworkAddress = Any


class HeldConnection(QuicConnection):
    """A QuicConnection whose events, and with them the peer's credit, wait while `held`.

    The library grants new credit when it hands an event out; so a peer fills at most its window while nobody takes.
    """

    held = False

    def _drain_core(self) -> None:
        if not self.held:
            super()._drain_core()


class QuicStream(Connection):
    """Stream 0 as a connection.

    Args:
        protocol: the QUIC connection below, its handshake done.
    """

    def __init__(self, protocol: LinkProtocol, accept: Accept) -> None:
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
        while self._waiting and self._protocol.unsent < UNSENT_BYTES and self._protocol.stream_open:
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
        if self._protocol.stream_open:
            self._flush()
        else:
            self.abort()

    def abort(self) -> None:
        self._closing = True
        self._reading = True
        self._kept.clear()
        self._protocol.close()
        self.ended(None)


class LinkProtocol(QuicConnectionProtocol):
    """The QUIC connection of one `QuicStream`.

    Args:
        quic: a `HeldConnection`, or a connection to be made into one.
        accept: called when the handshake is done.
        settled: called then, or with why it failed.
    """

    def __init__(self, quic: QuicConnection, accept: Accept, settled: Callable[[Exception | None], None]) -> None:
        super().__init__(quic)
        quic.__class__ = HeldConnection  # QuicServer makes the connections itself
        self._held = cast(HeldConnection, quic)
        self._accept, self._settled = accept, settled
        self.peer: NetworkAddress = None
        self.stream: QuicStream | None = None
        self.stream_open = quic.configuration.is_client
        self._ended = self._end_sent = False
        self._ping: asyncio.TimerHandle | None = None

    # from the stream

    @property
    def unsent(self) -> int:
        """Bytes that the library holds and has not sent for the first time."""
        return 0 if self._ended else int(self._quic.get_send_buffer_size(STREAM_ID))

    def send(self, data: Buffer) -> None:
        """Gives bytes to the library."""
        self._send(data)

    def send_end(self) -> None:
        """The end of the stream, once."""
        if not self._end_sent:
            self._end_sent = True
            self._send(b"", end_stream=True)

    def _send(self, data: Buffer, end_stream: bool = False) -> None:
        if self._ended:
            return
        try:
            self._quic.send_stream_data(STREAM_ID, data, end_stream)
        except QuicConnectionError:
            pass  # the peer has closed; the event that says so is on its way

    def hold(self, held: bool) -> None:
        """Whether what comes waits in the library."""
        self._held.held = held
        if not held and not self._ended and self._quic._core is not None:
            self._held._drain_core()
            self._process_events()
            self.transmit()

    # from the network

    def transmit(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        super().transmit()
        if self.stream is not None and not self._ended:
            before = self.unsent
            self.stream.moved()
            if self.unsent != before:
                super().transmit()

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        self.peer = self.peer or addr
        super().datagram_received(data, addr)
        self._look_for_the_end()

    def datagrams_received(self, data: list[bytes], addr: NetworkAddress) -> None:
        self.peer = self.peer or addr
        super().datagrams_received(data, addr)
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        """The library tells of a peer's close only after three timeouts."""
        event = self._quic._close_event
        if event is not None:
            self.quic_event_received(event)

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case HandshakeCompleted():
                self._begin()
            case StreamDataReceived(stream_id=0, data=data, end_stream=end):
                self._opened()
                if self.stream is not None and data:
                    self.stream.arrived(data)
                if end:
                    self._finish(None)
                    self.close()
            case StreamReset(stream_id=0) | ConnectionTerminated(error_code=QuicErrorCode.NO_ERROR):
                self._finish(None)
            case ConnectionTerminated(error_code=code):
                self._finish(ConnectionError(f"QUIC error {code:#x}"))
            case _:
                pass

    def _begin(self) -> None:
        self.stream = QuicStream(self, self._accept)
        self._settled(None)
        if self._quic.configuration.is_client:
            self._keep_alive()

    def _opened(self) -> None:
        """The peer has opened the stream."""
        if not self.stream_open:
            self.stream_open = True
            if self.stream is not None:
                self._loop.call_soon(self.stream._flush)

    def _keep_alive(self) -> None:
        if not self._ended:
            self._quic.send_ping(0)
            self.transmit()
            self._ping = self._loop.call_later(KEEP_ALIVE, self._keep_alive)

    def _finish(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._ping is not None:
            self._ping.cancel()
        if self.stream is not None:
            self.stream.ended(error)
        else:
            self._settled(error or ConnectionError("the peer closed during the QUIC handshake"))

    def close(self) -> None:
        """Tells the peer, if there is one."""
        super().close()
        self._finish(None)
