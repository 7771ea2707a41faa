"""One WebSocket whose upgrade is done, over TLS or a plain stream: a byte stream in binary messages (RFC 6455).

    binary message, at most 32 KiB of what was written in one loop iteration; at most 64 KiB are taken

Where messages begin and end means nothing. Text is refused with close code 1003. Pings are answered, but not while more
waits than is good. Whoever closes sends a Close frame and waits for the other's; the server then closes the connection.
Frames and masks are made by the `websockets` package.
"""

from __future__ import annotations

import asyncio
import logging

from websockets.exceptions import WebSocketException
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, Side, State

from phantomband.transports.base import Accept, Buffer
from phantomband.transports.layered import LayeredConnection, Lower, Settled
from phantomband.transports.tls_layer.connection import TlsConnection

MESSAGE_BYTES = 32 * 1024
"""Payload of a frame that we send at most. Our choice."""

MAX_FRAME = 64 * 1024
MAX_MESSAGE = 1024 * 1024
"""Payload that is taken at most, of a frame and of all fragments of a message."""

CLOSE_SECONDS = 10.0
"""For the closing handshake; then the connection ends without."""


_SILENT = logging.Logger("websocket", logging.CRITICAL + 1)
"""The package would log each connection's end."""


class WebSocketConnection(LayeredConnection):
    """Either end.

    Args:
        side: of the WebSocket; a client masks.
    """

    def __init__(self, lower: Lower, side: Side, accept: Accept, settled: Settled) -> None:
        super().__init__(lower, accept, settled)
        self._core = Protocol(side, state=State.OPEN, max_size=(MAX_MESSAGE, MAX_FRAME), logger=_SILENT)
        self._masks = side is Side.CLIENT
        self._patience: asyncio.TimerHandle | None = None
        self._closed_well = False

    def start(self, rest: bytes) -> None:
        """Args: rest: what came behind the upgrade."""
        if isinstance(self._lower, TlsConnection):
            self._lower.flush()
            self._lower.cuts = True
        self._begin()
        if rest:
            self.received(rest)

    # from the connection below

    def received(self, data: Buffer) -> None:
        self._core.receive_data(data if isinstance(data, bytes | bytearray) else bytes(data))
        for event in self._core.events_received():
            assert isinstance(event, Frame)  # noqa: S101  (the upgrade is done: there are no other events)
            self._take(event)
        if self._core.parser_exc is not None:
            self._error = self._error or ConnectionError("the peer's WebSocket frames are wrong")
        self._answer()

    def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.BINARY | Opcode.CONT:
                if frame.data and not self._closing:
                    self._hand_on(bytes(frame.data))
            case Opcode.TEXT:
                self._error = ConnectionError("the peer sent text")
                self._core.fail(CloseCode.UNSUPPORTED_DATA)
            case Opcode.CLOSE:
                self._closed_well = True

    def _answer(self) -> None:
        """Sends what the protocol has to say: pongs, and Close frames."""
        answers = self._core.data_to_send()
        if not answers or (self._core.state is State.OPEN and self._lower.congested):
            return  # pongs alone: a peer that asks and does not read gets none
        for answer in answers:
            if answer:
                self._lower.write(answer)
        self._lower.flush()
        if self._core.state is not State.OPEN:
            self._wait_for_end()
            if self._core.eof_sent:
                self._lower.close()

    def _wait_for_end(self) -> None:
        if self._patience is None:
            self._patience = self._loop.call_later(CLOSE_SECONDS, self._lower.abort)

    def _end(self) -> Exception | None:
        return None if self._closed_well else ConnectionError("the peer closed without a closing handshake")

    def closed(self, error: Exception | None) -> None:
        # After the peer's Close frame a reset loses nothing: a server that is gone answers our TLS's end with one.
        super().closed(None if self._closed_well else error)

    def _tell_end(self, error: Exception | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        super()._tell_end(error)

    # from above

    def _encode(self, data: bytes) -> None:
        if self._core.state is not State.OPEN:
            return  # the peer has closed and reads no more
        for at in range(0, len(data), MESSAGE_BYTES):
            frame = Frame(Opcode.BINARY, data[at : at + MESSAGE_BYTES])
            self._lower.write(frame.serialize(mask=self._masks))

    def close(self) -> None:
        if self._closing:
            return
        self.flush()
        self._closing = True
        self._kept.clear()
        if self._core.state is State.OPEN:
            try:
                self._core.send_close()
            except WebSocketException:  # inside a fragmented message: no state of ours
                self._lower.abort()
                return
        self._reading = True
        self._lower.resume_reading()  # or the peer's Close frame never comes
        self._wait_for_end()
        self._answer()
        if self._ended:
            self._loop.call_soon(self._deliver)
