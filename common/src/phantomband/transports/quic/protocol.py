"""One QUIC connection with one stream: stream 0, opened by the client. Runs on the QUIC thread.

    stream 0's bytes, both ways   =   the link's bytes
    end of stream                 =   orderly close; the end that receives it closes the connection

A server may write only after the client has (the stream does not exist before); the link's initiator speaks
first.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.connection import MAX_STREAM_DATA_FRAME_CAPACITY, NetworkAddress, QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StreamDataReceived,
    StreamReset,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from phantomband.transports.quic.bridge import Bridge, Fate

STREAM_ID = 0
"""The first bidirectional stream of a client (RFC 9000, section 2.1)."""

WINDOW_BYTES = 4 * 1024 * 1024
"""Credit that a peer has beyond what we have taken: 4 MB fills 400 Mbit/s over 80 ms."""

SEND_HIGH_WATER = 1024 * 1024
"""Unacknowledged and unsent bytes in aioquic above which we stop reading from the service's loop."""

KEEP_ALIVE = 20.0
"""Seconds between a client's pings; NATs forget UDP flows after 30 s and more (RFC 4787, REQ-5 has 2
minutes)."""


class WindowedConnection(QuicConnection):
    """A QuicConnection that gives credit only for what has been taken.

    aioquic doubles a stream's limit whenever half of it has come in, whether or not anybody took the bytes,
    so a slow reader would fill memory. This override keeps a sliding window instead.
    """

    held = False

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        limit = stream.receiver.starting_offset() + WINDOW_BYTES
        if not self.held and limit - stream.max_stream_data_local >= WINDOW_BYTES // 4:
            stream.max_stream_data_local = limit
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=MAX_STREAM_DATA_FRAME_CAPACITY,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buf.push_uint_var(STREAM_ID if stream.stream_id is None else stream.stream_id)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local


class LinkProtocol(QuicConnectionProtocol):
    """Moves bytes between stream 0 and a socket pair.

    Args:
        quic: the connection; a `WindowedConnection`, or one to be made into it.
        on_ready: called when the handshake is complete.
    """

    def __init__(self, quic: QuicConnection, on_ready: Callable[[LinkProtocol], None]) -> None:
        super().__init__(quic)
        quic.__class__ = WindowedConnection  # aioquic's server makes its connections itself
        self._windowed = cast(WindowedConnection, quic)
        self._on_ready = on_ready
        self._bridge: Bridge | None = None
        self._early: list[bytes] = []
        self._stream_open = quic.configuration.is_client
        self._held_back: list[bytes] = []
        self._reading = True
        self._ended = False
        self._local_ended = False
        self._ping: asyncio.TimerHandle | None = None
        self.fate = Fate()

    async def join(self, sock: socket.socket) -> None:
        """Takes the QUIC thread's end of the pair."""
        _, self._bridge = await self._loop.create_unix_connection(
            lambda: Bridge(self._outward, self._service_ended, self._flow), sock=sock
        )
        for data in self._early:
            self._bridge.transport.write(data)
        self._early.clear()
        if self._ended:
            self._bridge.transport.close()
        elif self._quic.configuration.is_client:
            self._keep_alive()

    def _keep_alive(self) -> None:
        if not self._ended:
            self._quic.send_ping(0)
            self.transmit()
            self._ping = self._loop.call_later(KEEP_ALIVE, self._keep_alive)

    # from the service's loop

    def _outward(self, data: bytes) -> None:
        if self._ended:
            return
        if not self._stream_open:
            self._held_back.append(data)
            self._set_reading(False)
            return
        self._quic.send_stream_data(STREAM_ID, data)
        self._transmit_soon()

    def _service_ended(self) -> None:
        self._local_ended = True
        if self._ended:
            return
        if self._stream_open:
            self._quic.send_stream_data(STREAM_ID, b"", end_stream=True)
            self._transmit_soon()
        else:
            self.close()

    def _flow(self, free: bool) -> None:
        self._windowed.held = not free
        if free:
            self._transmit_soon()

    def transmit(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        super().transmit()
        stream = self._quic._streams.get(STREAM_ID)
        if stream is None or not self._stream_open:
            return
        waiting = len(stream.sender._buffer)
        if waiting > SEND_HIGH_WATER:
            self._set_reading(False)
        elif waiting < SEND_HIGH_WATER // 2:
            self._set_reading(True)

    def _set_reading(self, reading: bool) -> None:
        if self._bridge is None or reading == self._reading or self._bridge.transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._bridge.transport.resume_reading()
        else:
            self._bridge.transport.pause_reading()

    # from the network

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        super().datagram_received(data, addr)
        if self._quic._close_event is not None:  # the peer closed; aioquic tells only after three timeouts
            self.quic_event_received(self._quic._close_event)

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case HandshakeCompleted():
                self._on_ready(self)
            case StreamDataReceived(stream_id=0, data=data, end_stream=end):
                self._inward(data)
                if end:
                    self._peer_ended()
            case StreamReset(stream_id=0) | ConnectionTerminated(error_code=QuicErrorCode.NO_ERROR):
                self._finish(None)
            case ConnectionTerminated(error_code=code):
                self._finish(ConnectionError(f"QUIC error {code:#x}"))
            case _:
                pass

    def _inward(self, data: bytes) -> None:
        self._open_stream()
        if self._bridge is None:
            self._early.append(data)
        elif data:
            self._bridge.transport.write(data)

    def _open_stream(self) -> None:
        if self._stream_open:
            return
        self._stream_open = True
        for data in self._held_back:
            self._quic.send_stream_data(STREAM_ID, data)
        self._held_back.clear()
        self._transmit_soon()

    def _peer_ended(self) -> None:
        """All of the peer's bytes are here: let the service have them, and tell the peer that we are done."""
        self._finish(None)
        self.close()

    def _finish(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._ended = True
        self.fate.error = error
        if self._ping is not None:
            self._ping.cancel()
        if self._bridge is not None:
            self._bridge.transport.close()
