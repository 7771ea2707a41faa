"""The mixer: frames in, frames out, as its strategy says."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from mixer_rig import Rig, Run, cell, runner
from phantomband.core.cell import Command
from phantomband.core.circuit.batch import encode_run
from phantomband.core.ids import LinkId
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.pool import PoolMixing
from phantomband.core.mixing.slots import SlotMixing
from phantomband.core.mixing.threshold import ThresholdMixing
from phantomband.core.mixing.timed import TimedMixing
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import HIGH_WATER, LanePeer
from phantomband.runtime.service import QUIET_SECONDS
from phantomband.runtime.settings import MIX_NAMES, MixerSection
from phantomband_mixer.service import TICK, strategy
from world import Seeded


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path)


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
def test_the_parameters_reach_the_strategy(run: Run, section: dict[str, Any], waits: float) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0)
        await asyncio.sleep(5.0)
        assert [time for time, _ in rig.lane.frames] == [pytest.approx(1000.0 + waits)]

    run(test, **section)


@pytest.mark.parametrize(
    "section", [{"strategy": "poisson", "mean_delay": 0.5}, {"strategy": "slots", "slot": 0.5, "slot_dummies": 0}]
)
def test_cells_with_times_of_their_own_share_frames(run: Run, section: dict[str, Any]) -> None:
    """Two releases are a tick apart, however many cells are due in between; none waits for longer than that."""

    async def test(rig: Rig) -> None:
        for circuit in range(1, 3001):
            rig.send(1, circuit, 0)
        await asyncio.sleep(20.0)
        assert len(rig.lane.cells) == 3000
        times = [time for time, _ in rig.lane.frames]
        assert len(times) < 2500
        assert all(later - time >= TICK * 0.999 for time, later in pairwise(dict.fromkeys(times)))

    run(test, **section)


def test_none_forwards_frames_as_they_are_and_at_once(run: Run) -> None:
    async def test(rig: Rig) -> None:
        frame = b"".join(encode_run(LinkId(3), cell(1, 1) * 5))
        rig.receiver.frame(Frame.CELLS, memoryview(bytearray(frame)))
        assert rig.lane.frames == [(1000.0, frame)]
        assert rig.service.status()["cells"] == 5
        assert rig.service.status()["held"] == 0

    run(test)


def test_what_is_no_cells_frame_is_left_alone(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.receiver.frame(Frame.LINK_UP, memoryview(b"\0\0\0\1\1"))
        assert not rig.lane.frames

    run(test)


def test_timed_releases_at_the_end_of_each_interval(run: Run) -> None:
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


def test_timed_keeps_the_order_of_each_circuit(run: Run) -> None:
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


def test_a_flood_of_frames_delays_no_release(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0)
        for number in range(1, 1000):
            rig.send(2, number, *range(9))
            await asyncio.sleep(0.001)
        assert [time for time, frame in rig.lane.frames if cell(1, 0) in frame] == [pytest.approx(1000.5, abs=TICK)]

    run(test, **TIMED)


def test_a_planned_stop_loses_nothing(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0, 1)
        rig.lane.buffered = 100
        asyncio.get_running_loop().call_later(0.05, setattr, rig.lane, "buffered", 0)
        await rig.service.drain()
        assert [c for _, c in rig.lane.cells] == [cell(1, 0), cell(1, 1)]
        assert asyncio.get_running_loop().time() >= 1000.05

    run(test, **TIMED)


@pytest.mark.parametrize("section", [{}, TIMED])
def test_a_planned_stop_waits_as_long_as_the_relay_sends(run: Run, section: dict[str, Any]) -> None:
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


def test_a_planned_stop_that_takes_too_long_still_sends_what_is_held(run: Run) -> None:
    """The relay does not stop; `serve` ends the drain after DRAIN_SECONDS."""

    async def test(rig: Rig) -> None:
        drain = asyncio.ensure_future(rig.service.drain())
        for number in range(10):
            await asyncio.sleep(QUIET_SECONDS / 2)
            rig.send(1, 1, number)
        assert not rig.lane.frames
        drain.cancel()
        await asyncio.wait([drain])
        assert [c for _, c in rig.lane.cells] == [cell(1, n) for n in range(10)]

    run(test, strategy="timed", interval=60)


@pytest.mark.parametrize("name", MIX_NAMES)
def test_a_planned_stop_with_a_full_mixer_loses_nothing(run: Run, name: str) -> None:
    async def test(rig: Rig) -> None:
        sent = []
        for number in range(50):
            for circuit in range(1, 5):
                rig.send(circuit % 2, circuit, number)
                sent.append((circuit % 2, cell(circuit, number)))
        await rig.service.drain()
        await asyncio.sleep(5.0)
        assert sorted((link, c) for link, c in rig.lane.cells if c[4] != Command.PAD) == sorted(sent)
        assert rig.service.status()["held"] == 0

    slow = {"interval": 60, "mean_delay": 60, "max_wait": 60, "threshold": 250, "max_cells": 300, "slot": 60}
    run(test, slot_dummies=10, strategy=name, **slow)


@pytest.mark.parametrize("name", MIX_NAMES)
@pytest.mark.parametrize("end", ["relay", "gateway"])
def test_when_a_neighbour_dies_what_is_held_for_its_circuits_is_dropped(run: Run, name: str, end: str) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0, 1)
        rig.lane.frames.clear()
        if end == "relay":
            rig.receiver.down()
        else:
            rig.service._gateway_down()
        assert rig.service.status()["held"] == 0
        assert rig.service._timer is None, "not even dummies are left to send"
        await asyncio.sleep(2.0)
        assert not rig.lane.frames
        rig.send(1, 1, 2)
        await asyncio.sleep(1.0)
        assert rig.lane.cells[0] == (1, cell(1, 2))

    run(test, slot_dummies=10, strategy=name, interval=0.5)


@pytest.mark.parametrize("section", [{}, TIMED])
def test_a_relay_that_comes_before_the_gateways_lane_loses_nothing(run: Run, section: dict[str, Any]) -> None:
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


def test_what_waits_for_the_gateway_is_bounded_and_the_rest_is_counted(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.lane.up = False
        for _ in range(3):
            rig.send(1, 1, *range(200))
        assert rig.service.status()["lost"] == 200
        rig.lane.up = True
        rig.service._gateway_up(LanePeer("gateway", 1))
        assert len(rig.lane.cells) == 400

    run(test, max_cells=300)


@pytest.mark.parametrize("name", MIX_NAMES)
def test_a_gateway_that_is_held_up_is_not_flooded(run: Run, name: str) -> None:
    """More than a lane takes is due at once: it gets that in pieces, in order, and what still comes stays mixed."""

    async def test(rig: Rig) -> None:
        for number in range(30):
            rig.send(1, 1 + number % 3, number // 3)
        rig.lane.buffered = HIGH_WATER + 1
        before = len(rig.lane.cells)
        rig.send_cells(2, *(cell(circuit, 0) for circuit in range(1, 11)))
        await asyncio.sleep(60.0)
        assert len(rig.lane.cells) == before
        rig.lane.buffered = 0
        rig.service._gateway_writable()
        await asyncio.sleep(60.0)
        left = [(link, c) for link, c in rig.lane.cells if c[4] != Command.PAD]
        assert len(left) == 40
        assert rig.service.status()["held"] == rig.service.status()["waiting"] == rig.service.status()["lost"] == 0
        for circuit in (1, 2, 3):
            mine = [c for link, c in left if link == 1 and c[:4] == circuit.to_bytes(4, "big")]
            assert mine == [cell(circuit, n) for n in range(10)]

    run(test, slot_dummies=10, strategy=name, max_cells=300)


def test_while_the_gateway_is_held_up_the_bound_and_its_rule_hold(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.lane.buffered = HIGH_WATER + 1
        for number in range(300):
            rig.send(1, 1, *range(number * 10, number * 10 + 10))
            rig.send(2, 1 + number % 20, number // 20)
            await asyncio.sleep(0.01)
            assert rig.service.status()["held"] <= 300
            assert rig.service.status()["waiting"] <= 450
        rig.lane.buffered = 0
        rig.service._gateway_writable()
        await asyncio.sleep(10.0)
        assert rig.lane.overflows[0] == (1, b"\0\0\0\1")
        assert rig.service.status()["lost"] == 0

    run(test, strategy="threshold", threshold=16, max_cells=300)


def test_a_gateway_that_is_stuck_has_its_lane_broken_off(run: Run) -> None:
    """The lane gets all that waits, which is more than it takes; what dies then is told by the lane's end."""

    async def test(rig: Rig) -> None:
        rig.lane.buffered = HIGH_WATER + 1
        for number in range(3):
            rig.send(1, 1, *range(number * 150, number * 150 + 150))
        assert not rig.lane.frames
        rig.send(1, 1, 450)
        assert len(rig.lane.cells) == 450
        assert rig.service.status()["lost"] == 1

    run(test, max_cells=300)


def test_what_waits_dies_with_the_gateway_or_the_relay(run: Run) -> None:
    async def test(rig: Rig) -> None:
        for end in (rig.service._gateway_down, rig.service.relay_down):
            rig.lane.up = False
            rig.send(1, 1, 1)
            end()
            rig.lane.up = True
            rig.service._gateway_up(LanePeer("gateway", 2))
            assert not rig.lane.cells

    run(test)
