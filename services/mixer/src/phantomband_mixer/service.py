"""The mixer: cells from the relay, held and reordered as its strategy says, to the gateway.

It holds no keys and sees no contents: link ids, circuit ids and sealed cells only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import assert_never

import grpc.aio
from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.batch import decode_untrusted, encode
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.mixing.base import Strategy
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.pool import PoolMixing
from phantomband.core.mixing.slots import SlotMixing
from phantomband.core.mixing.threshold import ThresholdMixing
from phantomband.core.mixing.timed import TimedMixing
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import Buffer, Driver, LanePeer, LaneReceiver
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.server import SERVICE_NAME, LaneServer
from phantomband.runtime.service import Service, new_incarnation, quiet
from phantomband.runtime.settings import MixerSection

TICK = 0.001
"""Seconds between two releases at least: where each cell has a time of its own, each would else be a frame of its own.
So a cell leaves up to 1 ms after its time."""


def strategy(section: MixerSection, random: RandomSource) -> Strategy:
    """The strategy that the configuration names."""
    most = section.max_cells
    match section.strategy:
        case "none":
            return NoMixing()
        case "threshold":
            return ThresholdMixing(section.threshold, section.max_wait, random)
        case "timed":
            return TimedMixing(section.interval, most, random)
        case "pool":
            share = section.pool_fraction
            return PoolMixing(section.interval, section.pool_minimum, share, section.max_wait, most, random)
        case "poisson":
            return PoissonMixing(section.mean_delay, most, random)
        case "slots":
            return SlotMixing(section.slot, most, random)
        case _ as unknown:
            assert_never(unknown)


MAX_EARLY_CELLS = 32_768
"""Cells kept while the gateway's lane does not stand yet: 64 MiB; what comes beyond is lost and counted."""


class MixerService(Service):
    """Runs one strategy between two lanes."""

    name = "mixer"

    def __init__(self, sockets: Path, gateway: str, driver: Driver, mixing: Strategy, random: RandomSource) -> None:
        """Args: gateway: gRPC target of the gateway."""
        self.incarnation = new_incarnation()
        self._mixing = mixing
        self._loop = asyncio.get_running_loop()
        self._lanes = LaneServer(self.name, self.incarnation, self._accept, sockets, random)
        me = LanePeer(self.name, self.incarnation)
        self._gateway = LaneClient(gateway, me, driver, self._gateway_up, self._gateway_down)
        self._early: list[list[Buffer]] = []
        self._early_cells = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_release = 0.0
        self._cells = self._frames = self._lost = self._batches = 0

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        self._lanes.add_to(server)
        return [SERVICE_NAME]

    async def run(self, ready: Callable[[], None]) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._gateway.run())
                await self._gateway.wait_up()
                ready()
        finally:
            await self._lanes.close()

    async def drain(self) -> None:
        """Goes on while the relay sends; what is then held goes out: nothing is lost by a planned stop."""
        await quiet(lambda: self._cells)
        self._release(force=True)
        while self._gateway.up and self._gateway.buffered:  # noqa: ASYNC110 - bounded by DRAIN_SECONDS
            await asyncio.sleep(0.01)

    def status(self) -> Mapping[str, float]:
        return {
            "cells": self._cells,
            "frames": self._frames,
            "held": self._mixing.held,
            "lost": self._lost,
            "batches": self._batches,
            "lane_up": float(self._gateway.up),
            "lane_buffered_bytes": self._gateway.buffered,
        }

    # ---- cells -------------------------------------------------------------------------------------------------

    def _accept(self, peer: LanePeer) -> LaneReceiver:
        return _FromRelay(self)

    def frame(self, payload: memoryview) -> None:
        """One CELLS frame of the relay."""
        self._frames += 1
        if self._mixing.passes:
            self._cells += len(payload) // CELL_BYTES
            self._send([bytes(payload)])
            return
        now = self._loop.time()
        self._release()
        data = bytes(payload)
        for link, at, count in decode_untrusted(data):
            cells = [data[i : i + CELL_BYTES] for i in range(at, at + count * CELL_BYTES, CELL_BYTES)]
            self._cells += count
            self._mixing.add(link, cells, now)
        self._schedule()

    def _schedule(self) -> None:
        deadline = self._mixing.deadline
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(max(deadline, self._next_release), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._release()
        self._schedule()

    def _release(self, *, force: bool = False) -> None:
        now = self._loop.time()
        batch = self._mixing.release(float("inf") if force else now)
        if not batch:
            return
        self._next_release = now + TICK
        self._batches += 1
        for parts in encode((link, len(cells), _pieces(cells)) for link, cells in batch):
            self._send(parts)

    def _send(self, parts: Sequence[Buffer]) -> None:
        """To the gateway; a relay that found this mixer first waits until the gateway's lane stands too."""
        if self._gateway.send(Frame.CELLS, parts):
            return
        cells = sum(map(len, parts)) // CELL_BYTES
        if self._gateway.up or self._early_cells + cells > MAX_EARLY_CELLS:
            self._lost += cells
            return
        self._early.append(list(parts))
        self._early_cells += cells

    def _gateway_up(self, peer: LanePeer) -> None:
        early, self._early, self._early_cells = self._early, [], 0
        for parts in early:
            self._send(parts)

    def _gateway_down(self) -> None:
        """The gateway died, and its links with it: what waits for them is worthless."""
        self._early, self._early_cells = [], 0

    def relay_down(self) -> None:
        """The relay's circuits died with it: what is held for them is worthless."""
        self._mixing.release(float("inf"))
        self._early, self._early_cells = [], 0


def _pieces(cells: list[bytes]) -> list[bytes]:
    """Whole cells in the three-piece form of `batch.encode`."""
    out: list[bytes] = []
    for cell in cells:
        out += (cell, b"", b"")
    return out


class _FromRelay:
    """Receives the relay's frames."""

    def __init__(self, service: MixerService) -> None:
        self._service = service

    def frame(self, kind: int, payload: memoryview) -> None:
        if kind == Frame.CELLS:
            self._service.frame(payload)

    def down(self) -> None:
        self._service.relay_down()
