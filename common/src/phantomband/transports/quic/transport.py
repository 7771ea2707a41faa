"""QUIC with ALPN h3 (the `qh3` package), as a browser and a web server speak it. The port is an ordinary HTTP/3 web
site's, as nginx has it (`gate.py`), to whoever does not begin with the server's secret.

The client does not verify the server's certificate: the Noise handshake inside authenticates the node.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qh3._hazmat import CryptoError
from qh3.quic.configuration import QuicConfiguration

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport, one_setting
from phantomband.transports.quic.gate import Gate, GateProtocol
from phantomband.transports.quic.library import CONNECTION_ID_BYTES, HeldConnection
from phantomband.transports.quic.link import ClientProtocol
from phantomband.transports.quic.retry import HalfOpen, RetryTokens
from phantomband.transports.quic.server import QuicListener, Server
from phantomband.transports.quic.stream import WINDOW_BYTES
from phantomband.transports.quic.udp import endpoint, udp_socket
from phantomband.transports.quic.visitor import Rooms
from phantomband.transports.tcp.transport import cannot_listen, reason, require_literal
from phantomband.transports.tls_layer.identity import RandomSource, hostname
from phantomband.transports.website.certificate import Certificate
from phantomband.transports.website.knock import (
    KNOCK_PARAMETER,
    SNI_PARAMETER,
    Secret,
    knock_untrusted,
    secret_for,
)
from phantomband.transports.website.options import Options
from phantomband.transports.website.port import site_of
from phantomband.transports.website.server import KEEP_SECONDS, Visitors

ALPN = ["h3"]

KNOWN = ("site", "cert", "key", KNOCK_PARAMETER, SNI_PARAMETER)
"""Parameters of a listening address; `website/options.py` says what they mean."""

IDLE_TIMEOUT = KEEP_SECONDS
"""Seconds without a packet after which a connection is dead: three keep-alives lost. nginx has keepalive_timeout here,
too."""

DATAGRAM_BYTES = 1350
"""QUIC payload of a datagram: our choice, fits an Ethernet path with a tunnel in it."""

logging.getLogger("quic").setLevel(logging.CRITICAL + 1)  # it logs what peers say


def _configuration(is_client: bool, server_name: str | None) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=ALPN,
        server_name=server_name,
        verify_mode=ssl.CERT_NONE,
        idle_timeout=IDLE_TIMEOUT,
        connection_id_length=CONNECTION_ID_BYTES,
        max_datagram_size=DATAGRAM_BYTES,
        probe_datagram_size=False,
        max_data=2 * WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
    )


class QuicTransport(Transport):
    """QUIC on the loop that dials and listens.

    Args:
        random: source of secrets, and of names for servers that published none.
        clock: seconds since 1970.
    """

    name = "quic"

    def __init__(self, random: RandomSource = os.urandom, clock: Callable[[], float] = time.time) -> None:
        self._random, self._clock = random, clock
        self._options = Options()
        self._secret: Secret | None = None

    def configure(self, folder: Path, options: Mapping[str, str]) -> None:
        """The secret is that in `folder`/quic.secret; options: `KNOWN`."""
        parsed, secret = Options.parse(options, self.name, KNOWN), secret_for(self.name, folder, options, self._random)
        one_setting(self.name, self._secret and (self._options, self._secret), (parsed, secret))
        self._options, self._secret = parsed, secret

    def parameters(self) -> Mapping[str, str]:
        return self._secret.parameters if self._secret is not None else {}

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        require_literal(address.host)
        try:
            knock = knock_untrusted(address.parameters)
        except Malformed as e:
            raise Refused(str(e)) from None
        name = address.parameters.get(SNI_PARAMETER) or hostname(self._random)
        settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if not settled.done():
                settled.set_result(error)

        quic = HeldConnection(configuration=_configuration(True, name))
        protocol: ClientProtocol = await endpoint(
            lambda: ClientProtocol(quic, accept, settle, knock), udp_socket(address.host)
        )
        try:
            async with asyncio.timeout(timeout):
                protocol.connect((address.host, address.port))
                failure = await settled
        except BaseException as error:
            protocol.close()
            protocol.close_socket()
            if isinstance(error, TimeoutError):
                raise Refused(f"no QUIC handshake within {timeout} seconds") from None
            if isinstance(error, OSError):
                raise Refused(f"no QUIC handshake: {reason(error)}") from None
            raise
        if failure is not None or protocol.stream is None:
            raise Refused(f"no QUIC handshake: {type(failure).__name__}")
        return protocol.stream

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        secret = self._secret = self._secret or secret_for(self.name, None, {}, self._random)
        configuration = self._server(secret.name)
        listening: list[Listener] = []
        site = site_of(self._options, self._clock, lambda: listening[0].port)
        rooms = Rooms(site, Visitors(), self._clock)
        sock = udp_socket(host)
        try:
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            raise cannot_listen(port, error) from None

        def make(quic: Any, **_: Any) -> GateProtocol:
            """What QuicServer calls for each new connection."""
            return GateProtocol(quic, Gate(secret.knock, accept, rooms, server.forget, half_open.discard))

        clock = asyncio.get_running_loop().time
        half_open, tokens = HalfOpen(clock), RetryTokens(self._random, clock)
        server: Server = await endpoint(
            lambda: Server(configuration=configuration, create_protocol=make, tokens=tokens, half_open=half_open), sock
        )
        server.limit()
        listening.append(QuicListener(server))
        return listening[0]

    def _server(self, name: str) -> QuicConfiguration:
        """Raises: UserError: the certificate cannot be used."""
        certificate = Certificate(self.name, self._options, name, self._random, self._clock())
        configuration = _configuration(False, None)
        try:
            configuration.load_cert_chain(*certificate.pem())
        except (ValueError, IndexError, CryptoError) as e:
            raise certificate.cannot_use(type(e).__name__) from None
        return configuration
