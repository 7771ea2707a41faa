"""Dialling a connection over a TCP connection: one handshake, one deadline, nothing left over when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Address, Connection
from phantomband.transports.layered import LayeredConnection, Settled
from phantomband.transports.tcp.connection import StreamConnection
from phantomband.transports.tcp.transport import TcpTransport

L = TypeVar("L", bound=LayeredConnection)


async def dial_over(
    tcp: TcpTransport,
    address: Address,
    timeout: float,
    what: str,
    over: Callable[[StreamConnection, Settled], L],
    start: Callable[[L], None],
) -> L:
    """What `over` made of the TCP connection to `address`, once it was settled.

    Args:
        what: name of the handshake, for people.
        over: makes the connection; is given where to say how the handshake ended. One that failed closes itself.
        start: called when TCP is connected.

    Raises:
        Refused: no connection, or no handshake, within `timeout` seconds.
    """
    settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    upper: list[L] = []

    def settle(error: Exception | None) -> None:
        if not settled.done():
            settled.set_result(error)

    def connected(lower: Connection) -> L:
        assert isinstance(lower, StreamConnection)  # noqa: S101  (our own TcpTransport gives no other)
        upper.append(over(lower, settle))
        return upper[0]

    try:
        async with asyncio.timeout(timeout):
            await tcp.dial(address, connected, timeout)
            start(upper[0])
            failure = await settled
    except BaseException as error:
        for connection in upper:
            connection.abort()
        if isinstance(error, TimeoutError):
            raise Refused(f"no {what} within {timeout} seconds") from None
        raise
    if failure is not None:
        why = str(failure) if isinstance(failure, Malformed) else type(failure).__name__
        raise Refused(f"no {what}: {why}")
    return upper[0]
