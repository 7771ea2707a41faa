"""Both ends of a lane in one process: a receiving service, and a sender that notes what it was told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from phantomband.runtime.lane.base import Driver, LanePeer
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.grpc_driver import SERVER_OPTIONS
from phantomband.runtime.lane.server import LaneServer

PATIENCE = 60.0
"""Seconds that a test may take."""

Run = Callable[[Coroutine[Any, Any, None]], None]


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
