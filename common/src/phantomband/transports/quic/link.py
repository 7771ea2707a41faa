"""The QUIC connection below a link's stream 0, either end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.h3.connection import H3Connection
from qh3.quic.connection import QuicConnection, QuicConnectionError
from qh3.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived, StreamReset
from qh3.quic.packet import QuicErrorCode

from phantomband.transports.base import Accept, Buffer
from phantomband.transports.quic.library import HeldConnection, NetworkAddress
from phantomband.transports.quic.stream import STREAM_ID, QuicStream

KEEP_ALIVE = 20.0
"""Seconds between a client's pings; NATs forget UDP flows after 30 s and more (RFC 4787, REQ-5 has 2
minutes)."""


class LinkProtocol(QuicConnectionProtocol):
    """The QUIC connection of one `QuicStream`.

    Args:
        quic: a `HeldConnection`, or a connection to be made into one.
    """

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        quic.__class__ = HeldConnection  # QuicServer makes the connections itself
        self._held = cast(HeldConnection, quic)
        self.peer: NetworkAddress = None
        self.stream: QuicStream | None = None
        self._ended = self._end_sent = False

    # from the stream

    @property
    def unsent(self) -> int:
        return 0 if self._ended else int(self._quic.get_send_buffer_size(STREAM_ID))

    def send(self, data: Buffer) -> None:
        self._send(data)

    def send_end(self) -> None:
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
            case StreamDataReceived(stream_id=0, data=data, end_stream=end):
                if self.stream is not None and data:
                    self.stream.arrived(data)
                if end:
                    self._finish(None)
                    self.close()
            case HandshakeCompleted():
                self._begin()
            case StreamReset(stream_id=0) | ConnectionTerminated(error_code=QuicErrorCode.NO_ERROR):
                self._finish(None)
            case ConnectionTerminated(error_code=code):
                self._finish(ConnectionError(f"QUIC error {code:#x}"))
            case _:
                pass  # HTTP/3's own streams

    def _begin(self) -> None:
        """The handshake is done."""
        raise NotImplementedError

    def _finish(self, error: Exception | None) -> None:
        """The connection is over."""
        if not self._ended:
            self._ended = True
            if self.stream is not None:
                self.stream.ended(error)

    def close(self) -> None:
        """Tells the peer, if there is one."""
        super().close()
        self._finish(None)


class ClientProtocol(LinkProtocol):
    """Owns its UDP socket and closes it with the connection: a server that missed our close is told by
    ICMP.

    Args:
        accept: called when the handshake is done.
        settled: called then, or with why it failed.
        knock: of the server.
    """

    def __init__(
        self, quic: HeldConnection, accept: Accept, settled: Callable[[Exception | None], None], knock: bytes
    ) -> None:
        super().__init__(quic)
        self._accept, self._settled, self._knock = accept, settled, knock
        self._ping: asyncio.TimerHandle | None = None

    def _begin(self) -> None:
        H3Connection(self._quic)  # opens what a browser opens; what the server sends there is passed over
        self.stream = QuicStream(self, self._accept, self._knock)
        self._settled(None)
        self._keep_alive()

    def _keep_alive(self) -> None:
        if not self._ended:
            self._quic.send_ping(0)
            self.transmit()
            self._ping = self._loop.call_later(KEEP_ALIVE, self._keep_alive)

    def _finish(self, error: Exception | None) -> None:
        if not self._ended and self.stream is None:
            self._settled(error or ConnectionError("the peer closed during the QUIC handshake"))
        super()._finish(error)
        if self._ping is not None:
            self._ping.cancel()
        self._loop.call_soon(self.close_socket)

    def close_socket(self) -> None:
        self.transmit()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        guarded(super().datagram_received, data, addr)

    def datagrams_received(self, data: list[bytes], addr: NetworkAddress) -> None:
        guarded(super().datagrams_received, data, addr)


def guarded(function: Callable[..., None], data: object, addr: NetworkAddress) -> None:
    """Whatever a datagram makes the library raise, a panic of its native part included, ends with the datagram."""
    try:
        function(data, addr)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            raise
