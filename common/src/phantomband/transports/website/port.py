"""A TCP port that is an ordinary web site's to whoever does not know its secret: TLS as nginx has it, and HTTP/1.1.

What follows the TLS handshake is given to `speak`: the site itself, or somebody who looks for a secret before it. A
request may also take the connection over (`opens`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from phantomband.transports.base import Connection, Listener, Receiver
from phantomband.transports.layered import Lower, Settled
from phantomband.transports.tcp.connection import StreamConnection
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls_layer.connection import TlsConnection
from phantomband.transports.website.backend import Backend, Origin
from phantomband.transports.website.certificate import Certificate
from phantomband.transports.website.front import ALPN, NO_APPLICATION_PROTOCOL, Front, HttpOver, WrongPort
from phantomband.transports.website.http import Request
from phantomband.transports.website.options import Options
from phantomband.transports.website.server import Door, HttpConnection, Upper, Visitors, nothing
from phantomband.transports.website.site import Folder

RandomSource = Callable[[int], bytes]

Speak = Callable[[TlsConnection, Door, StreamConnection], Receiver]
"""What receives the bytes inside TLS. The last is the TCP connection, by which visitors are counted."""


def speak_http(connection: TlsConnection, door: Door, lower: StreamConnection) -> HttpConnection:
    """The site."""
    return HttpConnection(connection, door, lower)


def site_of(options: Options, clock: Callable[[], float], port: Callable[[], int]) -> Folder | Backend:
    """The site that `options` name. Args: clock: seconds since 1970; port: of the listener, once it listens."""
    if isinstance(options.site, Origin):
        return Backend(options.site)
    return Folder(options.site, clock, None if options.plain else port)


class WebPort:
    """How one transport's ports look.

    Args:
        name: of the transport, for people.
        host: the name that our own certificate is for.
        clock: seconds since 1970.
        buffer: where plaintext is put.
    """

    def __init__(
        self,
        name: str,
        options: Options,
        host: str,
        random: RandomSource,
        clock: Callable[[], float],
        buffer: memoryview,
    ) -> None:
        self._name, self._options, self._host = name, options, host
        self._random, self._clock, self._buffer = random, clock, buffer

    async def listen(
        self,
        tcp: TcpTransport,
        host: str,
        port: int,
        speak: Speak = speak_http,
        opens: Callable[[Request, Lower], Upper | None] = nothing,
    ) -> Listener:
        """Raises: UserError: the port cannot be bound, or the certificate cannot be used."""
        refuse: set[int] = set()
        visitors = Visitors()
        listening: list[Listener] = []
        site = site_of(self._options, self._clock, lambda: listening[0].port)
        door = Door(site, opens, visitors, self._clock)
        nobody = Door(WrongPort(), nothing, visitors, self._clock)
        context = None if self._options.plain else self._context(refuse)

        def tls(lower: StreamConnection, http: HttpOver, settled: Settled) -> tuple[TlsConnection, ssl.SSLObject]:
            assert context is not None  # noqa: S101  (a Front is made with one only)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            made = context.wrap_bio(incoming, outgoing, server_side=True)
            return TlsConnection(lower, made, incoming, outgoing, http, settled, self._buffer, self._random), made

        def connected(lower: Connection) -> Front | HttpConnection:
            assert isinstance(lower, StreamConnection)  # noqa: S101  (our own TcpTransport gives no other)
            visitors.add(lower, lower.abort)
            if context is None:
                return HttpConnection(lower, door, lower)

            def inside(connection: Connection) -> Receiver:
                assert isinstance(connection, TlsConnection)  # noqa: S101  (made above)
                connection.cuts = False  # a web server's short answers are one record each
                return speak(connection, door, lower)

            def plain(connection: Connection) -> HttpConnection:
                return HttpConnection(lower, nobody, lower)

            return Front(lower, tls, inside, plain, lambda: visitors.drop(lower), refuse)

        listening.append(await tcp.listen(host, port, connected))
        return listening[0]

    def _context(self, refuse: set[int]) -> ssl.SSLContext:
        """As nginx sets OpenSSL up: its ciphers, the client's order, tickets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("HIGH:!aNULL:!MD5")
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(list(ALPN))

        def named(tls: ssl.SSLObject | ssl.SSLSocket, server_name: str | None, _: ssl.SSLContext) -> int | None:
            return NO_APPLICATION_PROTOCOL if id(tls) in refuse else None

        context.sni_callback = named
        Certificate(self._name, self._options, self._host, self._random, self._clock()).load_into(context)
        return context
