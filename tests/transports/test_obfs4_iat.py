"""Connections whose segments wait for their moment: closing, aborting, congestion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from phantomband.transports.base import WRITE_HIGH_WATER, Address, Buffer, Connection
from phantomband.transports.obfs4.transport import Obfs4Transport

PATIENCE = 60.0


class End:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.data = bytearray()
        self.writables = 0
        self.ends: list[Exception | None] = []
        self.ended = asyncio.Event()
        self.writable_again = asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.data += data

    def writable(self) -> None:
        self.writables += 1
        self.writable_again.set()

    def closed(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.ended.set()


@asynccontextmanager
async def pair(folder: Path, mode: str) -> AsyncIterator[tuple[End, End]]:
    accepted: asyncio.Queue[End] = asyncio.Queue()
    dialled: list[End] = []

    def accept(connection: Connection) -> End:
        accepted.put_nowait(end := End(connection))
        return end

    def dial(connection: Connection) -> End:
        dialled.append(End(connection))
        return dialled[0]

    ours = Obfs4Transport()
    ours.configure(folder, {"iat_mode": mode})
    async with asyncio.timeout(PATIENCE):
        listener = await ours.listen("127.0.0.1", 0, accept)
        await Obfs4Transport().dial(Address("obfs4", "127.0.0.1", listener.port, ours.parameters()), dial, 10)
        there = await accepted.get()
        yield dialled[0], there
        for end in (dialled[0], there):
            end.connection.abort()
            await end.ended.wait()
            assert len(end.ends) == 1
        await listener.close()


@pytest.mark.parametrize("mode", ["1", "2"])
@pytest.mark.parametrize("closer", [0, 1], ids=["client", "server"])
def test_close_sends_what_waits(mode: str, closer: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, mode) as ends:
            a, b = ends[closer], ends[1 - closer]
            a.connection.write(bytes(40_000))
            await asyncio.sleep(0)
            a.connection.write(bytes(10_000))
            a.connection.close()
            a.connection.write(b"dropped")
            await b.ended.wait()
            assert bytes(b.data) == bytes(50_000)
            assert b.ends == [None]

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["1", "2"])
def test_an_abort_loses_what_waits(mode: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, mode) as (a, b):
            a.connection.write(bytes(200_000))
            await asyncio.sleep(0)
            a.connection.abort()
            await b.ended.wait()
            assert len(b.data) < 200_000

    asyncio.run(scenario())


def test_who_was_congested_is_told_when_it_is_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, "1") as (a, _):
            a.connection.write(bytes(WRITE_HIGH_WATER + 1))
            assert a.connection.congested
            await a.writable_again.wait()
            assert a.writables == 1
            assert a.connection.buffered <= WRITE_HIGH_WATER // 4

    asyncio.run(scenario())
