"""A DNS-over-HTTPS server's HTTP/2 connection (RFC 8484).

**Limits**: `MAX_STREAMS` queries at once on a connection, 65,535 bytes a query, `MAX_HEADERS` bytes of headers,
`IDLE_SECONDS` without anything from the client, `REQUEST_SECONDS` for a request.
"""

from __future__ import annotations

from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
)
from h2.settings import SettingCodes

from phantomband.transports.base import Connection
from phantomband.transports.doh.http2 import Headers, Http2
from phantomband.transports.doh.request import MAX_BODY, Request, Result, Service

MAX_STREAMS = 128
"""nginx's default."""
STREAM_WINDOW = 65536
"""nginx's default; a query fits."""
MAX_HEADERS = 96 * 1024
"""A GET of the largest query is 87,400 bytes."""
IDLE_SECONDS = 75.0
"""Without anything from the client: nginx's default."""
REQUEST_SECONDS = 60.0
"""From a request's headers to its end: nginx's default between two reads of a body."""


class Http2Server(Http2):
    """Args: lower: TLS; service: answers."""

    def __init__(self, lower: Connection, service: Service) -> None:
        super().__init__(lower, client=False)
        self._service = service
        self._requests: dict[int, Request] = {}
        self._idle = self._loop.call_later(REQUEST_SECONDS, self._check_idle)
        self._last = self._loop.time()

    def start(self) -> None:
        settings = {
            SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
        }
        self._begin(settings, 2**31 - 1)

    @property
    def congested(self) -> bool:
        return self.lower.congested or self._ended

    def received(self, data: object) -> None:
        self._last = self._loop.time()
        super().received(data)  # type: ignore[arg-type]

    def _check_idle(self) -> None:
        """A client that sends nothing, or never ends a request, is not waited for."""
        now = self._loop.time()
        oldest = min((request.since for request in self._requests.values()), default=now)
        left = min(self._last + IDLE_SECONDS, oldest + REQUEST_SECONDS) - now
        if left <= 0:
            self.close()
        else:
            self._idle = self._loop.call_later(min(left, REQUEST_SECONDS), self._check_idle)

    # what came

    def event(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._requests[event.stream_id or 0] = _request(event.headers or [], self._loop.time())
            case DataReceived():
                self._acknowledge(event)
                request = self._requests.get(event.stream_id or 0)
                if request is not None and len(request.body) <= MAX_BODY:
                    request.body += event.data or b""
            case StreamEnded():
                stream = event.stream_id or 0
                request = self._requests.pop(stream, None)
                if request is not None:
                    self._service.request(request, self, lambda result: self._answer(stream, result))

    def _answer(self, stream: int, result: Result) -> None:
        if self._ended:
            return
        headers: Headers = [(b":status", str(result.status).encode())]
        headers += [(name.encode(), value.encode()) for name, value in result.headers()]
        try:
            self._message(stream, headers, b"" if result.head else result.body)
        except Exception as error:
            if not type(error).__module__.startswith("h2."):
                raise

    def reset(self, stream: int) -> None:
        self._requests.pop(stream, None)

    def going_away(self, event: ConnectionTerminated) -> None:
        self.close()

    def writable(self) -> None:
        self._service.writable(self)

    def closed(self, error: Exception | None) -> None:
        self._ended = True
        self._idle.cancel()
        self._requests.clear()
        self._service.way_lost(self)


def _request(headers: list[tuple[bytes, bytes]], now: float) -> Request:
    fields = dict(headers)
    return Request(
        method=fields.get(b":method", b"").decode("latin-1"),
        target=fields.get(b":path", b"").decode("latin-1"),
        media_type=fields.get(b"content-type", b"").decode("latin-1"),
        since=now,
    )
