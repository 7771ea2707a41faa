"""TLS over TCP for what speaks HTTP/2 inside: a browser's ClientHello, a server's context, and nothing of our own."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Mapping
from pathlib import Path

from phantomband.core.errors import UserError
from phantomband.transports.base import Accept, Address, Connection, Listener
from phantomband.transports.browser.persona import Persona
from phantomband.transports.browser.tls import PROFILE, Use, client_context
from phantomband.transports.dialing import dial_over
from phantomband.transports.layered import Settled
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.proxy import Proxy
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls_layer.connection import TlsConnection
from phantomband.transports.tls_layer.identity import Identity, RandomSource, hostname

ALPN = ["h2", "http/1.1"]

SNI_PARAMETER = "sni"
"""Address parameter: the name that the server's certificate is for."""

HANDSHAKE_TIMEOUT = 10.0
"""Seconds a client has to finish its TLS handshake with us."""

MAX_HANDSHAKES = 512
"""TLS handshakes under way on one listener; one more connection is closed unanswered."""


class TlsLayer:
    """Both ends of it.

    Args:
        random: source of the server's name, and of names for servers that published none.
        server: with an operator's own certificate; None: one made at the start.
        proxy: dialled instead of each server.
        persona: the browser whose ClientHello a client sends.
    """

    def __init__(
        self,
        random: RandomSource,
        server: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        persona: Persona | None = None,
    ) -> None:
        self._tcp, self._random = TcpTransport(proxy), random
        self._buffer = read_buffer()
        self._client = client_context(Use.HTTPS, persona.tls if persona is not None else PROFILE)
        self._server = server
        self._identity: Identity | None = None

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        """As `Transport.dial`. Raises: Refused."""
        name = address.parameters.get(SNI_PARAMETER) or hostname(self._random)

        def over(lower: StreamConnection, settled: Settled) -> TlsConnection:
            return self._over(lower, self._client, accept, settled, name)

        return await dial_over(self._tcp, address, timeout, "TLS handshake", over, TlsConnection.start)

    def _over(
        self, lower: StreamConnection, context: ssl.SSLContext, accept: Accept, settled: Settled, name: str | None
    ) -> TlsConnection:
        """Args: name: of the server, for a client; None: the server's end."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=name is None, server_hostname=name)
        made = TlsConnection(lower, tls, incoming, outgoing, accept, settled, self._buffer, self._random)
        made.cuts = False
        return made

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        """As `Transport.listen`. Raises: UserError."""
        if self._server is None:
            self._identity = Identity(self._random, datetime.datetime.now(datetime.UTC))
            self._server = _server_context()
            self._identity.load_into(self._server, self._random(16).hex().encode())
        server, loop = self._server, asyncio.get_running_loop()
        shaking: set[asyncio.TimerHandle] = set()

        def connected(lower: Connection) -> TlsConnection:
            assert isinstance(lower, StreamConnection)  # noqa: S101  (our own TcpTransport gives no other)
            patience = loop.call_later(HANDSHAKE_TIMEOUT, lower.abort)
            if len(shaking) >= MAX_HANDSHAKES:
                lower.abort()
            shaking.add(patience)

            def settled(error: Exception | None) -> None:
                patience.cancel()
                shaking.discard(patience)

            return self._over(lower, server, accept, settled, None)

        return await self._tcp.listen(host, port, connected)

    def parameters(self) -> Mapping[str, str]:
        """What others need to dial."""
        return {SNI_PARAMETER: self._identity.hostname} if self._identity is not None else {}


def operators_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's, with a chain and a key in PEM files.

    Raises:
        UserError: they cannot be read, or do not belong together.
    """
    context = _server_context()
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise UserError(
            f"{certificate}, {key}: cannot be used as certificate and key: {why}. "
            "Both must be PEM files that this user can read"
        ) from None
    return context


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    return context
