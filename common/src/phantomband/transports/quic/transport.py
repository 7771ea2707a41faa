"""QUIC with ALPN h3 (the `qh3` package), as a browser and a web server speak it; one stream a connection.

The client does not verify the server's certificate: the Noise handshake inside authenticates the node.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any, cast

from cryptography.hazmat.primitives import serialization
from qh3.asyncio.server import QuicServer
from qh3.quic.configuration import QuicConfiguration

from phantomband.core.errors import Refused
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport
from phantomband.transports.quic.stream import WINDOW_BYTES, HeldConnection, LinkProtocol
from phantomband.transports.quic.udp import endpoint, udp_socket
from phantomband.transports.tcp.transport import cannot_listen, reason, require_literal
from phantomband.transports.tls.identity import Identity, RandomSource, hostname

ALPN = ["h3"]

SNI_PARAMETER = "sni"
"""Address parameter: the name that the server's certificate is for."""

IDLE_TIMEOUT = 90.0
"""Seconds without a packet after which a connection is dead: four keep-alives lost."""

DATAGRAM_BYTES = 1350
"""QUIC payload of a datagram: our choice, fits an Ethernet path with a tunnel in it."""

CONNECTION_ID_BYTES = 8
"""Of our own connection ids: where short headers have them, behind the first byte (RFC 9000, section 17.3)."""

MAX_CONNECTION_IDS = 8192
"""Connection ids of one listener; a connection has up to eight, so this is at least 1,024 connections."""

Settled = Callable[[Exception | None], None]

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


class _ClientProtocol(LinkProtocol):
    """Owns its UDP socket and closes it with the connection: a server that missed our close is told by
    ICMP."""

    def _finish(self, error: Exception | None) -> None:
        super()._finish(error)
        self._loop.call_soon(self.close_socket)

    def close_socket(self) -> None:
        self.transmit()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        guarded(super().datagram_received, data, addr)

    def datagrams_received(self, data: list[bytes], addr: Any) -> None:
        guarded(super().datagrams_received, data, addr)


class _Server(QuicServer):
    """Takes no new connections once it is retiring, and goes with the last one it has."""

    retiring = False

    def retire(self) -> None:
        self.retiring = True
        self._create_protocol = self._refuse
        self._leave_if_idle()

    def limit(self) -> None:
        """No more than MAX_CONNECTION_IDS are remembered; a new connection beyond that gets no answer."""
        create = self._create_protocol

        def limited(*arguments: Any, **named: Any) -> Any:
            if len(self._protocols) >= MAX_CONNECTION_IDS:
                raise ConnectionRefusedError
            return create(*arguments, **named)

        self._create_protocol = limited

    @property
    def port(self) -> int:
        """The port that is bound."""
        assert self._transport is not None  # noqa: S101  (there is one from the beginning)
        return int(self._transport.get_extra_info("sockname")[1])

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        guarded(super().datagram_received, data, addr)
        if self.retiring:
            self._leave_if_idle()

    def datagrams_received(self, data: list[bytes], addr: Any) -> None:
        """Datagrams of one address that came together: those of one connection are handed on together."""
        run: list[bytes] = []
        owner: LinkProtocol | None = None
        for datagram in data:
            known = self._known(datagram)
            if run and known is not owner:
                guarded(owner.datagrams_received, run, addr)  # type: ignore[union-attr]
                run = []
            owner = known
            if known is None:
                self.datagram_received(datagram, addr)
            else:
                run.append(datagram)
        if run and owner is not None:
            guarded(owner.datagrams_received, run, addr)

    def _known(self, datagram: bytes) -> LinkProtocol | None:
        """Whose it is, if it has a short header."""
        if not datagram or datagram[0] & 0x80:
            return None
        return cast(LinkProtocol | None, self._protocols.get(datagram[1 : 1 + CONNECTION_ID_BYTES]))

    def _connection_terminated(self, protocol: Any) -> None:
        super()._connection_terminated(protocol)
        if self.retiring:
            self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if not self._protocols and self._transport is not None:
            self._transport.close()


def guarded(function: Callable[..., None], data: Any, addr: Any) -> None:
    """Whatever a datagram makes the library raise, a panic of its native part included, ends with the datagram."""
    try:
        function(data, addr)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            raise


class QuicListener(Listener):
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._port = server.port

    @property
    def port(self) -> int:
        return self._port

    async def close(self) -> None:
        self._server.retire()


class QuicTransport(Transport):
    """QUIC on the loop that dials and listens.

    Args:
        random: source of the server's name and of names for servers that published none.
    """

    name = "quic"

    def __init__(self, random: RandomSource = os.urandom) -> None:
        self._random = random
        self._identity: Identity | None = None

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        require_literal(address.host)
        name = address.parameters.get(SNI_PARAMETER) or hostname(self._random)
        settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if not settled.done():
                settled.set_result(error)

        quic = HeldConnection(configuration=_configuration(True, name))
        protocol: _ClientProtocol = await endpoint(
            lambda: _ClientProtocol(quic, accept, settle), udp_socket(address.host)
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
        if self._identity is None:
            self._identity = Identity(self._random, datetime.datetime.now(datetime.UTC))

        def make(quic: Any, **_: Any) -> LinkProtocol:
            """What QuicServer calls for each new connection."""
            return LinkProtocol(quic, accept, lambda error: None)

        sock = udp_socket(host)
        try:
            sock.bind((host, port))
        except OSError as error:
            sock.close()
            raise cannot_listen(port, error) from None
        server: _Server = await endpoint(lambda: _Server(configuration=self._server(), create_protocol=make), sock)
        server.limit()
        return QuicListener(server)

    def _server(self) -> QuicConfiguration:
        assert self._identity is not None  # noqa: S101  (listen has made it)
        configuration = _configuration(False, None)
        key = self._identity.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        configuration.load_cert_chain(self._identity.certificate.public_bytes(serialization.Encoding.PEM), key)
        return configuration

    def parameters(self) -> Mapping[str, str]:
        return {SNI_PARAMETER: self._identity.hostname} if self._identity is not None else {}
