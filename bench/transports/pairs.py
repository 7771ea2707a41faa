"""One file through a client's and a server's process, for our transports and for other obfs4 programs the same way.

    source -> TCP -> client process -> transport -> server process -> TCP -> sink

Ours run as such processes here, too: two copies between sockets that a node does not have. MB is 10^6 bytes.

Run as a program: `pairs.py NEAR FAR PORT PARAMETERS`: the forwarder itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from phantomband.transports.base import Address, Connection, Receiver, Transport
from phantomband.transports.registry import make
from phantomband_cli.pt.splice import Half

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
import managed_pt

LOOPBACK = "127.0.0.1"
TICKS = os.sysconf("SC_CLK_TCK")
PROGRAMS = managed_pt.PROGRAMS


async def forward(near: Transport, far: Transport, target: Address) -> None:
    """Listens with `near`, dials `target` with `far` for each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def connect(half: Half) -> None:
        others: list[Half] = []

        def accept(connection: Connection) -> Receiver:
            others.append(Half(connection, _gone))
            return others[0]

        await far.dial(target, accept, 10.0)
        half.join(others[0])

    def accept(connection: Connection) -> Receiver:
        half = Half(connection, _gone)
        task = asyncio.get_running_loop().create_task(connect(half))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return half

    listener = await near.listen(LOOPBACK, 0, accept)
    print(json.dumps([listener.port, dict(near.parameters())]), flush=True)
    await asyncio.Event().wait()


def _gone(half: Half) -> None:
    """Nothing is kept of it here."""


@contextmanager
def ours(near: str, far: str, target: int, parameters: dict[str, str]) -> Iterator[tuple[int, int, dict[str, str]]]:
    """A forwarder process: its pid, its port, its parameters."""
    command = [sys.executable, __file__, near, far, str(target), json.dumps(parameters)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port, published = json.loads(process.stdout.readline())
        yield process.pid, port, published
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class Cpu:
    """CPU seconds of a process."""

    user: float
    system: float

    @classmethod
    def of(cls, pid: int) -> Cpu:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(int(fields[11]) / TICKS, int(fields[12]) / TICKS)

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.user - before.user, self.system - before.system)


@dataclass(frozen=True)
class Run:
    """One transfer."""

    seconds: float
    client: Cpu
    server: Cpu


def transfer(source: socket.socket, listener: socket.socket, data: bytes) -> float:
    """Returns: seconds until the sink has all."""

    accepted: list[socket.socket] = []

    def sink() -> None:
        accepted.append(listener.accept()[0])
        left = len(data)
        buffer = bytearray(256 * 1024)
        while left > 0:
            left -= accepted[0].recv_into(buffer) or sys.exit("the connection broke")
        accepted[0].sendall(b"done")

    thread = threading.Thread(target=sink)
    thread.start()
    start = time.perf_counter()
    source.sendall(data)
    assert source.recv(4) == b"done"
    seconds = time.perf_counter() - start
    thread.join()
    source.close()
    accepted[0].close()  # lyrebird does not pass an end of stream on
    return seconds


def run_pair(client: str, server: str, data: bytes, folder: Path) -> Run:
    """Each of `client` and `server` is a transport of ours or another program."""
    with socket.create_server((LOOPBACK, 0)) as listener, _server(server, listener.getsockname()[1], folder) as there:
        pid, port, arguments = there
        with _client(client, port, arguments, folder) as (other, source):
            before = Cpu.of(other), Cpu.of(pid)
            seconds = transfer(source, listener, data)
            return Run(seconds, Cpu.of(other).since(before[0]), Cpu.of(pid).since(before[1]))


@contextmanager
def _server(program: str, target: int, folder: Path) -> Iterator[tuple[int, int, dict[str, str]]]:
    if program in PROGRAMS:
        with managed_pt.server(program, folder / "server", target) as method:
            yield method.pid, method.port, dict(method.arguments)
    else:
        with ours(program, "tcp", target, {}) as (pid, port, published):
            yield pid, port, published


@contextmanager
def _client(program: str, port: int, arguments: dict[str, str], folder: Path) -> Iterator[tuple[int, socket.socket]]:
    if program in PROGRAMS:
        arguments = {"cert": arguments["cert"], "iat-mode": "0"}
        with managed_pt.client(program, folder / "client") as method:
            yield method.pid, managed_pt.dial(method.port, port, arguments)
    else:
        with ours("tcp", program, port, arguments) as (pid, near, _):
            yield pid, socket.create_connection((LOOPBACK, near), 60)


def main() -> None:
    near, far, target, parameters = sys.argv[1:5]
    address = Address(far, LOOPBACK, int(target), json.loads(parameters))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(forward(make(near), make(far), address))


if __name__ == "__main__":
    main()
