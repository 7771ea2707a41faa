"""What a DNS-over-HTTPS server answers: the tunnel's queries by its sessions, all others by a resolver.

Whoever has no token gets from every query what a resolver gives.
"""

from __future__ import annotations

import asyncio

from phantomband.core.errors import Malformed
from phantomband.transports.base import Connection, Receiver
from phantomband.transports.doh import message
from phantomband.transports.doh.forward import Forwarder
from phantomband.transports.doh.http1_server import Http1Server
from phantomband.transports.doh.http2_server import Http2Server
from phantomband.transports.doh.message import FORMERR, NOTIMP, OPTION_OVERHEAD, REFUSED, SERVFAIL, Question
from phantomband.transports.doh.packet import QUERY_OVERHEAD
from phantomband.transports.doh.request import MEDIA_TYPE, Answer, Request, Result, message_of
from phantomband.transports.doh.server import Way
from phantomband.transports.doh.tunnel import Tunnel
from phantomband.transports.tls_layer.connection import TlsConnection

MAX_CONNECTIONS = 2048
"""HTTP connections of one listener; one more is closed unanswered."""

NO_PACKET = bytes(QUERY_OVERHEAD)
"""Checked where a query has none, so that a query with a made-up one is answered no later."""


class DohService:
    """Args: tunnel: of the listener; forwarder: None: queries are refused; path: of queries."""

    def __init__(self, tunnel: Tunnel, forwarder: Forwarder | None, path: str) -> None:
        self._tunnel, self._forwarder, self._path = tunnel, forwarder, path
        self._connections = 0

    def connected(self, lower: Connection) -> Receiver:
        """A TLS connection whose handshake is done."""
        self._connections += 1
        if self._connections > MAX_CONNECTIONS:
            asyncio.get_running_loop().call_soon(lower.abort)
        elif isinstance(lower, TlsConnection) and lower.alpn == "h2":
            server = Http2Server(lower, self)
            server.start()
            return server
        return Http1Server(lower, self)

    def request(self, request: Request, way: Way, answer: Answer) -> None:
        """Answers `request`, now or later."""
        asked = message_of(request, self._path)
        if isinstance(asked, Result):
            answer(asked)
            return
        head = request.method == "HEAD"
        try:
            q = message.read_question_untrusted(asked)
        except Malformed:
            answer(_broken(asked))
            return
        if self._is_ours(q, asked, way, answer):
            return
        self._ordinary(q, asked, way, head, answer)

    def _is_ours(self, q: Question, asked: bytes, way: Way, answer: Answer) -> bool:

        def room(size: int) -> int:
            return size - q.end - OPTION_OVERHEAD

        def reply(packet: bytes) -> None:
            answer(Result(200, message.option_answer(q, asked, packet), MEDIA_TYPE, 0))

        try:
            packet = q.option if len(q.option) >= QUERY_OVERHEAD else NO_PACKET
            self._tunnel.query_untrusted(packet, message.MAX_MESSAGE, room, way, reply, _ip(way))
        except Malformed:
            return False
        return True

    def _ordinary(self, q: Question, asked: bytes, way: Way, head: bool, answer: Answer) -> None:
        def reply(raw: bytes | None) -> None:
            body = raw if raw is not None else message.reply(q, asked, SERVFAIL, flags=message.RA)
            try:
                ttl = message.read_response_untrusted(body, q.kind).ttl
            except Malformed:
                body, ttl = message.reply(q, asked, SERVFAIL, flags=message.RA), None
            answer(Result(200, body, MEDIA_TYPE, ttl or 0, head=head))

        if q.opcode:
            reply(message.reply(q, asked, NOTIMP, flags=message.RA))
        elif self._forwarder is None:
            reply(message.reply(q, asked, REFUSED))
        elif not self._forwarder.ask(q, asked, _ip(way), reply):
            answer(Result(429, head=head))

    def writable(self, way: Way) -> None:
        self._tunnel.writable(way)

    def way_lost(self, way: Way) -> None:
        self._connections -= 1
        self._tunnel.way_lost(way)


def _ip(way: Way) -> bytes:
    return way.lower.peer_ip if isinstance(way, Http2Server | Http1Server) else b""


def _broken(asked: bytes) -> Result:
    """A body that is no query: FORMERR if it has a header, as resolvers do, else 400."""
    if len(asked) < message.HEADER_BYTES or asked[2] & 0x80:
        return Result(400)
    head = asked[:2] + (message.QR | (asked[2] << 8 & 0x7900) | FORMERR).to_bytes(2, "big") + bytes(8)
    return Result(200, head, MEDIA_TYPE, 0)
