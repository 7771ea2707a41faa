"""One connection to the port, after TLS: HTTP/1.1 until somebody opens the tunnel with the secret path.

head -> answer of the site -> next head ...            60 s for a head, 75 s between requests (nginx's defaults)
head with the secret path and an upgrade -> 101 -> WebSocketConnection, for good
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from websockets.protocol import Side

from phantomband.transports.base import Accept, Buffer, packed_ip
from phantomband.transports.layered import Lower
from phantomband.transports.websocket import answers
from phantomband.transports.websocket.connection import WebSocketConnection
from phantomband.transports.websocket.http import BadRequest, Chunks, Request, head_end_untrusted, parse_untrusted
from phantomband.transports.websocket.site import Exchange, Site
from phantomband.transports.websocket.upgrade import accept_of, is_upgrade, same_path

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
"""Connections of one listener that are no tunnels, those in their TLS handshake included. At the bound the one that was
quiet longest is closed, so a real client, done within a few round trips, comes in."""


@dataclass(slots=True)
class Visitors:
    """The connections of one listener that are no tunnels, the one that was quiet longest first."""

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


@dataclass(frozen=True, slots=True)
class Door:
    """What all connections of a listener share."""

    site: Site
    secret: bytes
    """SHA-256 of the secret path."""
    accept: Accept
    visitors: Visitors
    clock: Callable[[], float]
    forwarded: bool
    """Whether X-Forwarded-For says who the peer is: behind a reverse proxy of our own."""


class _Tunnel(WebSocketConnection):
    """A server's end, which may know its peer from the reverse proxy in front."""

    forwarded_ip = b""

    @property
    def peer_ip(self) -> bytes:
        return self.forwarded_ip or super().peer_ip


class HttpConnection:
    """The receiver of a TLS or TCP connection, and what the site answers to."""

    def __init__(self, lower: Lower, door: Door, who: object) -> None:
        self._lower, self._door, self._who = lower, door, who
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._skip = 0  # bytes of a body that are still to come
        self._chunks: Chunks | None = None
        self._served = 0
        self._busy = self._closing = False
        self._exchange: Exchange | None = None
        self._tunnel: _Tunnel | None = None
        self._timer = self._loop.call_later(HEAD_SECONDS, self._lower.close)

    # from the connection below

    def received(self, data: Buffer) -> None:
        if self._tunnel is not None:
            self._tunnel.received(data)
        elif not self._closing:
            self._data += data
            self._read()
            if self._busy:
                self._lower.pause_reading()  # what is pipelined waits

    def writable(self) -> None:
        if self._tunnel is not None:
            self._tunnel.writable()
        elif self._exchange is not None:
            self._patience(BUSY_SECONDS)
            self._exchange.writable()

    def closed(self, error: Exception | None) -> None:
        self._closing = True
        self._timer.cancel()
        self._door.visitors.drop(self._who)
        if self._tunnel is not None:
            self._tunnel.closed(error)
        elif self._exchange is not None:
            self._exchange.cancel()

    # requests

    def _read(self) -> None:
        while not self._busy and not self._closing and self._tunnel is None:
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
        self.send(answers.error(status, request, self._door.clock(), False, []))
        self.done(False)

    def _serve(self, request: Request) -> None:
        self._served += 1
        self._door.visitors.seen(self._who)
        ours = same_path(request, self._door.secret)
        if is_upgrade(request) and ours:
            self._open(request)
            return
        length = int(request.headers.get("content-length", "0"))
        self._skip = length
        self._chunks = Chunks() if "transfer-encoding" in request.headers else None
        if length > MAX_BODY:
            self._refuse(413, request)
            return
        if self._served >= MAX_REQUESTS:
            request = _last(request)
        self._busy = True
        self._patience(BUSY_SECONDS)
        self._exchange = self._door.site.answer(request, self)

    def _open(self, request: Request) -> None:
        self._timer.cancel()
        self._door.visitors.drop(self._who)
        self._tunnel = _Tunnel(self._lower, Side.SERVER, self._door.accept, lambda error: None)
        if self._door.forwarded:
            self._tunnel.forwarded_ip = forwarded_untrusted(request, self._lower.peer_ip)
        self._lower.write(answers.upgraded(accept_of(request.headers["sec-websocket-key"]), self._door.clock()))
        rest, self._data = bytes(self._data), bytearray()
        self._tunnel.start(rest)

    # for the site

    @property
    def congested(self) -> bool:
        return self._lower.congested

    def send(self, data: bytes) -> None:
        if data and not self._closing:
            if self._exchange is not None:
                self._patience(BUSY_SECONDS)
            self._lower.write(data)

    def done(self, keep: bool) -> None:
        self._busy, self._exchange = False, None
        if self._closing:
            return
        self._lower.flush()  # each answer in TLS records of its own, as nginx has them
        if not keep:
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


def forwarded_untrusted(request: Request, proxy: bytes) -> bytes:
    """Who the reverse proxy says the peer is, packed. Nothing if `proxy` is not on this machine or a private network,
    or does not say."""
    if not proxy or not ipaddress.ip_address(proxy).is_private:
        return b""
    last = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return packed_ip(last) or packed_ip(request.headers.get("x-real-ip", "").strip())
