"""How fast a lane moves frames: two processes, each driver, frames of 32 and 256 KiB.

Run: python bench/micro_lane.py [MB per case]. The last line is one JSON object; MB is 10^6 bytes,
CPU counts both ends.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc.aio
import uvloop
from phantomband.runtime.allocator import tune_allocator
from phantomband.runtime.lane.base import HIGH_WATER, Driver, LanePeer
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.grpc_driver import SERVER_OPTIONS
from phantomband.runtime.lane.server import LaneServer

FRAME_SIZES = (32 * 1024, 256 * 1024)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Counter:
    """Prints its process's CPU seconds when an empty frame comes: after a warm-up, and at the end."""

    def frame(self, kind: int, payload: memoryview) -> None:
        if not payload:
            print(cpu_seconds(), flush=True)

    def down(self) -> None:
        pass


async def receive(folder: str) -> None:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    LaneServer("bench", 1, lambda peer: Counter(), Path(folder)).add_to(server)
    server.add_insecure_port(f"unix:{folder}/grpc.sock")
    await server.start()
    await server.wait_for_termination()


class Feeder:
    """Sends frames of one size and waits whenever the lane is congested."""

    def __init__(self, folder: str, driver: Driver, receiver: subprocess.Popen[str]) -> None:
        self._free = asyncio.Event()
        self._receiver = receiver
        me = LanePeer("feeder", 2)
        self.lane = LaneClient(f"unix:{folder}/grpc.sock", me, driver, lambda peer: None, self._down, self._free.set)

    def _down(self) -> None:
        print("lane down", file=sys.stderr)

    async def feed(self, payload: bytes, total: int) -> None:
        for _ in range(total // len(payload)):
            self.lane.send(1, [payload])
            if self.lane.buffered > HIGH_WATER:
                self._free.clear()
                await self._free.wait()
            else:
                await asyncio.sleep(0)

    async def mark(self) -> float:
        """Sends an empty frame. Returns: the receiver's CPU seconds when it had taken everything before."""
        assert self._receiver.stdout is not None
        self.lane.send(1, [])
        return float(await asyncio.get_running_loop().run_in_executor(None, self._receiver.stdout.readline))


async def measure(feeder: Feeder, size: int, total: int) -> dict[str, float]:
    payload = bytes(size)
    await feeder.feed(payload, total // 10)
    theirs, ours, start = await feeder.mark(), cpu_seconds(), time.perf_counter()
    await feeder.feed(payload, total)
    theirs, ours = await feeder.mark() - theirs, cpu_seconds() - ours
    seconds = time.perf_counter() - start
    return {
        "mb_per_s": round(total / seconds / 1e6, 1),
        "cpu_s_per_gb": round((ours + theirs) / total * 1e9, 2),
    }


async def send(total: int) -> dict[str, dict[str, float]]:
    results = {}
    for driver in Driver:
        with tempfile.TemporaryDirectory(prefix="pb") as folder:
            command = [sys.executable, __file__, "--receive", folder]
            receiver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
            feeder = Feeder(folder, driver, receiver)
            running = asyncio.ensure_future(feeder.lane.run())
            try:
                await feeder.lane.wait_up()
                for size in FRAME_SIZES:
                    results[f"{driver} {size // 1024} KiB"] = await measure(feeder, size, total)
            finally:
                running.cancel()
                receiver.terminate()
                receiver.wait()
    return results


def main() -> None:
    tune_allocator()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        if sys.argv[1:2] == ["--receive"]:
            loop.run(receive(sys.argv[2]))
            return
        megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 300
        results = loop.run(send(megabytes * 1_000_000))
    for case, figures in results.items():
        print(f"{case:>14}: {figures['mb_per_s']:7.1f} MB/s  {figures['cpu_s_per_gb']:6.2f} CPU s/GB")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
