"""Fetching bytes over a path with delay and loss: `far.py serve NAME HOST OPTIONS` at one end, `far.py fetch ADDRESS
BYTES` at the other. `doh` goes to the node itself, or to an unbound beside it that only forwards."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.registry import make

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
from lossy_path import FAR
from lossy_path import Path as LossyPath
from unbound_rig import free_port, unbound

ZONE = "t.example.test"
WRITE_BYTES = 32 * 1024
DIAL_SECONDS = 60.0


class Source:
    """Sends as many bytes as it is asked for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked = bytearray()
        self._left = 0

    def received(self, data: Buffer) -> None:
        self._asked += data
        if len(self._asked) >= 8 and not self._left:
            self._left = int.from_bytes(self._asked[:8], "big")
            self.writable()

    def writable(self) -> None:
        while self._left and not self._connection.congested:
            size = min(WRITE_BYTES, self._left)
            self._left -= size
            self._connection.write(bytes(size))

    def closed(self, error: Exception | None) -> None:
        self._left = 0


class Fetch:
    """Asks, and counts."""

    def __init__(self, connection: Connection, size: int) -> None:
        self._left, self.error = size, ""
        self.done = asyncio.Event()

    def received(self, data: Buffer) -> None:
        self._left -= len(data)
        if self._left <= 0:
            self.done.set()

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None:
        if self._left > 0:
            self.error = f"ended {self._left} bytes too early: {type(error).__name__}"
        self.done.set()


async def serve(name: str, host: str, options: str) -> None:
    transport = make(name)
    if given := json.loads(options):
        transport.configure(Path(tempfile.mkdtemp()), given)
    listener = await transport.listen(host, 0, Source)
    print(json.dumps([listener.port, dict(transport.parameters())]), flush=True)
    await asyncio.Event().wait()


async def fetch(address: Address, size: int) -> dict[str, Any]:
    ends: list[Fetch] = []

    def accept(connection: Connection) -> Fetch:
        ends.append(Fetch(connection, size))
        return ends[-1]

    begun = time.perf_counter()
    connection = await make(address.transport).dial(address, accept, DIAL_SECONDS)
    up = time.perf_counter() - begun
    connection.write(size.to_bytes(8, "big"))
    await ends[-1].done.wait()
    seconds = time.perf_counter() - begun
    connection.abort()
    if ends[-1].error:
        raise SystemExit(ends[-1].error)
    return {"connect_seconds": round(up, 2), "seconds": round(seconds, 1), "kb_per_s": round(size / seconds / 1e3)}


@contextmanager
def server(path: LossyPath, name: str, options: Mapping[str, str]) -> Iterator[list[Any]]:
    command = path.command(path.far, sys.executable, __file__, "serve", name, FAR, json.dumps(options))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()


def over(path: LossyPath, name: str, size: int, limit: float) -> dict[str, Any]:
    """`size` bytes from the far end by a transport; {"failed": why} if they do not come within `limit` seconds."""
    with server(path, name, {}) as (port, parameters):
        return _fetched(path, [name, FAR, port, parameters], size, limit)


def through_resolver(path: LossyPath, via: str, size: int, limit: float) -> dict[str, Any]:
    """The same through a recursive resolver at the far end. Args: via: how it is asked, `doh` or `udp`."""
    dns = free_port()
    with tempfile.TemporaryDirectory() as name, server(path, "doh", {"zone": ZONE, "dns": f"127.0.0.1:{dns}"}) as far:
        folder = Path(name)
        folder.chmod(0o755)
        with unbound(folder, ZONE, dns, at=FAR, within=path.command(path.far)) as resolver:
            to = resolver.https if via == "doh" else resolver.port
            return _fetched(path, ["doh", FAR, to, {**far[1], "via": via}], size, limit)


def _fetched(path: LossyPath, address: list[Any], size: int, limit: float) -> dict[str, Any]:
    command = path.command(path.near, sys.executable, __file__, "fetch", json.dumps(address), str(size))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failed": f"not within {limit:g} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr else "no reason"}
    return dict(json.loads(done.stdout))


def main() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        if sys.argv[1] == "serve":
            loop.run(serve(*sys.argv[2:5]))
        else:
            print(json.dumps(loop.run(fetch(Address(*json.loads(sys.argv[2])), int(sys.argv[3])))))


if __name__ == "__main__":
    main()
