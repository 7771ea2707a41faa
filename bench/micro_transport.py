"""How fast each transport moves bytes: two processes over loopback, one connection, writes of 32 KiB.

Run: python bench/micro_transport.py [MB per transport; QUIC moves a tenth]. The last line is one JSON
object; MB is 10^6 bytes, CPU counts both ends.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time

import uvloop
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.registry import TRANSPORTS, make

WRITE_BYTES = 32 * 1024


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Sink:
    """Counts; answers eight bytes when all has come."""

    def __init__(self, connection: Connection, total: int) -> None:
        self._connection = connection
        self._left = total

    def received(self, data: Buffer) -> None:
        self._left -= len(data)
        if self._left <= 0:
            self._connection.write(b"complete")

    def writable(self) -> None:
        pass

    def closed(self, error: Exception | None) -> None:
        print(cpu_seconds(), flush=True)


async def serve(name: str, total: int) -> None:
    transport = make(name)
    listener = await transport.listen("127.0.0.1", 0, lambda connection: Sink(connection, total))
    print(json.dumps([listener.port, cpu_seconds(), dict(transport.parameters())]), flush=True)
    await asyncio.Event().wait()


class Source:
    """Writes whenever the connection is not congested."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.free = asyncio.Event()
        self.complete = asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.complete.set()

    def writable(self) -> None:
        self.free.set()

    def closed(self, error: Exception | None) -> None:
        self.complete.set()

    async def feed(self, total: int) -> None:
        payload = bytes(WRITE_BYTES)
        for _ in range(-(-total // WRITE_BYTES)):
            self._connection.write(payload)
            if self._connection.congested:
                self.free.clear()
                await self.free.wait()
        await self.complete.wait()


async def measure(address: Address, total: int) -> float:
    """Returns: seconds."""
    sources: list[Source] = []

    def accept(connection: Connection) -> Source:
        sources.append(Source(connection))
        return sources[0]

    connection = await make(address.transport).dial(address, accept, 5.0)
    start = time.perf_counter()
    await sources[0].feed(total)
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def run_one(name: str, total: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--serve", name, str(total)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        port, theirs, parameters = json.loads(server.stdout.readline())
        ours = cpu_seconds()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            seconds = loop.run(measure(Address(name, "127.0.0.1", port, parameters), total))
            ours = cpu_seconds() - ours
            loop.run(asyncio.sleep(0.2))  # the close arrives
        cpu = ours + float(server.stdout.readline()) - theirs
    finally:
        server.terminate()
        server.wait()
    return {"mb_per_s": round(total / seconds / 1e6, 1), "cpu_s_per_gb": round(cpu / total * 1e9, 2)}


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            loop.run(serve(sys.argv[2], int(sys.argv[3])))
        return
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    results = {}
    for name in TRANSPORTS:
        results[name] = run_one(name, megabytes * 1_000_000)
        print(f"{name:>5}: {results[name]['mb_per_s']:7.1f} MB/s  {results[name]['cpu_s_per_gb']:6.2f} CPU s/GB")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
