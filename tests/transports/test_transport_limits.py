"""Connections that never finish their handshake are bounded at every listener."""

from __future__ import annotations

import asyncio
import socket

import pytest
from phantomband.core.errors import Refused
from phantomband.transports.base import Address, Connection
from phantomband.transports.quic import transport as quic
from phantomband.transports.registry import make
from phantomband.transports.tls import transport as tls


class Silent:
    """Takes whatever comes."""

    def received(self, data: object) -> None: ...

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


def accept(connection: Connection) -> Silent:
    return Silent()


def test_tls_handshakes_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 4)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        listener = await make("tls").listen("127.0.0.1", 0, accept)
        held = [await connected(loop, listener.port) for _ in range(4)]
        refused = await connected(loop, listener.port)
        with refused:
            async with asyncio.timeout(60):
                try:
                    assert await loop.sock_recv(refused, 1) == b""
                except ConnectionResetError:
                    pass
        for s in held:
            s.close()
        client = await patiently(listener.port)
        client.abort()
        await listener.close()

    asyncio.run(scenario())


async def connected(loop: asyncio.AbstractEventLoop, port: int) -> socket.socket:
    s = socket.socket()
    s.setblocking(False)
    await loop.sock_connect(s, ("127.0.0.1", port))
    return s


async def patiently(port: int) -> Connection:
    """Once the held ones are gone, a real client is served."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await make("tls").dial(Address("tls", "127.0.0.1", port), accept, 5)
            except Refused:
                continue


def test_quic_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "MAX_CONNECTION_IDS", 0)

    async def scenario() -> None:
        listener = await make("quic").listen("127.0.0.1", 0, accept)
        with pytest.raises(Refused):
            await make("quic").dial(Address("quic", "127.0.0.1", listener.port), accept, 1)
        await listener.close()

    asyncio.run(scenario())
