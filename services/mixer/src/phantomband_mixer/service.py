"""The mixer: cells from the relay, held and reordered as its strategy says, to the gateway.

It holds no keys and sees no contents: link ids, circuit ids and sealed cells only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import assert_never

import grpc.aio
from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.batch import decode_untrusted, encode
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.mixing.base import Batch, Strategy
from phantomband.core.mixing.intake import Intake
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.pool import PoolMixing
from phantomband.core.mixing.slots import SlotMixing
from phantomband.core.mixing.threshold import ThresholdMixing
from phantomband.core.mixing.timed import TimedMixing
from phantomband.runtime import frames
from phantomband.runtime.contained import Contained
from phantomband.runtime.contained_edges import watch_callbacks
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import Driver, LanePeer, LaneReceiver
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.server import SERVICE_NAME, LaneServer
from phantomband.runtime.service import Service, new_incarnation, quiet
from phantomband.runtime.settings import MixerSection

from phantomband_mixer.output import Output

TICK = 0.001
"""Seconds between two releases at least: where each cell has a time of its own, each would else be a frame of its own.
So a cell leaves up to 1 ms after its time."""


def strategy(section: MixerSection, random: RandomSource, phase: float = 0.0) -> Strategy:
    """The strategy that the configuration names.

    Args: phase: where in an interval of `timed` its end is, from 0 to 1.
    """
    most = section.max_cells
    match section.strategy:
        case "none":
            return NoMixing()
        case "threshold":
            return ThresholdMixing(section.threshold, section.max_wait, random, most)
        case "timed":
            return TimedMixing(section.interval, most, random, phase)
        case "pool":
            share = section.pool_fraction
            return PoolMixing(section.interval, section.pool_minimum, share, section.max_wait, most, random)
        case "poisson":
            return PoissonMixing(section.mean_delay, most, random)
        case "slots":
            return SlotMixing(section.slot, most, random, section.slot_dummies)
        case _ as unknown:
            assert_never(unknown)


OUTPUT_SHARE = 0.5
"""What was released and waits for the gateway may be half as much again as what the strategy holds."""


def most_cells(configured: int, room: int) -> int:
    """Cells that the strategy may hold, so that with those released, at most half as many again, they fit in `room`
    bytes twice: what is held is counted at most doubled by pieces and the allocator."""
    return max(1024, min(configured, int(2 * room / ((2 + OUTPUT_SHARE) * CELL_BYTES))))


class MixerService(Service):
    """Runs one strategy between two lanes."""

    name = "mixer"

    def __init__(
        self,
        sockets: Path,
        gateway: str,
        driver: Driver,
        mixing: Strategy,
        random: RandomSource,
        max_cells: int = 65_536,
    ) -> None:
        """Args: gateway: gRPC target of the gateway; max_cells: what the strategy holds at most."""
        self.incarnation = new_incarnation()
        self.contained = Contained()
        self._mixing = mixing
        self._intake = Intake(mixing)
        self._loop = asyncio.get_running_loop()
        self._lanes = LaneServer(self.name, self.incarnation, self._accept, sockets, random)
        me = LanePeer(self.name, self.incarnation)
        self._gateway = LaneClient(gateway, me, driver, self._gateway_up, self._gateway_down, self._gateway_writable)
        self._output = Output(self._gateway, max_cells + max_cells // 2)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_when = 0.0
        self._next_release = 0.0
        self._cells = self._frames = self._batches = 0

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        self._lanes.add_to(server)
        return [SERVICE_NAME]

    async def run(self, ready: Callable[[], None]) -> None:
        watch_callbacks(self.contained)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.contained.keep(self._gateway.run))
                await self._gateway.wait_up()
                ready()
        finally:
            await self._lanes.close()

    async def drain(self) -> None:
        """Goes on while the relay sends; what is then held goes out: nothing is lost by a planned stop.

        Where the relay does not stop in time (DRAIN_SECONDS), what is held goes out at the end of that time.
        """
        try:
            await quiet(lambda: self._cells)
        finally:
            self._release(force=True)
        while self._gateway.up and (self._mixing.held or self._output.busy or self._gateway.buffered):
            await asyncio.sleep(0.01)
            self._release(force=True)

    def status(self) -> Mapping[str, float]:
        return {
            "cells": self._cells,
            "frames": self._frames,
            "held": self._mixing.held,
            "waiting": self._output.cells,
            "lost": self._output.lost,
            "dropped_cells": self._mixing.dropped_cells,
            "dropped_circuits": self._intake.dropped,
            "batches": self._batches,
            "lane_up": float(self._gateway.up),
            "lane_buffered_bytes": self._gateway.buffered,
            "bugs": self.contained.bugs,
        }

    # ---- cells -------------------------------------------------------------------------------------------------

    def _accept(self, peer: LanePeer) -> LaneReceiver:
        return _FromRelay(self)

    def frame(self, payload: memoryview) -> None:
        """One CELLS frame of the relay."""
        self._frames += 1
        if self._mixing.passes:
            cells = len(payload) // CELL_BYTES
            self._cells += cells
            self._output.send(Frame.CELLS, (bytes(payload),), cells)
            return
        self._release()
        now = self._loop.time()
        data = bytes(payload)
        for link, at, count in decode_untrusted(data):
            self._cells += count
            arrived = [data[i : i + CELL_BYTES] for i in range(at, at + count * CELL_BYTES, CELL_BYTES)]
            try:
                at_once = self._intake.add(link, arrived, now)
            except Exception as e:  # noqa: BLE001 - cells of one link must not keep those of others from being taken
                self.contained.bug(e)
                continue
            if at_once:
                self._send_cells([(link, at_once)])
        self._tell_dropped()
        self._schedule()

    def _tell_dropped(self) -> None:
        """Circuits that were too much end now: their peers hear it, and the relay by way of the gateway."""
        for (link, circuit), destroy in self._intake.take_dropped():
            self._send_cells([(link, [destroy])])
            self._output.send(Frame.OVERFLOW, (frames.overflow(link, circuit),))

    def _schedule(self, earliest: float = 0.0) -> None:
        due = self._mixing.deadline
        when = None if due is None or self._output.busy else max(due, self._next_release, earliest)
        if self._timer is not None:
            if self._timer_when == when:
                return
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer, self._timer_when = self._loop.call_at(when, self._tick), when

    def _tick(self) -> None:
        """Time to release; half a millisecond early with uvloop, whose timers round: then again a tick later."""
        self._timer = None
        self.contained.call(self._release)
        self._schedule(self._loop.time() + TICK)

    def _release(self, *, force: bool = False) -> None:
        """Sends what is due; what the gateway has not taken goes first."""
        if self._output.busy and not force:
            return
        now = self._loop.time()
        batch = self._mixing.release(float("inf") if force else now)
        if not batch:
            return
        self._next_release = now + TICK
        self._batches += 1
        self._send_cells(batch)

    def _send_cells(self, batch: Batch) -> None:
        for parts in encode((link, len(cells), _pieces(cells)) for link, cells in batch):
            self._output.send(Frame.CELLS, parts, sum(map(len, parts)) // CELL_BYTES)

    def _gateway_up(self, peer: LanePeer) -> None:
        """A relay that found this mixer first has waited for the gateway's lane."""
        self._gateway_writable()

    def _gateway_writable(self) -> None:
        self._output.drain()
        self._release()
        self._schedule()

    def _gateway_down(self) -> None:
        """The gateway died, and its links with it: what is held for them is worthless."""
        self._clear()

    def relay_down(self) -> None:
        """The relay's circuits died with it: what is held for them is worthless."""
        self._clear()

    def _clear(self) -> None:
        self._intake.clear()
        self._output.clear()
        self._schedule()


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
            try:
                self._service.frame(payload)
            except Exception as e:  # noqa: BLE001 - out of here it would end the lane, and with it every circuit
                self._service.contained.bug(e)

    def down(self) -> None:
        self._service.contained.call(self._service.relay_down)
