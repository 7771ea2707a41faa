"""TCP: dial and listen. Nothing is sent that the link above did not write, so there is nothing to probe."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Mapping

from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport
from phantomband.transports.tcp.connection import StreamConnection, read_buffer

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

    async def close(self) -> None:
        self._server.close()


class TcpTransport(Transport):
    """Plain TCP. asyncio sets TCP_NODELAY; socket buffers are left to the kernel, which sizes them by
    need."""

    name = "tcp"

    def __init__(self) -> None:
        self._buffer = read_buffer()

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        require_literal(address.host)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(
                    lambda: StreamConnection(accept, self._buffer), address.host, address.port
                )
        except TimeoutError:
            raise Refused(f"no connection within {timeout} seconds") from None
        except OSError as error:
            raise Refused(f"no connection: {reason(error)}") from None
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
