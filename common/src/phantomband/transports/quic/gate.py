"""The server's end of a QUIC connection: a link to whoever knocks, a web site to everyone else.

handshake | HTTP/3's streams open | stream 0 = knock ...         the link
                                  | stream 0 = anything else     the site, and every other stream, too
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from qh3.quic.connection import QuicConnection, QuicConnectionError
from qh3.quic.events import HandshakeCompleted, QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

from phantomband.transports.base import Accept
from phantomband.transports.quic.frames import Code
from phantomband.transports.quic.library import NetworkAddress
from phantomband.transports.quic.link import LinkProtocol
from phantomband.transports.quic.stream import STREAM_ID, QuicStream
from phantomband.transports.quic.visitor import Rooms, Visitor
from phantomband.transports.website.knock import KNOCK_BYTES, opens_untrusted

KEPT_BYTES = 1024 * 1024
"""That a visitor may have sent without our having seen them: what comes out of order waits in the library. More ends
the connection; without this a visitor fills the window that links need."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What all connections of a listener share."""

    knock: bytes
    accept: Accept
    rooms: Rooms
    forget: Callable[[GateProtocol], None]
    """Told of a connection that is over before the library says so."""
    shaken: Callable[[GateProtocol], None]
    """Told of a connection whose handshake is done."""


class GateProtocol(LinkProtocol):
    """Args: quic: as `LinkProtocol`'s."""

    def __init__(self, quic: QuicConnection, gate: Gate) -> None:
        super().__init__(quic)
        self._gate = gate
        self.ids = {quic.host_cid, quic.original_destination_connection_id}
        self._visitor: Visitor | None = None
        self._awaits_knock = True  # on stream 0
        self._kept = 0  # bytes that came and are not accounted for
        gate.rooms.visitors.add(self, self._thrown_out)

    # from the network

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        self._kept += len(data)
        super().datagram_received(data, addr)
        self._bounded()

    def datagrams_received(self, data: list[bytes], addr: NetworkAddress) -> None:
        if self.stream is None:
            self._kept += sum(map(len, data))
        super().datagrams_received(data, addr)
        self._bounded()

    def _bounded(self) -> None:
        if self._visitor is not None and self._kept > KEPT_BYTES:
            self._visitor.close(Code.EXCESSIVE_LOAD, "")

    def quic_event_received(self, event: QuicEvent) -> None:
        if self.stream is not None or self._visitor is None:
            super().quic_event_received(event)
            return
        match event:
            case StreamDataReceived(stream_id=stream, data=data, end_stream=end):
                self._kept = max(0, self._kept - len(data) - len(data) // 8)
                if stream == STREAM_ID and self._awaits_knock:
                    self._knocking_untrusted(data, end)
                else:
                    self._visitor.received_untrusted(stream, data, end)
            case StreamReset(stream_id=stream):
                if stream == STREAM_ID and self._awaits_knock:
                    self._become_visitor(b"", False)
                self._visitor.reset_untrusted(stream)
            case StopSendingReceived(stream_id=stream):
                self._visitor.stopped_untrusted(stream)
            case HandshakeCompleted():
                pass
            case _:
                super().quic_event_received(event)

    def _begin(self) -> None:
        self._gate.shaken(self)
        self._visitor = Visitor(self, self._gate.rooms, self)

    def _knocking_untrusted(self, data: bytes, end: bool) -> None:
        assert self._visitor is not None  # noqa: S101  (the caller looked)
        if not self._visitor.awaits_untrusted(STREAM_ID):  # it took too long
            self._awaits_knock = False
            return
        if not (data or end):
            return
        if not opens_untrusted(data, self._gate.knock):
            self._become_visitor(data, end)
            return
        self._visitor.ended()
        rest = data[KNOCK_BYTES:]
        self._visitor, self._awaits_knock = None, False
        self.stream = QuicStream(self, self._gate.accept)
        super().quic_event_received(StreamDataReceived(rest, end, STREAM_ID))

    def _become_visitor(self, first: bytes, end: bool) -> None:
        """What has come on stream 0 is a request's."""
        assert self._visitor is not None  # noqa: S101  (the caller looked)
        self._awaits_knock = False
        self._visitor.received_untrusted(STREAM_ID, first, end)

    def transmit(self) -> None:
        super().transmit()
        if self._visitor is not None and not self._ended:
            before = self.unsent_on(None)
            self._visitor.moved()
            if self.unsent_on(None) != before:
                super().transmit()

    # ends

    def _finish(self, error: Exception | None) -> None:
        if not self._ended:
            super()._finish(error)
            self._gate.rooms.visitors.drop(self)
            if self._visitor is not None:
                self._visitor.ended()

    def _thrown_out(self) -> None:
        """There are too many visitors, and this one was quiet longest."""
        if self._visitor is None:
            self.close()
        else:
            self._visitor.close(Code.NO_ERROR, "")
        self._gate.forget(self)

    # for the visitor

    def unsent_on(self, stream: int | None) -> int:
        return 0 if self._ended else int(self._quic.get_send_buffer_size(stream))

    def send_on(self, stream: int, data: bytes, end: bool) -> None:
        self._kept = max(0, self._kept - len(data) // 8)  # its acknowledgements are datagrams, too
        if not self._ended:
            with suppress(QuicConnectionError):
                self._quic.send_stream_data(stream, data, end)

    def reset(self, stream: int, code: int) -> None:
        if not self._ended:
            with suppress(QuicConnectionError):
                self._quic.reset_stream(stream, code)

    def stop(self, stream: int, code: int) -> None:
        if not self._ended:
            with suppress(QuicConnectionError):
                self._quic.stop_stream(stream, code)

    def transmit_soon(self) -> None:
        if not self._ended:
            self._transmit_soon()

    def end(self, code: int, why: str) -> None:
        if not self._ended:
            self._quic.close(error_code=int(code), reason_phrase=why)
            self.transmit()
            self._finish(None)
