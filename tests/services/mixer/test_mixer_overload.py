"""The mixer under ten times what it can hold, cells of the link itself, and dummies."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from mixer_rig import Rig, Run, cell, runner
from phantomband.core.cell import LINK_CIRCUIT, Command, encode
from phantomband.core.circuit.batch import MAX_CELLS
from phantomband.core.mixing.slots import PAD
from phantomband.runtime.settings import MIX_NAMES

ROOM = 300
DESTROY_ALL = encode(LINK_CIRCUIT, Command.DESTROY)
SLOW = {"interval": 60, "mean_delay": 60, "max_wait": 60, "slot": 60, "threshold": 200, "max_cells": ROOM}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return runner(tmp_path)


def destroy(circuit: int) -> bytes:
    return encode(circuit.to_bytes(4, "big"), Command.DESTROY)


@pytest.mark.parametrize("name", MIX_NAMES)
def test_ten_times_too_much_ends_some_circuits_and_takes_nothing_from_others(run: Run, name: str) -> None:
    """What left of a circuit is whole, or the beginning of it and then its end, of which the relay is told."""

    async def test(rig: Rig) -> None:
        sent: Counter[tuple[int, int]] = Counter()
        for number in range(10 * ROOM // 3):
            link, circuit = number % 4, 1 + number % 21
            rig.send(link, circuit, *range(sent[link, circuit], sent[link, circuit] + 3))
            sent[link, circuit] += 3
            assert rig.service.status()["held"] <= ROOM + MAX_CELLS
        await asyncio.sleep(700 * 60.0)
        ended = {(link, int.from_bytes(circuit, "big")) for link, circuit in rig.lane.overflows}
        assert bool(ended) == (name not in ("none", "threshold"))
        assert len(ended) == len(rig.lane.overflows) == rig.service.status()["dropped_circuits"]
        left = rig.lane.cells
        for link, circuit in sent:
            mine = [c for at, c in left if at == link and c[:4] == circuit.to_bytes(4, "big")]
            if (link, circuit) in ended:
                assert mine.pop() == destroy(circuit)
            else:
                assert len(mine) == sent[link, circuit]
            assert mine == [cell(circuit, n) for n in range(len(mine))]
        assert rig.service.status()["lost"] == 0

    run(test, strategy=name, **SLOW)


def test_a_dropped_circuit_ends_at_once_and_its_late_cells_are_swallowed(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.send(2, 5, 0)
        rig.send(1, 7, *range(150))
        rig.send(1, 7, *range(150, 300))
        assert rig.lane.cells == [(1, destroy(7))]
        assert rig.lane.overflows == [(1, b"\0\0\0\7")]
        rig.send(1, 7, 300)
        rig.send_cells(1, destroy(7))
        assert rig.service.status()["held"] == 1
        assert rig.service.status()["dropped_cells"] == 300
        await asyncio.sleep(60.0)
        assert rig.lane.cells == [(1, destroy(7)), (2, cell(5, 0))]

    run(test, strategy="timed", **SLOW)


# ---- the link's own cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MIX_NAMES if name != "none"])
def test_the_end_of_all_circuits_of_a_link_passes_at_once_and_drops_what_was_held(run: Run, name: str) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0, 1)
        rig.send(2, 1, 0)
        rig.send_cells(1, cell(1, 2), DESTROY_ALL, cell(2, 0, Command.CREATE))
        assert rig.lane.cells == [(1, DESTROY_ALL)]
        await asyncio.sleep(200.0)
        assert sorted(rig.lane.cells[1:]) == [(1, cell(2, 0, Command.CREATE)), (2, cell(1, 0))]
        assert not rig.lane.overflows

    run(test, strategy=name, **SLOW)


@pytest.mark.parametrize("name", MIX_NAMES)
def test_a_circuits_destroy_stays_behind_its_cells(run: Run, name: str) -> None:
    async def test(rig: Rig) -> None:
        rig.send_cells(1, *(cell(1, n) for n in range(20)), destroy(1), cell(2, 0))
        await asyncio.sleep(30 * 60.0)
        assert [c for _, c in rig.lane.cells if c[:4] == b"\0\0\0\1"] == [cell(1, n) for n in range(20)] + [destroy(1)]

    run(test, strategy=name, **SLOW)


# ---- dummies -----------------------------------------------------------------------------------------------------


def test_slots_without_cells_carry_dummies_until_the_circuit_ends(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0)
        await asyncio.sleep(10.0)
        assert len(rig.lane.cells) in (99, 100, 101)
        assert Counter(c for _, c in rig.lane.cells).keys() == {cell(1, 0), PAD}
        rig.send_cells(1, destroy(1))
        await asyncio.sleep(1.0)
        assert rig.lane.cells[-1] == (1, destroy(1))
        assert rig.service._timer is None

    run(test, strategy="slots", slot=0.1, slot_dummies=10)


def test_without_dummies_an_empty_slot_is_empty(run: Run) -> None:
    async def test(rig: Rig) -> None:
        rig.send(1, 1, 0)
        await asyncio.sleep(10.0)
        assert rig.lane.cells == [(1, cell(1, 0))]

    run(test, strategy="slots", slot=0.1, slot_dummies=0)
