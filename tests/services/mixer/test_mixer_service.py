"""The mixer: frames in, frames out, as its strategy says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.cell import CELL_BYTES, Command, encode
from phantomband.core.circuit.batch import decode_untrusted, encode_run
from phantomband.core.ids import LinkId
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.pool import PoolMixing
from phantomband.core.mixing.slots import SlotMixing
from phantomband.core.mixing.threshold import ThresholdMixing
from phantomband.core.mixing.timed import TimedMixing
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import Driver, LanePeer
from phantomband.runtime.service import QUIET_SECONDS
from phantomband.runtime.settings import MIX_NAMES, MixerSection
from phantomband_mixer import service as module
from phantomband_mixer.service import TICK, MixerService, strategy
from virtual import run_virtual
from world import Seeded

RELAY = LanePeer("relay", 1)


class FakeLane:
    """The lane to the gateway."""

    def __init__(self) -> None:
        self.up = True
        self.buffered = 0
        self.frames: list[tuple[float, bytes]] = []

    def send(self, kind: int, parts: Sequence[bytes | bytearray | memoryview]) -> bool:
        assert kind == Frame.CELLS
        if self.up:
            self.frames.append((asyncio.get_running_loop().time(), b"".join(parts)))
        return self.up

    @property
    def cells(self) -> list[tuple[int, bytes]]:
        return [
            (link, data[at + i * CELL_BYTES :][:CELL_BYTES])
            for _, data in self.frames
            for link, at, count in decode_untrusted(data)
            for i in range(count)
        ]


class Rig:
    def __init__(self, path: Path, section: MixerSection) -> None:
        self.service = MixerService(path, "unix:nowhere", Driver.UNIX, strategy(section, Seeded(1)), Seeded(2))
        self.lane = FakeLane()
        self.service._gateway = self.lane  # type: ignore[assignment]
        self.receiver = self.service._accept(RELAY)

    def send(self, link: int, circuit: int, *numbers: int) -> None:
        cells = b"".join(cell(circuit, n) for n in numbers)
        self.receiver.frame(Frame.CELLS, memoryview(b"".join(encode_run(LinkId(link), cells))))


def cell(circuit: int, number: int) -> bytes:
    return encode(circuit.to_bytes(4, "big"), Command.RELAY, number.to_bytes(4, "big"))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    def runner(test: Callable[[Rig], Coroutine[Any, Any, None]], **section: Any) -> None:
        async def main() -> None:
            await test(Rig(tmp_path, MixerSection(**section)))

        run_virtual(main())

    return runner


TIMED = {"strategy": "timed", "interval": 0.5, "max_cells": 300}


KINDS = {
    "none": NoMixing,
    "threshold": ThresholdMixing,
    "timed": TimedMixing,
    "pool": PoolMixing,
    "poisson": PoissonMixing,
    "slots": SlotMixing,
}


@pytest.mark.parametrize("name", MIX_NAMES)
def test_the_configuration_names_the_strategy(name: str) -> None:
    assert type(strategy(MixerSection.model_validate({"strategy": name}), Seeded(1))) is KINDS[name]
    assert isinstance(strategy(MixerSection(), Seeded(1)), NoMixing)


@pytest.mark.parametrize(
    ("section", "waits"),
    [
        ({"strategy": "threshold", "threshold": 3, "max_wait": 0.7}, 0.7),
        ({"strategy": "pool", "pool_minimum": 9, "max_wait": 0.6}, 0.6),
        ({"strategy": "pool", "pool_minimum": 0, "pool_fraction": 1.0, "interval": 0.25, "max_wait": 9.0}, 0.25),
    ],
)
def test_the_parameters_reach_the_strategy(run: Callable[..., None], section: dict[str, Any], waits: float) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0)
        await asyncio.sleep(5.0)
        assert [time for time, _ in rig.lane.frames] == [pytest.approx(1000.0 + waits)]

    run(test, **section)


@pytest.mark.parametrize("section", [{"strategy": "poisson", "mean_delay": 0.5}, {"strategy": "slots", "slot": 0.5}])
def test_cells_with_times_of_their_own_share_frames(run: Callable[..., None], section: dict[str, Any]) -> None:
    """Two releases are a tick apart, however many cells are due in between; none waits for longer than that."""

    async def test(rig: Rig) -> None:
        for circuit in range(3000):
            rig.send(1, circuit, 0)
        await asyncio.sleep(20.0)
        assert len(rig.lane.cells) == 3000
        times = [time for time, _ in rig.lane.frames]
        assert len(times) < 2500
        assert all(later - time >= TICK * 0.999 for time, later in pairwise(dict.fromkeys(times)))

    run(test, **section)


def test_none_forwards_frames_as_they_are_and_at_once(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        frame = b"".join(encode_run(LinkId(3), cell(1, 1) * 5))
        rig.receiver.frame(Frame.CELLS, memoryview(bytearray(frame)))
        assert rig.lane.frames == [(1000.0, frame)]
        assert rig.service.status()["cells"] == 5
        assert rig.service.status()["held"] == 0

    run(test)


def test_what_is_no_cells_frame_is_left_alone(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        rig.receiver.frame(Frame.LINK_UP, memoryview(b"\0\0\0\1\1"))
        assert not rig.lane.frames

    run(test)


def test_timed_releases_at_the_end_of_each_interval(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0)
        await asyncio.sleep(0.3)
        rig.send(2, 1, 0)
        assert rig.service.status()["held"] == 2
        assert not rig.lane.frames
        await asyncio.sleep(0.3)
        assert sorted(rig.lane.cells) == [(1, cell(1, 0)), (2, cell(1, 0))]
        assert {time for time, _ in rig.lane.frames} == {1000.5}
        await asyncio.sleep(5.0)
        rig.send(1, 1, 1)
        await asyncio.sleep(0.5)
        assert rig.lane.frames[-1][0] in (1006.0, 1006.5)
        assert rig.service.status()["batches"] == 2

    run(test, **TIMED)


def test_timed_keeps_the_order_of_each_circuit(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        for number in range(100):
            rig.send(1 + number % 2, number % 3, number)
            await asyncio.sleep(0.013)
        await asyncio.sleep(1.0)
        assert len(rig.lane.cells) == 100
        for link in (1, 2):
            for circuit in range(3):
                mine = [c[5:9] for at, c in rig.lane.cells if at == link and c[:4] == circuit.to_bytes(4, "big")]
                assert mine == sorted(mine)

    run(test, **TIMED)


def test_over_its_bound_a_batch_leaves_early(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, *range(299))
        await asyncio.sleep(0.001)
        assert not rig.lane.frames
        rig.send(1, 1, 299)
        await asyncio.sleep(0.001)
        assert len(rig.lane.cells) == 300
        assert [len(decode_untrusted(f)) for _, f in rig.lane.frames] == [1, 1]

    run(test, **TIMED)


def test_a_flood_of_frames_delays_no_release_and_memory_is_bounded(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        for number in range(20):
            rig.send(1, 1, *range(number * 200, number * 200 + 200))
            assert rig.service.status()["held"] < 300 + 200
        await asyncio.sleep(1.0)
        assert [c for _, c in rig.lane.cells] == [cell(1, n) for n in range(4000)]

    run(test, **TIMED)


def test_a_planned_stop_loses_nothing(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0, 1)
        rig.lane.buffered = 100
        asyncio.get_running_loop().call_later(0.05, setattr, rig.lane, "buffered", 0)
        await rig.service.drain()
        assert [c for _, c in rig.lane.cells] == [cell(1, 0), cell(1, 1)]
        assert asyncio.get_running_loop().time() >= 1000.05

    run(test, **TIMED)


@pytest.mark.parametrize("section", [{}, TIMED])
def test_a_planned_stop_waits_as_long_as_the_relay_sends(run: Callable[..., None], section: dict[str, Any]) -> None:
    async def test(rig: Rig) -> None:
        drain = asyncio.ensure_future(rig.service.drain())
        for number in range(20):
            await asyncio.sleep(QUIET_SECONDS * 0.9)
            rig.send(1, 1, number)
            assert not drain.done()
        await drain
        assert [c for _, c in rig.lane.cells] == [cell(1, n) for n in range(20)]
        last = 1000 + 20 * QUIET_SECONDS * 0.9
        assert QUIET_SECONDS <= asyncio.get_running_loop().time() - last <= 2 * QUIET_SECONDS

    run(test, **section)


def test_when_the_relay_dies_what_is_held_for_its_circuits_is_dropped(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0)
        rig.receiver.down()
        assert rig.service.status()["held"] == 0
        await asyncio.sleep(2.0)
        assert not rig.lane.frames
        rig.send(1, 1, 1)
        await asyncio.sleep(1.0)
        assert [c for _, c in rig.lane.cells] == [cell(1, 1)]

    run(test, **TIMED)


@pytest.mark.parametrize("section", [{}, TIMED])
def test_a_relay_that_comes_before_the_gateways_lane_loses_nothing(
    run: Callable[..., None], section: dict[str, Any]
) -> None:
    async def test(rig: Rig) -> None:
        rig.lane.up = False
        rig.send(1, 1, *range(7))
        await asyncio.sleep(1.0)
        assert rig.service.status()["lost"] == 0
        assert rig.service.status()["lane_up"] == 0.0
        rig.lane.up = True
        rig.service._gateway_up(LanePeer("gateway", 1))
        assert [c for _, c in rig.lane.cells] == [cell(1, n) for n in range(7)]

    run(test, **section)


def test_what_waits_for_the_gateway_is_bounded_and_the_rest_is_counted(
    run: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EARLY_CELLS", 10)

    async def test(rig: Rig) -> None:
        rig.lane.up = False
        for _ in range(3):
            rig.send(1, 1, *range(5))
        assert rig.service.status()["lost"] == 5
        rig.lane.up = True
        rig.service._gateway_up(LanePeer("gateway", 1))
        assert len(rig.lane.cells) == 10

    run(test)


def test_what_waits_dies_with_the_gateway_or_the_relay(run: Callable[..., None]) -> None:
    async def test(rig: Rig) -> None:
        for end in (rig.service._gateway_down, rig.service.relay_down):
            rig.lane.up = False
            rig.send(1, 1, 1)
            end()
            rig.lane.up = True
            rig.service._gateway_up(LanePeer("gateway", 2))
            assert not rig.lane.cells

    run(test)
