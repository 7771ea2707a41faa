"""QUIC with ALPN h3 (aioquic), as a browser and a web server speak it; one stream a connection.

The client does not verify the server's certificate: the Noise handshake inside authenticates the node, and
makes the link post-quantum, which aioquic's own key exchange is not.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration

from phantomband.core.errors import Refused
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport
from phantomband.transports.quic.bridge import Fate, adopt, socket_pair
from phantomband.transports.quic.protocol import WINDOW_BYTES, LinkProtocol, WindowedConnection
from phantomband.transports.quic.thread import on_quic_loop
from phantomband.transports.tcp.connection import read_buffer
from phantomband.transports.tcp.transport import cannot_listen, reason, require_literal
from phantomband.transports.tls.identity import Identity, RandomSource, hostname

ALPN = ["h3"]

SNI_PARAMETER = "sni"
"""Address parameter: the name that the server's certificate is for."""

IDLE_TIMEOUT = 90.0
"""Seconds without a packet after which a connection is dead: four keep-alives lost."""

DATAGRAM_BYTES = 1350
"""QUIC payload of a datagram: our choice, fits an Ethernet path with a tunnel in it."""

SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
"""Of the UDP socket: a burst that finds it full is lost and halves the sender's rate."""


def _configuration(is_client: bool, server_name: str | None) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=ALPN,
        server_name=server_name,
        verify_mode=ssl.CERT_NONE,
        idle_timeout=IDLE_TIMEOUT,
        max_datagram_size=DATAGRAM_BYTES,
        max_data=2 * WINDOW_BYTES,
        max_stream_data=WINDOW_BYTES,
    )


def _udp_socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    return sock


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


async def _dial(address: Address, name: str, theirs: socket.socket) -> Fate:
    """On the QUIC thread: connects and joins the stream to `theirs`."""
    sock = _udp_socket(address.host)
    quic = WindowedConnection(configuration=_configuration(True, name))
    try:
        _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _ClientProtocol(quic, lambda _: None), sock=sock
        )
    except BaseException:
        sock.close()
        raise
    try:
        protocol.connect((address.host, address.port))
        await protocol.wait_connected()
        await protocol.join(theirs)
    except BaseException:
        protocol.close()
        protocol.close_socket()
        raise
    return protocol.fate


MAX_CONNECTION_IDS = 8192
"""Connection ids of one listener; a connection has up to eight, so this is at least 1,024 connections."""


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

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        try:
            super().datagram_received(data, addr)
        except ConnectionRefusedError:
            return
        if self.retiring:
            self._leave_if_idle()

    def _connection_terminated(self, protocol: Any) -> None:
        super()._connection_terminated(protocol)
        if self.retiring:
            self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if not self._protocols and self._transport is not None:
            self._transport.close()


class QuicListener(Listener):
    def __init__(self, server: _Server, port: int) -> None:
        self._server = server
        self._port = port

    @property
    def port(self) -> int:
        return self._port

    async def close(self) -> None:
        async def retire() -> None:
            self._server.retire()

        await on_quic_loop(retire())


class QuicTransport(Transport):
    """QUIC on a thread of its own, bridged to the loop that dials and listens.

    Args:
        random: source of the server's name and of names for servers that published none.
    """

    name = "quic"

    def __init__(self, random: RandomSource = os.urandom) -> None:
        self._random = random
        self._buffer = read_buffer()
        self._identity: Identity | None = None

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        require_literal(address.host)
        name = address.parameters.get(SNI_PARAMETER) or hostname(self._random)
        ours, theirs = socket_pair()
        try:
            async with asyncio.timeout(timeout):
                fate = await on_quic_loop(_dial(address, name, theirs))
        except BaseException as error:
            ours.close()
            theirs.close()
            if isinstance(error, TimeoutError):
                raise Refused(f"no QUIC handshake within {timeout} seconds") from None
            if isinstance(error, OSError):
                raise Refused(f"no QUIC handshake: {reason(error)}") from None
            raise
        return await adopt(ours, accept, self._buffer, fate)

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        if self._identity is None:
            self._identity = Identity(self._random, datetime.datetime.now(datetime.UTC))
        loop = asyncio.get_running_loop()

        def ready(protocol: LinkProtocol) -> None:
            """On the QUIC thread: a client's handshake is complete."""
            ours, theirs = socket_pair()
            asyncio.run_coroutine_threadsafe(adopt(ours, accept, self._buffer, protocol.fate), loop)
            asyncio.run_coroutine_threadsafe(protocol.join(theirs), asyncio.get_running_loop())

        async def bind() -> tuple[_Server, int]:
            sock = _udp_socket(host)
            try:
                sock.bind((host, port))
            except BaseException:
                sock.close()
                raise
            _, server = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Server(configuration=self._server(), create_protocol=_protocol_maker(ready)),
                sock=sock,
            )
            server.limit()
            return server, sock.getsockname()[1]

        try:
            server, bound = await on_quic_loop(bind())
        except OSError as error:
            raise cannot_listen(port, error) from None
        return QuicListener(server, bound)

    def _server(self) -> QuicConfiguration:
        assert self._identity is not None  # noqa: S101  (listen has made it)
        configuration = _configuration(False, None)
        configuration.certificate = self._identity.certificate
        configuration.private_key = self._identity.key
        return configuration

    def parameters(self) -> Mapping[str, str]:
        return {SNI_PARAMETER: self._identity.hostname} if self._identity is not None else {}


def _protocol_maker(ready: Any) -> Any:
    """What QuicServer calls for each new connection."""

    def make(quic: Any, **_: Any) -> LinkProtocol:
        return LinkProtocol(quic, ready)

    return make
