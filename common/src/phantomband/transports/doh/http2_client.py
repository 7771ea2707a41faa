"""A DNS-over-HTTPS client's HTTP/2 connection, as Chromium's resolver makes it: settings, header order and values.

Taken from Chromium 156 with secure DNS on; a test compares them with the installed one.
"""

from __future__ import annotations

import base64
from typing import Protocol

import h2.errors
import h2.exceptions
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded
from h2.settings import SettingCodes

from phantomband.transports.base import Connection
from phantomband.transports.doh.http2 import Headers, Http2

MEDIA_TYPE = b"application/dns-message"

SETTINGS = {
    SettingCodes.HEADER_TABLE_SIZE: 65536,
    SettingCodes.ENABLE_PUSH: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: 6291456,
    SettingCodes.MAX_HEADER_LIST_SIZE: 262144,
}
CONNECTION_WINDOW = 15 * 1024 * 1024
"""Chromium's: the first WINDOW_UPDATE is this less 65,535."""

PRIORITY = b"u=4, i"
WEIGHT = 110
"""Chromium's for lookups, in the header of RFC 9218 and in the HEADERS frame of RFC 7540: exclusive, behind the newest
query that has no answer yet."""

MAX_BODY = 65535
"""Bytes of an answer (RFC 8484, section 6)."""


STALE_SECONDS = 60.0
"""After which a query without an answer is cancelled: longer than a server of ours holds one."""


class Asked(Protocol):
    """Who is told what became of a query."""

    def answered(self, number: int, body: bytes) -> None:
        """Status 200 with a DNS message."""

    def failed(self, number: int) -> None:
        """Anything else."""

    def given_up(self, number: int) -> None:
        """There will be no answer, for a reason that says nothing of the server."""

    def room(self) -> None:
        """More queries can be sent."""

    def lost(self, error: Exception | None) -> None:
        """The connection is gone, and with it all that had no answer. Called once, last."""


class DohClient(Http2):
    """Args: lower: TLS; name: of the server; path: of its queries; get: by GET instead of POST; asked: is told."""

    def __init__(self, lower: Connection, name: str, path: str, get: bool, asked: Asked) -> None:
        super().__init__(lower, client=True)
        self._name, self._path, self._get = name.encode(), path.encode(), get
        self._asked = asked
        self._numbers: dict[int, int] = {}
        self._since: dict[int, float] = {}
        self._parts: dict[int, bytearray] = {}
        self._refused: set[int] = set()
        self._leaving = False

    def start(self) -> None:
        """The client speaks first: preface, SETTINGS and WINDOW_UPDATE in one write."""
        self._begin(SETTINGS, CONNECTION_WINDOW)

    @property
    def free(self) -> int:
        """How many queries can be sent now."""
        if self._leaving or self._ended or self.lower.congested:
            return 0
        self._cancel_stale()
        return min(self._http.remote_settings.max_concurrent_streams, 1000) - len(self._numbers)

    def _cancel_stale(self) -> None:
        """Gives streams free that a resolver does not answer."""
        end = self._loop.time() - STALE_SECONDS
        while self._since and (stream := next(iter(self._since))) and self._since[stream] < end:
            try:
                self._http.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            except h2.exceptions.ProtocolError:  # it has ended
                pass
            self.flush_soon()
            self._parts.pop(stream, None)
            del self._since[stream]
            self._asked.given_up(self._numbers.pop(stream))

    @property
    def leaving(self) -> bool:
        """No more queries can be sent on this connection."""
        return self._leaving or self._ended

    def ask(self, number: int, message: bytes) -> None:
        """Sends a query; `answered` or `failed` gives back `number`."""
        try:
            stream = self._http.get_next_available_stream_id()
            priority = (WEIGHT, next(reversed(self._numbers), 0))
            self._numbers[stream], self._since[stream] = number, self._loop.time()
            if self._get:
                text = base64.urlsafe_b64encode(message).rstrip(b"=")
                self._message(stream, self._headers(b"GET", self._path + b"?dns=" + text, 0), b"", priority)
            else:
                self._message(stream, self._headers(b"POST", self._path, len(message)), message, priority)
        except h2.exceptions.ProtocolError:
            self._leaving = True
            self._loop.call_soon(self.lower.close)

    def _headers(self, method: bytes, path: bytes, size: int) -> Headers:
        out = [(b":method", method), (b":authority", self._name), (b":scheme", b"https"), (b":path", path)]
        if size:
            out.append((b"content-length", str(size).encode()))
        out += [
            (b"accept", MEDIA_TYPE), (b"accept-language", b"*"), (b"user-agent", b"Chrome"),
            (b"accept-encoding", b"identity"),
        ]  # fmt: skip
        if size:
            out.append((b"content-type", MEDIA_TYPE))
        out.append((b"priority", PRIORITY))
        return out

    # what came

    def event(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                headers = dict(event.headers or [])
                if headers.get(b":status") != b"200" or headers.get(b"content-type") != MEDIA_TYPE:
                    self._refused.add(event.stream_id or 0)
                self._parts[event.stream_id or 0] = bytearray()
            case DataReceived():
                self._acknowledge(event)
                part = self._parts.get(event.stream_id or 0)
                if part is not None and len(part) <= MAX_BODY:
                    part += event.data or b""
            case StreamEnded():
                self._done(event.stream_id or 0)

    def _done(self, stream: int) -> None:
        number, body = self._numbers.pop(stream, None), self._parts.pop(stream, None)
        self._since.pop(stream, None)
        if number is None:
            return
        if stream in self._refused or body is None or len(body) > MAX_BODY:
            self._refused.discard(stream)
            self._asked.failed(number)
        else:
            self._asked.answered(number, bytes(body))

    def reset(self, stream: int) -> None:
        self._parts.pop(stream, None)
        self._refused.discard(stream)
        number = self._numbers.pop(stream, None)
        self._since.pop(stream, None)
        if number is not None:
            self._asked.failed(number)

    def going_away(self, event: ConnectionTerminated) -> None:
        self._leaving = True
        self.close()

    def writable(self) -> None:
        self._asked.room()

    def closed(self, error: Exception | None) -> None:
        self._ended = True
        self._asked.lost(error)
