"""An exit and a client joined, with real local sockets at both ends."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fake_names import FakeDns
from joined import Joined
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.core.stream.messages import Target, target
from phantomband.runtime.contained import Contained
from phantomband.runtime.memory_budget import MemoryBudget
from phantomband.runtime.splice import SocketStream
from phantomband_relay.exit import Exit, ExitRules
from phantomband_relay.names import Names
from virtual import run_virtual
from world import Recorder

ANY = ExitPolicy.parse(["accept *:*"])
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def rules(
    policy: ExitPolicy = ANY, *, private: bool = True, most: int = 100, timeout: float = 5.0, own: str = ""
) -> ExitRules:
    return ExitRules(policy, private, most, timeout, frozenset({ipaddress.ip_address(own)} if own else ()))


class Rig:
    """An exit and a client, joined."""

    def __init__(self, tasks: asyncio.TaskGroup, rules_: ExitRules, budget: int = 1 << 30) -> None:
        self.dns = FakeDns()
        self.budget = MemoryBudget(budget)
        self.links: set[tuple[str, int]] = set()
        self.contained = Contained()
        self.contained.start(tasks)
        self.exit = Exit(
            rules_, self.contained.spawn, Names(self.dns), self.budget, lambda ip, port: (ip, port) in self.links
        )
        self.joined = Joined(self.exit.circuit())
        self.gone: list[SocketStream] = []

    def open(self, where: Target, *, resolve: bool = False) -> Recorder:
        handler = Recorder()
        handler.stream = self.joined.client.open(where, handler, resolve=resolve)
        return handler

    async def outcome(self, where: Target, *, resolve: bool = False) -> Recorder:
        handler = self.open(where, resolve=resolve)
        await self.joined.until(lambda: handler.answers is not None or handler.reason is not None)
        return handler

    def application(self, where: Target) -> Callable[[], SocketStream]:
        def factory() -> SocketStream:
            handler = SocketStream(self.gone.append)
            handler.stream = self.joined.client.open(where, handler)
            return handler

        return factory

    @property
    def quiet(self) -> bool:
        return not (self.exit.open or self.joined.client.streams or self.joined.exit.streams)


def hold(rig: Rig) -> tuple[asyncio.Event, asyncio.Event]:
    """(set when the exit begins to connect, to be set before it does)."""
    reached, go = asyncio.Event(), asyncio.Event()
    real = rig.exit._open

    async def slow(address: str, port: int) -> socket.socket:
        reached.set()
        await go.wait()
        return await real(address, port)

    rig.exit._open = slow  # type: ignore[method-assign]
    return reached, go


def run(
    test: Callable[[Rig], Coroutine[Any, Any, None]],
    rules_: ExitRules | None = None,
    *,
    virtual: bool = False,
    budget: int = 1 << 30,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(1000 if virtual else 20), asyncio.TaskGroup() as tasks:
            await test(Rig(tasks, rules_ or rules(), budget))

    run_virtual(main()) if virtual else asyncio.run(main())


@asynccontextmanager
async def through(rig: Rig, serve: Serve) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """An application's connection to a target that does `serve`, through client, circuit and exit."""
    async with AsyncExitStack() as stack:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**16)
        stack.callback(server.close)
        where = target("127.0.0.1", server.sockets[0].getsockname()[1])
        front = await asyncio.get_running_loop().create_server(rig.application(where), "127.0.0.1", 0)
        stack.callback(front.close)
        reader, writer = await asyncio.open_connection("127.0.0.1", front.sockets[0].getsockname()[1])
        stack.callback(writer.transport.abort)
        yield reader, writer


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
