"""TCP: dial and listen. Nothing is sent that the link above did not write, so there is nothing to probe."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Mapping

from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.proxy import Proxy, ProxyHandshake

BACKLOG = 1024
"""Connections the kernel holds until we accept them (Linux caps it at net.core.somaxconn)."""


def require_literal(host: str) -> None:
    """Names are never resolved here: the query would tell the local network where we are going.

    Raises:
        Refused: `host` is not an IPv4 or IPv6 address.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise Refused("the host is not an IP address; names are not resolved by transports") from None


def reason(error: OSError) -> str:
    """What went wrong, without the address that asyncio puts into its messages."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def cannot_listen(port: int, error: OSError) -> UserError:
    return UserError(
        f"cannot listen on port {port}: {reason(error)}. Choose another port or address, or stop what uses it"
    )


class TcpListener(Listener):
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        self._port: int = server.sockets[0].getsockname()[1]

    @property
    def port(self) -> int:
        return self._port

    def stop(self) -> None:
        """Stops listening, at once."""
        self._server.close()

    async def close(self) -> None:
        self.stop()


class TcpTransport(Transport):
    """Plain TCP. asyncio sets TCP_NODELAY; socket buffers are left to the kernel, which sizes them by
    need.

    Args: proxy: what is dialled instead of each address, and asked to connect there.
    """

    name = "tcp"

    def __init__(self, proxy: Proxy | None = None) -> None:
        self._buffer = read_buffer()
        self._proxy = proxy

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        require_literal(address.host)
        if self._proxy is not None:
            return await self._dial_by(self._proxy, address, accept, timeout)
        return await self._connect(address.host, address.port, accept, timeout, "no connection")

    async def _connect(self, host: str, port: int, accept: Accept, timeout: float, what: str) -> StreamConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(lambda: StreamConnection(accept, self._buffer), host, port)
        except TimeoutError:
            raise Refused(f"{what} within {timeout} seconds") from None
        except OSError as error:
            raise Refused(f"{what}: {reason(error)}") from None
        return connection

    async def _dial_by(self, proxy: Proxy, address: Address, accept: Accept, timeout: float) -> Connection:
        settled: asyncio.Future[Malformed | None] = asyncio.get_running_loop().create_future()
        shakes: list[ProxyHandshake] = []

        def settle(error: Malformed | None) -> None:
            if not settled.done():
                settled.set_result(error)

        def attach(connection: Connection) -> ProxyHandshake:
            assert isinstance(connection, StreamConnection)  # noqa: S101  (made by _connect)
            shakes.append(ProxyHandshake(connection, proxy, address, accept, settle))
            return shakes[0]

        connection: StreamConnection | None = None
        try:
            async with asyncio.timeout(timeout):
                connection = await self._connect(proxy.host, proxy.port, attach, timeout, "no connection to the proxy")
                shakes[0].start()
                failure = await settled
        except BaseException as error:
            if connection is not None:
                connection.abort()
            if isinstance(error, TimeoutError):
                raise Refused(f"the proxy did not connect within {timeout} seconds") from None
            raise
        if failure is not None:
            raise Refused(f"the proxy: {failure}") from None
        return connection

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: StreamConnection(accept, self._buffer),
                host,
                port,
                backlog=BACKLOG,
                reuse_address=True,
            )
        except OSError as error:
            raise cannot_listen(port, error) from None
        return TcpListener(server)

    def parameters(self) -> Mapping[str, str]:
        return {}
