"""TLS 1.3 (1.2 for old middle boxes) with ALPN h2, as a web server's port.

The client does not verify the server's certificate: the Noise handshake inside authenticates the node, and a
certificate that could be verified would name it. So TLS here is camouflage, never the source of security.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
from collections.abc import Callable, Mapping

from phantomband.core.errors import Refused
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls.connection import TlsConnection
from phantomband.transports.tls.identity import Identity, RandomSource, hostname

ALPN = ["h2", "http/1.1"]

SNI_PARAMETER = "sni"
"""Address parameter: the name that the server's certificate is for."""

HANDSHAKE_TIMEOUT = 10.0
"""Seconds a client has to finish its TLS handshake with us."""

MAX_HANDSHAKES = 512
"""TLS handshakes under way on one listener; one more connection is closed unanswered."""

Settled = Callable[[Exception | None], None]


class TlsTransport(Transport):
    """TLS over TCP.

    Args:
        random: source of the server's name, of names for servers that published none, and of record cuts.
    """

    name = "tls"

    def __init__(self, random: RandomSource = os.urandom) -> None:
        self._tcp = TcpTransport()
        self._random = random
        self._buffer = read_buffer()
        self._client = _client_context()
        self._identity: Identity | None = None

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Exception | None] = loop.create_future()
        upper: list[TlsConnection] = []
        name = address.parameters.get(SNI_PARAMETER) or hostname(self._random)

        def settle(error: Exception | None) -> None:
            if not settled.done():
                settled.set_result(error)

        def connected(lower: Connection) -> TlsConnection:
            upper.append(self._over(lower, accept, settle, name))
            return upper[0]

        try:
            async with asyncio.timeout(timeout):
                await self._tcp.dial(address, connected, timeout)
                upper[0].start()
                failure = await settled
        except BaseException as error:
            for connection in upper:
                connection.abort()
            if isinstance(error, TimeoutError):
                raise Refused(f"no TLS handshake within {timeout} seconds") from None
            raise
        if failure is not None:
            raise Refused(f"no TLS handshake: {type(failure).__name__}")
        return upper[0]

    def _over(self, lower: Connection, accept: Accept, settled: Settled, name: str | None) -> TlsConnection:
        """A TLS connection over a TCP one: a client's towards `name`, or a server's."""
        assert isinstance(lower, StreamConnection)  # noqa: S101  (our own TcpTransport gives no other)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self._client if name else self._server
        tls = context.wrap_bio(incoming, outgoing, server_side=name is None, server_hostname=name)
        return TlsConnection(lower, tls, incoming, outgoing, accept, settled, self._buffer, self._random)

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        if self._identity is None:
            self._identity = Identity(self._random, datetime.datetime.now(datetime.UTC))
            self._server = _server_context(self._identity, self._random(16).hex().encode())
        loop = asyncio.get_running_loop()
        shaking: set[asyncio.TimerHandle] = set()

        def connected(lower: Connection) -> TlsConnection:
            patience = loop.call_later(HANDSHAKE_TIMEOUT, lower.abort)
            if len(shaking) >= MAX_HANDSHAKES:
                lower.abort()
            shaking.add(patience)

            def settled(error: Exception | None) -> None:
                patience.cancel()
                shaking.discard(patience)

            return self._over(lower, accept, settled, None)

        return await self._tcp.listen(host, port, connected)

    def parameters(self) -> Mapping[str, str]:
        return {SNI_PARAMETER: self._identity.hostname} if self._identity is not None else {}


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(ALPN)
    return context


def _server_context(identity: Identity, password: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    identity.load_into(context, password)
    return context
