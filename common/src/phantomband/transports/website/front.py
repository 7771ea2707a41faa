"""The first bytes of a TCP connection to the port: TLS, or a mistake that nginx answers in the clear.

nginx refuses a ClientHello whose ALPN has no HTTP/1.x, with an alert; Python's `ssl` can only go on without ALPN. So
the hello is read here too, and the alert is given from the callback for server names.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from phantomband.core.errors import Malformed
from phantomband.transports.base import Buffer, Connection, Receiver
from phantomband.transports.browser.hello import HANDSHAKE, parse_untrusted
from phantomband.transports.layered import Settled
from phantomband.transports.tcp.connection import StreamConnection
from phantomband.transports.tls_layer.connection import TlsConnection
from phantomband.transports.website import answers
from phantomband.transports.website.exchange import Exchange, Out
from phantomband.transports.website.http import Request
from phantomband.transports.website.server import HEAD_SECONDS

ALPN = ("http/1.1", "http/1.0", "http/0.9")
"""What nginx offers where HTTP/2 is not switched on: a WebSocket needs HTTP/1.1, and half of all sites have no more."""

SSL2 = 0x80
"""A first byte with this bit begins an old ClientHello, for nginx and OpenSSL."""

NO_APPLICATION_PROTOCOL = 120
"""TLS alert (RFC 7301, section 3.2)."""

HttpOver = Callable[[Connection], Receiver]


class Front:
    """The receiver of a TCP connection to a port with TLS.

    Args:
        tls: makes the connection over TCP; is given what follows the handshake, and whom to tell how that ended.
        http: what answers HTTP over TLS; plain: over TCP.
        gone: called at the end.
        refuse: where the ids of SSLObjects go whose ALPN must be refused, before the hello reaches OpenSSL.
    """

    def __init__(
        self,
        lower: StreamConnection,
        tls: Callable[[StreamConnection, HttpOver, Settled], tuple[TlsConnection, ssl.SSLObject]],
        http: HttpOver,
        plain: HttpOver,
        gone: Callable[[], None],
        refuse: set[int],
    ) -> None:
        self._lower, self._tls, self._http, self._plain = lower, tls, http, plain
        self._gone, self._refuse = gone, refuse
        self._upper: Receiver | None = None
        self._object: ssl.SSLObject | None = None
        self._hello: bytearray | None = None
        self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, lower.close)

    def received(self, data: Buffer) -> None:
        if self._upper is None:
            self._begin(bytes(data))
        if self._hello is not None:
            self._look(data)
        if self._upper is not None:
            self._upper.received(data)

    def _begin(self, data: bytes) -> None:
        if data[0] == HANDSHAKE or data[0] & SSL2:
            self._hello = bytearray()
            self._upper, self._object = self._tls(self._lower, self._http, self._settled)
        else:
            self._timer.cancel()
            self._upper = self._plain(self._lower)

    def _look(self, data: Buffer) -> None:
        assert self._hello is not None  # noqa: S101  (the caller looked)
        self._hello += data
        try:
            hello = parse_untrusted(bytes(self._hello))
        except Malformed:
            self._hello = None
            return
        if hello is not None:
            self._hello = None
            if hello.alpn is not None and not {a.decode("latin-1") for a in hello.alpn} & set(ALPN):
                self._refuse.add(id(self._object))

    def _settled(self, error: Exception | None) -> None:
        self._timer.cancel()

    def writable(self) -> None:
        if self._upper is not None:
            self._upper.writable()

    def closed(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._gone()
        self._refuse.discard(id(self._object))
        if self._upper is not None:
            self._upper.closed(error)


class WrongPort:
    """The site of requests without TLS."""

    def answer(self, request: Request, out: Out) -> Exchange | None:
        answers.refuse(497, request, out)
        return None
