"""What every lane driver must do when an end comes, goes or is killed, on both event loops."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import uvloop
from lane_rig import PATIENCE, Run, Sender, Service
from phantomband.runtime.lane.base import Driver


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
