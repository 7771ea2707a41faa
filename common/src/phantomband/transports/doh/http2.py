"""HTTP/2 over a connection, by the sans-IO `h2` package: what client and server share.

Bodies leave as flow control allows (RFC 9113, section 5.2); all that was caused in one iteration of the loop leaves in
one write.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

import h2.exceptions
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, StreamReset, WindowUpdated
from h2.settings import SettingCodes, Settings
from hyperframe.frame import SettingsFrame

from phantomband.transports.base import Buffer, Connection

Headers = list[tuple[bytes, bytes]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

MAX_FRAME = 16384
"""Bytes of a frame's body, unless the other end allows more (RFC 9113, section 4.2)."""


class Http2:
    """The receiver of the connection below.

    **Limit**: bodies that wait for flow control are one a stream, and streams are limited by each end's settings.
    """

    def __init__(self, lower: Connection, client: bool) -> None:
        self.lower = lower
        self._http = H2Connection(
            H2Configuration(
                client_side=client,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._bodies: dict[int, memoryview] = {}
        self._loop = asyncio.get_running_loop()
        self._flush_due = False
        self._ended = False

    def _begin(self, settings: dict[SettingCodes, int], window: int) -> None:
        """Preface (a client's), SETTINGS and WINDOW_UPDATE in one write. Args: window: of the connection, bytes."""
        self._http.local_settings = Settings(client=self._http.config.client_side, initial_values=settings)
        self._http.decoder.max_allowed_table_size = self._http.local_settings.header_table_size
        self._http.decoder.max_header_list_size = settings[SettingCodes.MAX_HEADER_LIST_SIZE]
        self._http.initiate_connection()
        self._http.clear_outbound_data_buffer()  # it names settings that we do not
        self._http.increment_flow_control_window(window - 65535)
        preface = PREFACE if self._http.config.client_side else b""
        self.lower.write(
            preface
            + SettingsFrame(0, {int(code): value for code, value in settings.items()}).serialize()
            + self._http.data_to_send()
        )

    # from the network

    def received(self, data: Buffer) -> None:
        if self._ended:
            return
        try:
            events = self._http.receive_data(bytes(data))
        except (h2.exceptions.ProtocolError, ValueError, IndexError, KeyError):  # h2 lets some of hpack's through
            self.flush()  # it has written a GOAWAY
            self._ended = True
            self.lower.close()
            return
        for event in events:
            self._handle(event)
        self.flush_soon()

    def _handle(self, event: Event) -> None:
        match event:
            case WindowUpdated():
                self._continue(event.stream_id or 0)
            case StreamReset():
                self._bodies.pop(event.stream_id or 0, None)
                self.reset(event.stream_id or 0)
            case ConnectionTerminated():
                self.going_away(event)
            case _:
                self.event(event)

    @abstractmethod
    def event(self, event: Event) -> None: ...

    @abstractmethod
    def reset(self, stream: int) -> None:
        """The other end gave up a stream."""

    @abstractmethod
    def going_away(self, event: ConnectionTerminated) -> None: ...

    def _acknowledge(self, event: DataReceived) -> None:
        if event.flow_controlled_length and event.stream_id is not None:
            self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    # to the network

    def _message(self, stream: int, headers: Headers, body: bytes, priority: tuple[int, int] | None = None) -> None:
        """Headers and a whole body. Args: priority: weight and the stream depended on, of a browser's request."""
        if priority is None:
            self._http.send_headers(stream, headers, end_stream=not body)
        else:
            weight, on = priority
            self._http.send_headers(
                stream, headers, not body, priority_weight=weight, priority_depends_on=on, priority_exclusive=True
            )
        if body:
            self._bodies[stream] = memoryview(body)
            self._continue(stream)
        self.flush_soon()

    def _continue(self, stream: int) -> None:
        """Sends what flow control lets through, of one stream or (0) of all."""
        for number in [stream] if stream else list(self._bodies):
            body = self._bodies.get(number)
            if body is None:
                continue
            size = min(MAX_FRAME, self._http.max_outbound_frame_size)
            try:
                while body and (room := min(len(body), size, self._http.local_flow_control_window(number))) > 0:
                    self._http.send_data(number, bytes(body[:room]), end_stream=room == len(body))
                    body = body[room:]
            except h2.exceptions.ProtocolError:  # the stream is gone
                body = memoryview(b"")
            if body:
                self._bodies[number] = body
            else:
                del self._bodies[number]

    def flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        self._flush_due = False
        data = self._http.data_to_send()
        if data:
            self.lower.write(data)

    def close(self) -> None:
        """Ends the connection; what was written still goes out."""
        if not self._ended:
            self._ended = True
            try:
                self._http.close_connection()
            except h2.exceptions.ProtocolError:
                pass
            self.flush()
            self.lower.close()
