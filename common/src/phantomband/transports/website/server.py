"""One connection to the port, after TLS: HTTP/1.1, until a request turns it into something else.

head -> answer of the site -> next head ...            60 s for a head, 75 s between requests (nginx's defaults)
head that `Door.opens` knows   -> what that makes of it, for good
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from phantomband.transports.base import Buffer, Receiver
from phantomband.transports.layered import Lower
from phantomband.transports.website import answers
from phantomband.transports.website.exchange import Answer, Exchange, Site
from phantomband.transports.website.http import BadRequest, Chunks, Request, head_end_untrusted, parse_untrusted

HEAD_SECONDS = 60.0
"""For a request's head (nginx: client_header_timeout)."""

BUSY_SECONDS = 75.0
"""Between two parts of an answer: longer than another server may take for it, so that its failure is told."""

KEEP_SECONDS = 75.0
"""Between requests (nginx: keepalive_timeout)."""

LINGER_SECONDS = 5.0
"""Before a connection is closed whose peer was still sending (nginx: lingering_timeout)."""

MAX_REQUESTS = 1000
"""Of one connection (nginx: keepalive_requests)."""

MAX_BODY = 1024 * 1024
"""Bytes of a request's body (nginx: client_max_body_size)."""

MAX_VISITORS = 1024
"""Connections of one listener that are not taken over, those in their TLS handshake included. At the bound the one
that was quiet longest is closed, so a real client, done within a few round trips, comes in."""


@dataclass(slots=True)
class Visitors:
    """The connections of one listener that are not taken over, the one that was quiet longest first."""

    quiet: dict[object, Callable[[], None]] = field(default_factory=dict)

    def add(self, who: object, abort: Callable[[], None]) -> None:
        while len(self.quiet) >= MAX_VISITORS:
            oldest = next(iter(self.quiet))
            self.quiet.pop(oldest)()
        self.quiet[who] = abort

    def seen(self, who: object) -> None:
        """`who` did something whole."""
        if (abort := self.quiet.pop(who, None)) is not None:
            self.quiet[who] = abort

    def drop(self, who: object) -> None:
        self.quiet.pop(who, None)


class Upper(Receiver, Protocol):
    """What takes a connection over from HTTP."""

    def start(self, rest: bytes) -> None:
        """Args: rest: what came behind the request."""


def nothing(request: Request, lower: Lower) -> Upper | None:
    """Every request is for the site."""
    return None


@dataclass(frozen=True, slots=True)
class Door:
    """What all connections of a listener share."""

    site: Site
    opens: Callable[[Request, Lower], Upper | None]
    """What takes a connection over at this request, if anything."""
    visitors: Visitors
    clock: Callable[[], float]


class HttpConnection:
    """The receiver of a TLS or TCP connection, and what the site answers to."""

    def __init__(self, lower: Lower, door: Door, who: object) -> None:
        self._lower, self._door, self._who = lower, door, who
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._skip = 0  # bytes of a body that are still to come
        self._chunks: Chunks | None = None
        self._served = 0
        self._request: Request | None = None
        self._keep = False  # whether the connection goes on behind the answer
        self._busy = self._closing = False
        self._exchange: Exchange | None = None
        self._upper: Upper | None = None
        self._timer = self._loop.call_later(HEAD_SECONDS, self._lower.close)

    # from the connection below

    def received(self, data: Buffer) -> None:
        if self._upper is not None:
            self._upper.received(data)
        elif not self._closing:
            self._data += data
            self._read()
            if self._busy:
                self._lower.pause_reading()  # what is pipelined waits

    def writable(self) -> None:
        if self._upper is not None:
            self._upper.writable()
        elif self._exchange is not None:
            self._patience(BUSY_SECONDS)
            self._exchange.writable()

    def closed(self, error: Exception | None) -> None:
        self._closing = True
        self._timer.cancel()
        self._door.visitors.drop(self._who)
        if self._upper is not None:
            self._upper.closed(error)
        elif self._exchange is not None:
            self._exchange.cancel()

    # requests

    def _read(self) -> None:
        while not self._busy and not self._closing and self._upper is None:
            try:
                if not self._skip_body_untrusted():
                    return
            except BadRequest:
                self.done(False)
                return
            if self._data[0] in b"\r\n":  # empty lines before a request (RFC 9112, section 2.2)
                del self._data[:1]
                continue
            try:
                end = head_end_untrusted(self._data)
                if not end:
                    self._patience(HEAD_SECONDS, again=False)
                    return
                request = parse_untrusted(bytes(self._data[:end]))
            except BadRequest as error:
                self._refuse(error.status)
                return
            del self._data[:end]
            self._serve(request)

    def _skip_body_untrusted(self) -> bool:
        """Whether a request begins here."""
        skipped = min(self._skip, len(self._data))
        self._skip -= skipped
        del self._data[:skipped]
        if self._chunks is not None and self._chunks.skip_untrusted(self._data):
            self._chunks = None
        return bool(self._data) and not self._skip and self._chunks is None

    def _refuse(self, status: int, request: Request | None = None) -> None:
        self._request = request and _last(request)
        answers.refuse(status, request, self)

    def _serve(self, request: Request) -> None:
        self._served += 1
        self._door.visitors.seen(self._who)
        if (upper := self._door.opens(request, self._lower)) is not None:
            self._give_up_to(upper)
            return
        length = int(request.headers.get("content-length", "0"))
        self._skip = length
        self._chunks = Chunks() if "transfer-encoding" in request.headers else None
        if length > MAX_BODY:
            self._refuse(413, request)
            return
        if self._served >= MAX_REQUESTS:
            request = _last(request)
        self._busy, self._request = True, request
        self._patience(BUSY_SECONDS)
        self._exchange = self._door.site.answer(request, self)

    def _give_up_to(self, upper: Upper) -> None:
        self._timer.cancel()
        self._door.visitors.drop(self._who)
        self._upper = upper
        rest, self._data = bytes(self._data), bytearray()
        upper.start(rest)

    # for the site

    @property
    def congested(self) -> bool:
        return self._lower.congested

    def head(self, answer: Answer) -> None:
        request = self._request
        self._keep = request is not None and request.keep_alive and not answer.ends
        if request is None or request.version > (0, 9):
            self.send(answers.head(answer, self._door.clock(), self._keep))

    def send(self, data: bytes) -> None:
        if data and not self._closing:
            if self._exchange is not None:
                self._patience(BUSY_SECONDS)
            self._lower.write(data)

    def done(self, whole: bool) -> None:
        self._busy, self._exchange = False, None
        if self._closing:
            return
        self._lower.flush()  # each answer in TLS records of its own, as nginx has them
        if not (self._keep and whole):
            self._closing = True
            self._timer.cancel()
            if self._skip or self._chunks is not None:
                # A body that still comes would be answered with a reset, which overtakes the answer.
                self._timer = self._loop.call_later(LINGER_SECONDS, self._lower.close)
                self._lower.resume_reading()
            else:
                self._lower.close()
            return
        self._patience(KEEP_SECONDS)
        self._lower.resume_reading()
        if self._data:
            self._loop.call_soon(self._read)

    def _patience(self, seconds: float, again: bool = True) -> None:
        """Sets the time after which the connection is closed. Args: again: not if a shorter one is running."""
        due = self._loop.time() + seconds
        if again or self._timer.when() > due:
            self._timer.cancel()
            self._timer = self._loop.call_at(due, self._lower.close)


def _last(request: Request) -> Request:
    """`request`, as if it had asked to close the connection."""
    return Request(
        request.method, request.target, request.version, {**request.headers, "connection": "close"}, request.lines
    )
