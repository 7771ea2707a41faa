"""How one QUIC stream's bytes cross between the QUIC thread and the service's loop: a pair of connected
sockets.

    service's loop   StreamConnection == socket pair == Bridge   QUIC thread

The sockets bound what is under way and carry the pressure of a slow end to the other. The reason of a
failure goes in a `Fate`, which the QUIC thread fills before it closes its end.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from phantomband.transports.base import Accept
from phantomband.transports.tcp.connection import StreamConnection

SOCKET_BUFFER_BYTES = 256 * 1024
"""Of each end of the pair."""

PAUSE_BYTES = 512 * 1024
"""What may wait in the QUIC thread for the service's loop; beyond it the peer gets no more credit."""


@dataclass(slots=True)
class Fate:
    """Why the QUIC connection ended, if not in order."""

    error: Exception | None = None


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, non-blocking sockets: for the service's loop, and for the QUIC thread."""
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
    return pair


class BridgedConnection(StreamConnection):
    """The service's end: a `Connection` like any other."""

    def __init__(self, accept: Accept, buffer: memoryview, fate: Fate) -> None:
        super().__init__(accept, buffer)
        self._fate = fate

    def _cause(self) -> Exception | None:
        return self._fate.error


async def adopt(sock: socket.socket, accept: Accept, buffer: memoryview, fate: Fate) -> BridgedConnection:
    """Takes the service's end into the running loop."""
    loop = asyncio.get_running_loop()
    try:
        _, connection = await loop.create_unix_connection(lambda: BridgedConnection(accept, buffer, fate), sock=sock)
    except BaseException:
        sock.close()
        raise
    return connection


class Bridge(asyncio.Protocol):
    """The QUIC thread's end.

    Args:
        outward: takes bytes for the QUIC stream.
        ended: the service closed its end.
        flow: called with False when the service's loop is slow, with True when it has caught up.
    """

    def __init__(
        self, outward: Callable[[bytes], None], ended: Callable[[], None], flow: Callable[[bool], None]
    ) -> None:
        self._outward = outward
        self._ended = ended
        self._flow = flow

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=PAUSE_BYTES, low=PAUSE_BYTES // 4)

    def data_received(self, data: bytes) -> None:
        self._outward(data)

    def pause_writing(self) -> None:
        self._flow(False)

    def resume_writing(self) -> None:
        self._flow(True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
