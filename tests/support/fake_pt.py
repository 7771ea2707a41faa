"""Made-up transport programs, written in Python by the test, and ends of connections through them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.managed.program import Command
from phantomband.transports.managed.transport import ManagedTransport, Programs

SOMEWHERE = Address("fake", "192.0.2.1", 443, {"some_key": "value"})
PATIENCE = 30.0

HEAD = """
import json, os, signal, socket, struct, sys, threading, time
def say(*words): print(*words, flush=True)
state = os.environ["TOR_PT_STATE_LOCATION"]
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
def take(s, n):
    data = b""
    while len(data) < n:
        data += s.recv(n - len(data))
    return data
def wait():
    sys.stdin.buffer.read()
"""

CLIENT = """
def echo(s):
    take(s, take(s, 2)[1]); s.sendall(b"\\5\\2")
    user = take(s, take(s, 2)[1]); password = take(s, take(s, 1)[0]); s.sendall(b"\\1\\0")
    head = take(s, 10); s.sendall(b"\\5\\0\\0\\1\\0\\0\\0\\0\\0\\0")
    s.sendall(json.dumps([user.decode(), password.decode(), head.hex()]).encode() + b"\\n")
    pump(s, s)
listener = socket.create_server(("127.0.0.1", 0))
def serve():
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
def up():
    say("VERSION 1")
    say("CMETHOD fake socks5 127.0.0.1:%d" % listener.getsockname()[1])
    say("CMETHODS DONE")
"""
"""A SOCKS5 proxy that says what it was asked, and then echoes."""


class End:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.data = bytearray()
        self.over = False
        self.changed = asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.data += data
        self.changed.set()

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None:
        self.over = True
        self.changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            self.changed.clear()
            await self.changed.wait()


Run = Callable[[Coroutine[Any, Any, None]], None]


LOOPS = ("asyncio", "uvloop")


def runner_of(loop_name: str) -> Run:
    """Runs a coroutine on that kind of loop, with patience."""
    factory = uvloop.new_event_loop if loop_name == "uvloop" else asyncio.new_event_loop

    def runner(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await main

        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(bounded())

    return runner


def fake(folder: Path, body: str, proxy: str = "") -> ManagedTransport:
    """A program with this body as the transport `fake`."""
    script = folder / "program.py"
    script.write_text(HEAD + body)
    command = Command.of(("fake",), sys.executable, ("-I", "-S", str(script)))
    transport = Programs([command], folder / "state", proxy).of("fake")
    assert transport is not None
    return transport


async def dial(transport: ManagedTransport, timeout: float = PATIENCE) -> End:
    ends: list[End] = []

    def accept(connection: Connection) -> End:
        ends.append(End(connection))
        return ends[0]

    await transport.dial(SOMEWHERE, accept, timeout)
    return ends[0]


async def eventually(true: Callable[[], bool]) -> None:
    while True:
        if true():
            return
        await asyncio.sleep(0.005)
