"""A connection whose receiver pauses it while it is being made, under each of the event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.tcp.transport import TcpTransport

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
SIZE = 300_000
TURNS = 20


class End:
    def __init__(self, connection: Connection, paused: bool = False) -> None:
        self.connection, self.data, self.changed = connection, bytearray(), asyncio.Event()
        if paused:
            connection.pause_reading()

    def received(self, data: Buffer) -> None:
        self.data += data
        self.changed.set()

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...

    async def until(self, size: int) -> None:
        while len(self.data) < size:
            self.changed.clear()
            await self.changed.wait()


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("who", ["listener", "dialler"])
def test_nothing_is_read_before_it_resumes(new_loop: Callable[[], asyncio.AbstractEventLoop], who: str) -> None:
    async def main() -> None:
        accepted: list[End] = []
        came = asyncio.Event()

        def accept(connection: Connection) -> End:
            accepted.append(End(connection, paused=who == "listener" and not accepted))
            came.set()
            return accepted[-1]

        dialled: list[End] = []

        def dial(connection: Connection) -> End:
            dialled.append(End(connection, paused=who == "dialler" and not dialled))
            return dialled[-1]

        transport = TcpTransport()
        listener = await transport.listen("127.0.0.1", 0, accept)
        address = Address("tcp", "127.0.0.1", listener.port)
        for _ in range(2):
            came.clear()
            await transport.dial(address, dial, 10)
            await came.wait()
        paused, writer = (accepted[0], dialled[0]) if who == "listener" else (dialled[0], accepted[0])
        writer.connection.write(bytes(SIZE))
        for turn in range(TURNS):  # the other pair's bytes pass it by
            dialled[1].connection.write(b"x")
            await accepted[1].until(turn + 1)
        assert not paused.data
        paused.connection.resume_reading()
        await paused.until(SIZE)
        for end in (*dialled, *accepted):
            end.connection.abort()
        await listener.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), 30))
