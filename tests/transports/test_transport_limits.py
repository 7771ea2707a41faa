"""Connections that never finish their handshake are bounded at every listener."""

from __future__ import annotations

import asyncio
import socket

import pytest
from phantomband.core.errors import Refused
from phantomband.transports.base import Address, Connection
from phantomband.transports.quic import server as quic
from phantomband.transports.registry import make
from phantomband.transports.website import server as web


class Silent:
    """Takes whatever comes."""

    def received(self, data: object) -> None: ...

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


def accept(connection: Connection) -> Silent:
    return Silent()


@pytest.mark.parametrize("name", ["tls", "websocket"])
def test_visitors_are_bounded_and_keep_no_client_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(web, "MAX_VISITORS", 4)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        transport = make(name)
        listener = await transport.listen("127.0.0.1", 0, accept)
        held = [await connected(loop, listener.port) for _ in range(5)]
        async with asyncio.timeout(60):
            try:
                assert await loop.sock_recv(held[0], 1) == b"", "the one that was quiet longest"
            except ConnectionResetError:
                pass
        address = Address(name, "127.0.0.1", listener.port, transport.parameters())
        client = await make(name).dial(address, accept, 60)
        for s in held:
            s.close()
        client.abort()
        await listener.close()

    asyncio.run(scenario())


async def connected(loop: asyncio.AbstractEventLoop, port: int) -> socket.socket:
    s = socket.socket()
    s.setblocking(False)
    await loop.sock_connect(s, ("127.0.0.1", port))
    return s


def test_quic_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "MAX_CONNECTION_IDS", 0)

    async def scenario() -> None:
        transport = make("quic")
        listener = await transport.listen("127.0.0.1", 0, accept)
        address = Address("quic", "127.0.0.1", listener.port, transport.parameters())
        with pytest.raises(Refused, match="within 1 seconds"):
            await make("quic").dial(address, accept, 1)
        await listener.close()

    asyncio.run(scenario())
