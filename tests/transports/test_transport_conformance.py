"""What every transport must do, on both event loops."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import random
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import WRITE_HIGH_WATER, Address, Buffer, Connection, Listener, Transport
from phantomband.transports.managed.program import Command
from phantomband.transports.managed.transport import Programs
from phantomband.transports.registry import TRANSPORTS, make

PATIENCE = 90.0
DIAL_TIMEOUT = 5.0

Run = Callable[[Coroutine[Any, Any, None]], None]


def open_sockets() -> int:
    """How many descriptors of this process are sockets; one that another thread closes while we look is not counted."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            continue
    return count


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await main
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"

        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(bounded())

    return runner


PROGRAMS = {
    "obfs4proxy": ("obfs4proxy",),
    "phantomband pt": (sys.executable, "-m", "phantomband_cli.main", "pt"),
}
"""Programs that are run as transports, too; those that are not installed are skipped."""


@pytest.fixture(params=[*TRANSPORTS, *PROGRAMS])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    if request.param in TRANSPORTS:
        return make(request.param)
    program, *arguments = PROGRAMS[request.param]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing: install {program}")
    managed = Programs([Command.of(("obfs4",), program, tuple(arguments))], tmp_path).of("obfs4")
    assert managed is not None
    return managed


class End:
    """A receiver that keeps what it was told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.data = bytearray()
        self.writables = 0
        self.ends: list[Exception | None] = []
        self.changed = asyncio.Event()

    def received(self, data: Buffer) -> None:
        assert not self.ends
        self.data += data
        self.changed.set()

    def writable(self) -> None:
        assert not self.ends
        self.writables += 1
        self.changed.set()

    def closed(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            self.changed.clear()
            await self.changed.wait()

    async def until_closed(self) -> None:
        await self.until(lambda: bool(self.ends))


class Echo(End):
    def received(self, data: Buffer) -> None:
        self.connection.write(bytes(data))


class World:
    """One listener, its accepted ends, and dialled ends."""

    def __init__(self, transport: Transport, kind: type[End]) -> None:
        self.transport = transport
        self.kind = kind
        self.accepted: list[End] = []
        self.arrived = asyncio.Event()
        self.dialled: list[End] = []
        self.listener: Listener

    def _accept(self, connection: Connection) -> End:
        self.accepted.append(self.kind(connection))
        self.arrived.set()
        return self.accepted[-1]

    async def listen(self) -> None:
        self.listener = await self.transport.listen("127.0.0.1", 0, self._accept)

    def address(self) -> Address:
        return Address(self.transport.name, "127.0.0.1", self.listener.port, self.transport.parameters())

    async def dial(self) -> End:
        ends: list[End] = []

        def accept(connection: Connection) -> End:
            ends.append(End(connection))
            return ends[0]

        connection = await self.transport.dial(self.address(), accept, DIAL_TIMEOUT)
        assert ends[0].connection is connection
        self.dialled.append(ends[0])
        return ends[0]

    async def pair(self) -> tuple[End, End]:
        """A dialled and its accepted end."""
        count = len(self.accepted)
        end = await self.dial()
        while len(self.accepted) == count:
            self.arrived.clear()
            await self.arrived.wait()
        return end, self.accepted[-1]


@asynccontextmanager
async def world(transport: Transport, kind: type[End] = End) -> AsyncIterator[World]:
    """Closes all that was opened and sees that each receiver is told exactly once and no socket is left."""
    gc.collect()
    before = open_sockets()
    it = World(transport, kind)
    await it.listen()
    try:
        yield it
    finally:
        for end in it.dialled:
            end.connection.resume_reading()
            end.connection.abort()
        for end in it.accepted:
            end.connection.resume_reading()
        await it.listener.close()
        for end in it.dialled + it.accepted:
            await end.until_closed()
            assert len(end.ends) == 1
        await transport.close()
    for _ in range(1000):
        if open_sockets() <= before:
            return
        await asyncio.sleep(0.005)
    pytest.fail("a socket was left open")


def test_a_connection_says_where_it_came_from(run: Run, transport: Transport) -> None:
    async def main() -> None:
        async with world(transport) as it:
            _, accepted = await it.pair()
            assert accepted.connection.peer_ip == b"\x7f\0\0\1"

    run(main())


def test_bytes_come_back_whatever_the_cut(run: Run, transport: Transport) -> None:
    async def main() -> None:
        dice = random.Random(1)
        sent = dice.randbytes(300_000)
        async with world(transport, Echo) as it:
            end = await it.dial()
            at = 0
            while at < len(sent):
                size = dice.choice([1, 7, 2048, 16384, 40_000])
                end.connection.write(memoryview(sent)[at : at + size])
                at += size
                if dice.random() < 0.5:
                    await asyncio.sleep(0)
            await end.until(lambda: len(end.data) >= len(sent))
            assert end.data == sent

    run(main())


def test_megabytes_both_ways(run: Run, transport: Transport) -> None:
    size = 20_000_000

    async def main() -> None:
        dice = random.Random(2)
        forth, back = dice.randbytes(size), dice.randbytes(size)
        async with world(transport) as it:
            a, b = await it.pair()
            a.connection.write(forth[:1])
            await b.until(lambda: bool(b.data))
            a.connection.write(forth[1:])
            b.connection.write(back)
            assert a.connection.congested
            await a.until(lambda: len(a.data) >= size)
            await b.until(lambda: len(b.data) >= size)
            assert hashlib.sha256(a.data).digest() == hashlib.sha256(back).digest()
            assert hashlib.sha256(b.data).digest() == hashlib.sha256(forth).digest()
            await a.until(lambda: a.writables == 1)
            assert a.connection.buffered <= WRITE_HIGH_WATER // 4

    run(main())


def test_a_reader_that_pauses_congests_its_writer(run: Run, transport: Transport) -> None:
    chunk = bytes(64 * 1024)
    limit = 32 * 1024 * 1024  # what the kernel and a transport's windows may hold between them

    async def main() -> None:
        async with world(transport) as it:
            a, b = await it.pair()
            b.connection.pause_reading()
            sent = quiet = seen = 0
            while quiet < 20:  # congested, and staying so
                if a.connection.congested:
                    quiet += 1
                    seen = a.writables
                    await asyncio.sleep(0.005)
                else:
                    quiet = 0
                    a.connection.write(chunk)
                    sent += len(chunk)
                    assert sent < limit, "nothing pushes back"
                    await asyncio.sleep(0)
            held = len(b.data)
            await asyncio.sleep(0.01)
            assert len(b.data) == held
            b.connection.resume_reading()
            await a.until(lambda: a.writables > seen)
            await b.until(lambda: len(b.data) == sent)

    run(main())


def test_close_sends_what_is_queued(run: Run, transport: Transport) -> None:
    async def main() -> None:
        async with world(transport) as it:
            a, b = await it.pair()
            a.connection.write(bytes(1_000_000))
            a.connection.close()
            a.connection.write(b"dropped")
            await b.until_closed()
            assert len(b.data) == 1_000_000
            assert b.ends == [None]
            await a.until_closed()
            assert a.ends == [None]

    run(main())


def test_the_accepting_end_can_close_too(run: Run, transport: Transport) -> None:
    async def main() -> None:
        async with world(transport) as it:
            a, b = await it.pair()
            a.connection.write(b"x")
            await b.until(lambda: bool(b.data))
            b.connection.write(b"bye")
            b.connection.close()
            await a.until_closed()
            assert a.data == b"bye"
            assert a.ends == [None]

    run(main())


def test_abort_ends_both_at_once(run: Run, transport: Transport) -> None:
    async def main() -> None:
        async with world(transport) as it:
            a, b = await it.pair()
            a.connection.write(bytes(8_000_000))
            a.connection.abort()
            await a.until_closed()
            await b.until_closed()
            assert len(b.data) < 8_000_000

    run(main())


def test_many_connections(run: Run, transport: Transport) -> None:
    async def main() -> None:
        async with world(transport, Echo) as it:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(it.dial()) for _ in range(50)]
            ends = [task.result() for task in tasks]
            for i, end in enumerate(ends):
                end.connection.write(bytes([i]) * 3000)
            for i, end in enumerate(ends):
                await end.until(lambda end=end: len(end.data) >= 3000)  # type: ignore[misc]
                assert end.data == bytes([i]) * 3000
            assert len(it.accepted) == 50

    run(main())


def test_a_closed_listener_refuses_but_keeps_its_connections(run: Run, transport: Transport) -> None:
    async def main() -> None:
        async with world(transport, Echo) as it:
            end = await it.dial()
            await it.listener.close()
            with pytest.raises(Refused):
                await transport.dial(it.address(), End, 0.3)
            end.connection.write(b"still here")
            await end.until(lambda: end.data == b"still here")

    run(main())


def test_dialling_a_closed_port_is_refused(run: Run, transport: Transport) -> None:
    async def main() -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        with pytest.raises(Refused) as caught:
            await transport.dial(Address(transport.name, "127.0.0.1", port), End, 0.3)
        assert "127.0.0.1" not in str(caught.value)

    run(main())


def test_names_are_not_looked_up(run: Run, transport: Transport) -> None:
    async def main() -> None:
        with pytest.raises(Refused):
            await transport.dial(Address(transport.name, "localhost", 1), End, 1.0)

    run(main())


def test_a_port_in_use_is_the_users_mistake(run: Run, transport: Transport) -> None:
    async def main() -> None:
        async with world(transport) as it:
            with pytest.raises(UserError, match=str(it.listener.port)):
                await transport.listen("127.0.0.1", it.listener.port, End)

    run(main())


PROBES = {
    "random": random.Random(3).randbytes(1500),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(20),
    "nothing": b"",
}


@pytest.mark.parametrize("probe", list(PROBES))
@pytest.mark.parametrize("name", ["tcp", "tls"])
def test_a_probe_learns_nothing(run: Run, name: str, probe: str) -> None:
    """A TLS port answers what a web server does: an alert, a page for who forgot TLS, or nothing. A tcp port answers
    nothing by itself."""

    async def main() -> None:
        it = World(make(name), End)
        await it.listen()
        reader, writer = await asyncio.open_connection("127.0.0.1", it.listener.port)
        writer.write(PROBES[probe])
        try:
            async with asyncio.timeout(0.05):
                answer = await reader.read()
        except TimeoutError:
            answer = b""
        except ConnectionResetError:
            answer = b""
        if name == "tls" and probe == "http":
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n")
        else:
            assert answer == b"" or (name == "tls" and answer[0] == 21 and len(answer) == 7)
        assert name == "tcp" or not it.accepted
        writer.transport.abort()
        await it.listener.close()
        for end in it.accepted:
            await end.until_closed()
        await asyncio.sleep(0.01)

    run(main())


@pytest.mark.parametrize("probe", list(PROBES))
def test_a_datagram_that_is_not_quic_gets_no_answer(run: Run, probe: str) -> None:
    async def main() -> None:
        it = World(make("quic"), End)
        await it.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(("127.0.0.1", it.listener.port))
            sock.send(bytes([PROBES[probe][0] & 0x7F if PROBES[probe] else 0]) + PROBES[probe][1:])
            await asyncio.sleep(0.02)
            with pytest.raises(BlockingIOError):
                sock.recv(2000)
        assert not it.accepted
        await it.listener.close()

    run(main())
