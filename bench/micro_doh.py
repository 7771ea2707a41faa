"""The doh transport: loopback, and a round trip of 100 ms, to the node itself and through a real unbound.

Client and server are processes of their own; so are unbound and what delays. KB and MB are 10^3 and 10^6 bytes; CPU is
that of client and server. dnstt's author publishes about 130 KB/s down through DNS over HTTPS.

Run: python bench/micro_doh.py [MB on loopback, default 200]. The last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.doh.transport import DohTransport

SUPPORT = Path(__file__).parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))
from unbound_rig import UNBOUND, free_port, unbound  # noqa: E402

LOOPBACK = "127.0.0.1"
ZONE = "t.example.test"
ONE_WAY = "0.05"
WRITE = bytes(32 * 1024)
TICKS = os.sysconf("SC_CLK_TCK")


class End:
    """Sends a given number of bytes as it can; counts what comes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.left = self.wanted = 0
        self.done = asyncio.Event()
        self.head = bytearray()

    def send(self, size: int) -> None:
        self.left = size
        self.writable()

    def writable(self) -> None:
        while self.left > 0 and not self.connection.congested:
            self.connection.write(WRITE[: min(self.left, len(WRITE))])
            self.left -= len(WRITE)

    def received(self, data: Buffer) -> None:
        self.wanted -= len(data)
        if self.wanted <= 0:
            self.done.set()

    def closed(self, error: Exception | None) -> None:
        self.done.set()


class Server(End):
    """A client says: "U" and 8 bytes, then so many bytes come, and "." goes back; or "D" and 8 bytes, and they go."""

    def received(self, data: Buffer) -> None:
        if self.wanted > 0:
            self.wanted -= len(data)
            if self.wanted <= 0:
                self.connection.write(b".")
            return
        self.head += data
        if len(self.head) < 9:
            return
        size = int.from_bytes(self.head[1:9], "big")
        if self.head[:1] == b"D":
            self.send(size)
        else:
            self.wanted = size - (len(self.head) - 9)
        self.head.clear()


async def serve(folder: str, dns: str) -> None:
    transport = DohTransport()
    transport.configure(Path(folder), {"zone": ZONE, "dns": f"{LOOPBACK}:{dns}"})
    listener = await transport.listen(LOOPBACK, 0, Server)
    print(json.dumps([listener.port, dict(transport.parameters())]), flush=True)
    await asyncio.Event().wait()


@contextmanager
def process(*command: str) -> Iterator[tuple[int, str]]:
    """Its pid and first line."""
    running = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        yield running.pid, running.stdout.readline()
    finally:
        running.kill()
        running.communicate()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def transfer(port: int, parameters: dict[str, str], up: int, down: int) -> tuple[float, float]:
    """Returns: bytes a second up and down."""
    ends: list[End] = []

    def accept(connection: Connection) -> End:
        ends.append(End(connection))
        return ends[0]

    await DohTransport().dial(Address("doh", LOOPBACK, port, parameters), accept, 20.0)
    speeds = []
    for word, size, come in ((b"U", up, 1), (b"D", down, down)):
        end = ends[0]
        end.done.clear()
        end.wanted = come
        start = time.perf_counter()
        end.connection.write(word + size.to_bytes(8, "big"))
        if word == b"U":
            end.send(size)
        await end.done.wait()
        speeds.append(size / (time.perf_counter() - start))
    ends[0].connection.abort()
    await asyncio.sleep(0.05)
    return speeds[0], speeds[1]


def measure(
    name: str, port: int, pid: int, parameters: dict[str, str], up: int, down: int, delayed: bool
) -> list[float]:
    """Returns: bytes a second up and down, CPU seconds a GB of both ends."""

    def run(to: int) -> tuple[float, float]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            return loop.run(transfer(to, parameters, up, down))

    before = cpu_seconds(pid) + cpu_seconds(os.getpid())
    if delayed:
        with process(str(SUPPORT / "delay_proxy.py"), LOOPBACK, str(port), ONE_WAY) as (_, line):
            speeds = run(int(line))
    else:
        speeds = run(port)
    cpu = (cpu_seconds(pid) + cpu_seconds(os.getpid()) - before) / (up + down) * 1e9
    print(
        f"{name:28} up {speeds[0] / 1e3:9.0f} KB/s   down {speeds[1] / 1e3:9.0f} KB/s   {cpu:7.1f} CPU s/GB", flush=True
    )
    return [round(speeds[0]), round(speeds[1]), round(cpu, 1)]


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            loop.run(serve(*sys.argv[2:4]))
        return
    size = (int(sys.argv[1]) if len(sys.argv) > 1 else 200) * 1_000_000
    out: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder, dns = Path(name), free_port()
        folder.chmod(0o755)
        with process(__file__, "--serve", str(folder / "keys"), str(dns)) as (pid, line):
            port, parameters = json.loads(line)
            out["direct"] = measure("direct, loopback", port, pid, parameters, size, size, False)
            out["direct_100ms"] = measure("direct, 100 ms", port, pid, parameters, size // 4, size // 4, True)
            if UNBOUND is None:
                sys.exit("unbound is not installed: there are no figures through a resolver")
            with unbound(folder, ZONE, dns) as resolver:
                for via, to in (("doh", resolver.https), ("udp", resolver.port), ("tcp", resolver.port)):
                    more = {**parameters, "via": via}
                    for delayed in (False, True):
                        label = f"unbound by {via}, {'100 ms' if delayed else 'loopback'}"
                        key = f"unbound_{via}" + ("_100ms" if delayed else "")
                        out[key] = measure(label, to, pid, more, 300_000, 4_000_000, delayed)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
