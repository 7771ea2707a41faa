"""What every lane driver must do, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import uvloop
from phantomband.core.errors import Bug
from phantomband.proto import lane_pb2, lane_pb2_grpc
from phantomband.runtime.lane.base import HIGH_WATER, MAX_FRAME_BYTES, Driver, LanePeer
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.framing import UNIX_HEADER
from phantomband.runtime.lane.grpc_driver import ATTACH_METHOD, SERVER_OPTIONS
from phantomband.runtime.lane.server import LaneServer

PATIENCE = 60.0

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=list(Driver))
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(request.param)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await main
            for _ in range(100):  # gRPC's own tasks end a few turns later
                if asyncio.all_tasks() == {asyncio.current_task()}:
                    return
                await asyncio.sleep(0.001)
            pytest.fail(f"tasks were left behind: {asyncio.all_tasks()}")

        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(bounded())

    return runner


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pb") as name:  # short: a Unix socket's path holds 107 bytes
        yield Path(name)


@dataclass
class Taker:
    """A receiver that keeps everything."""

    peer: LanePeer
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    downs: int = 0

    def frame(self, kind: int, payload: memoryview) -> None:
        assert not self.downs
        self.frames.append((kind, bytes(payload)))
        self.changed.set()

    def down(self) -> None:
        self.downs += 1
        self.changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            self.changed.clear()
            await self.changed.wait()


class Service:
    """A receiving service: a gRPC server with a LaneServer."""

    def __init__(self, folder: Path, incarnation: int) -> None:
        self.takers: list[Taker] = []
        self.lane = LaneServer("relay", incarnation, self._accept, folder)
        self._grpc = grpc.aio.server(options=SERVER_OPTIONS)
        self.lane.add_to(self._grpc)
        self._grpc.add_insecure_port(target(folder))

    def _accept(self, peer: LanePeer) -> Taker:
        self.takers.append(Taker(peer))
        return self.takers[-1]

    async def stop(self) -> None:
        await self.lane.close()
        await self._grpc.stop(None)

    @staticmethod
    @asynccontextmanager
    async def started(folder: Path, incarnation: int) -> AsyncIterator[Service]:
        service = Service(folder, incarnation)
        await service._grpc.start()
        try:
            yield service
        finally:
            await service.stop()


def target(folder: Path) -> str:
    """A TCP port of the test's own.

    Not a Unix socket: gRPC removes its file some time after stop() has returned, even one that a successor
    within the same process has bound anew.
    """
    kept = folder / "port"
    if not kept.exists():
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            kept.write_text(str(sock.getsockname()[1]))
    return f"127.0.0.1:{kept.read_text()}"


class Sender:
    """A LaneClient that notes what it was told."""

    def __init__(self, folder: Path, driver: Driver, incarnation: int = 7, at: str = "") -> None:
        self.told: list[str | int] = []
        self.changed = asyncio.Event()
        me = LanePeer("gateway", incarnation)
        self.lane = LaneClient(at or target(folder), me, driver, self._up, self._down, self._writable)

    def _up(self, peer: LanePeer) -> None:
        assert peer.service == "relay"
        self._tell(peer.incarnation)

    def _down(self) -> None:
        self._tell("down")

    def _writable(self) -> None:
        self._tell("writable")

    def _tell(self, what: str | int) -> None:
        self.told.append(what)
        self.changed.set()

    async def until(self, *told: str | int) -> None:
        while self.told != list(told):
            self.changed.clear()
            await self.changed.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Sender]:
        task = asyncio.ensure_future(self.lane.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), "run() ended of itself"


@asynccontextmanager
async def pair(folder: Path, driver: Driver) -> AsyncIterator[tuple[Sender, Service]]:
    async with Service.started(folder, 1) as service, Sender(folder, driver).running() as sender:
        await sender.lane.wait_up()
        yield sender, service


def test_frames_arrive_whole_in_order_at_all_sizes(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        dice = random.Random(1)
        sizes = [0, 1, 2, 122, 123, 126, 127, 128, 16382, 16383, 16384, MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES]
        sent = [(i, dice.randbytes(size)) for i, size in enumerate(sizes)]
        async with pair(folder, driver) as (sender, service):
            for kind, payload in sent:
                cut = dice.randint(0, len(payload))
                assert sender.lane.send(kind, [payload[:cut], memoryview(payload)[cut:]])
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == len(sent))
            assert taker.frames == sent
            assert taker.peer == LanePeer("gateway", 7)

    run(main())


def test_many_small_and_large_frames_in_a_burst(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        dice = random.Random(2)
        sent = [dice.randbytes(dice.choice([1, 10, 2048, 5000])) for _ in range(10_000)]
        async with pair(folder, driver) as (sender, service):
            for i, payload in enumerate(sent):
                assert sender.lane.send(i % 256, [payload])
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == len(sent))
            assert [payload for _, payload in taker.frames] == sent
            assert sender.lane.buffered == 0 or driver is Driver.GRPC

    run(main())


def test_frames_of_any_size_one_turn_after_another(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        dice = random.Random(3)
        sent = [dice.randbytes(int(2 ** dice.uniform(0, 19.9))) for _ in range(60)]
        async with pair(folder, driver) as (sender, service):
            for i, payload in enumerate(sent):
                assert sender.lane.send(i, [payload])
                await asyncio.sleep(0)
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == len(sent))
            assert taker.frames == list(enumerate(sent))

    run(main())


def test_a_frame_over_the_limit_is_refused(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        async with pair(folder, driver) as (sender, service):
            with pytest.raises(Bug):
                sender.lane.send(1, [bytes(MAX_FRAME_BYTES), b"x"])
            assert sender.lane.send(2, [b"still up"])
            (taker,) = service.takers
            await taker.until(lambda: bool(taker.frames))
            assert taker.frames == [(2, b"still up")]

    run(main())


def test_nothing_is_sent_while_down(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        sender = Sender(folder, driver)
        async with sender.running():
            assert not sender.lane.up
            assert not sender.lane.send(1, [b"lost"])
            async with Service.started(folder, 1) as service:
                await sender.until(1)
                assert sender.lane.up
                assert sender.lane.send(1, [b"arrives"])
                (taker,) = service.takers
                await taker.until(lambda: bool(taker.frames))
                assert taker.frames == [(1, b"arrives")]

    run(main())


def test_a_receiver_that_restarts_is_attached_again(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        sender = Sender(folder, driver)
        async with sender.running():
            async with Service.started(folder, 1) as first:
                await sender.until(1)
                (taker,) = first.takers
            await sender.until(1, "down")
            assert not sender.lane.up
            assert taker.downs == 1
            before = asyncio.get_running_loop().time()
            async with Service.started(folder, 2) as second:
                await sender.until(1, "down", 2)
                assert asyncio.get_running_loop().time() - before < 1
                assert sender.lane.send(9, [b"again"])
                await second.takers[0].until(lambda: bool(second.takers[0].frames))

    run(main())


def test_a_sender_that_restarts_replaces_itself(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        async with Service.started(folder, 1) as service, Sender(folder, driver, 7).running() as old:
            await old.until(1)
            old.lane.send(1, [b"from the old"])
            await service.takers[0].until(lambda: bool(service.takers[0].frames))
            new = Sender(folder, driver, 8)
            task = asyncio.ensure_future(old.until(1, "down"))
            async with new.running():
                await new.until(1)
                assert [taker.peer.incarnation for taker in service.takers][:2] == [7, 8]
                assert service.takers[0].downs == 1
                await task

    run(main())


def test_a_sender_that_goes_away_is_noticed_once(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        async with Service.started(folder, 1) as service:
            async with Sender(folder, driver).running() as sender:
                await sender.until(1)
            assert sender.told == [1, "down"]
            (taker,) = service.takers
            await taker.until(lambda: bool(taker.downs))
        assert taker.downs == 1

    run(main())


def test_what_was_queued_before_the_end_is_not_cut_inside_a_frame(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        async with Service.started(folder, 1) as service:
            async with Sender(folder, driver).running() as sender:
                await sender.until(1)
                for i in range(20):
                    sender.lane.send(i, [bytes([i]) * 50_000])
            (taker,) = service.takers
            await taker.until(lambda: bool(taker.downs))
            assert taker.frames == [(i, bytes([i]) * 50_000) for i in range(len(taker.frames))]

    run(main())


def test_congestion_is_told_and_ends(run: Run, driver: Driver, folder: Path) -> None:
    async def main() -> None:
        async with pair(folder, driver) as (sender, service):
            count = 0
            while sender.lane.buffered <= HIGH_WATER:
                sender.lane.send(0, [bytes(256 * 1024)])
                count += 1
            assert sender.told == [1]
            await sender.until(1, "writable")
            assert sender.lane.buffered < HIGH_WATER // 4
            (taker,) = service.takers
            await taker.until(lambda: len(taker.frames) == count)
            assert sender.told == [1, "writable"]

    run(main())


@pytest.mark.parametrize("messages", [[b""], [b"\x00"], ["hello", b"\x00"], ["hello", b"\x0a\xff"]])
def test_garbage_over_grpc_ends_the_attachment_only(run: Run, folder: Path, messages: list[str | bytes]) -> None:
    hello = lane_pb2.Frames(hello=lane_pb2.Hello(service="x")).SerializeToString()

    async def main() -> None:
        async with pair(folder, Driver.GRPC) as (sender, service):
            async with grpc.aio.insecure_channel(target(folder)) as channel:
                call: Any = channel.stream_stream(ATTACH_METHOD, None, None)()
                for message in messages:
                    await call.write(hello if isinstance(message, str) else message)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.read()  # the Welcome, where there was a hello; a status waits behind it
                    await call.read()
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            for taker in service.takers[1:]:
                assert (taker.downs, taker.frames) == (1, [])
            assert sender.told == [1]

    run(main())


@pytest.mark.parametrize("bytes_sent", [bytes(16), bytes(5), b""])
def test_a_socket_without_a_good_token_is_dropped(run: Run, folder: Path, bytes_sent: bytes) -> None:
    async def main() -> None:
        async with pair(folder, Driver.UNIX) as (sender, service):
            reader, writer = await asyncio.open_unix_connection(str(folder / "relay.lane"))
            writer.write(bytes_sent)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            assert len(service.takers) == 1
            assert sender.told == [1]

    run(main())


def test_a_frame_over_the_limit_ends_a_unix_attachment(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with pair(folder, Driver.UNIX) as (_, service):
            async with grpc.aio.insecure_channel(target(folder)) as channel:
                meeting = await lane_pb2_grpc.LaneStub(channel).Negotiate(lane_pb2.Hello(service="x"))
            reader, writer = await asyncio.open_unix_connection(meeting.path)
            writer.write(meeting.token + UNIX_HEADER.pack(MAX_FRAME_BYTES + 1, 1) + b"abc")
            assert len(await reader.read()) in (0, 8)
            writer.close()
            taker = service.takers[1]
            await taker.until(lambda: bool(taker.downs))
            assert (taker.downs, taker.frames) == (1, [])

    run(main())


RECEIVER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    import grpc.aio
    from phantomband.runtime.lane.grpc_driver import SERVER_OPTIONS
    from phantomband.runtime.lane.server import LaneServer

    class Taker:
        def frame(self, kind, payload): pass
        def down(self): pass

    async def main(folder, incarnation):
        server = grpc.aio.server(options=SERVER_OPTIONS)
        LaneServer("relay", incarnation, lambda peer: Taker(), Path(folder)).add_to(server)
        server.add_insecure_port(f"unix:{folder}/grpc.sock")
        await server.start()
        await server.wait_for_termination()

    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
    """
)


def test_a_killed_receiver_is_noticed_and_found_again(driver: Driver, folder: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sender = Sender(folder, driver, at=f"unix:{folder}/grpc.sock")
        async with sender.running():
            for incarnation in (1, 2):
                process = subprocess.Popen([sys.executable, "-c", RECEIVER, str(folder), str(incarnation)])
                try:
                    await sender.until(*([1, "down", 2][: 2 * incarnation - 1]))
                    sender.lane.send(1, [bytes(100_000)])
                finally:
                    process.send_signal(signal.SIGKILL)
                    killed = loop.time()
                    await loop.run_in_executor(None, process.wait)
                await sender.until(*([1, "down", 2, "down"][: 2 * incarnation]))
                assert loop.time() - killed < 0.5

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(asyncio.wait_for(main(), 2 * PATIENCE))
