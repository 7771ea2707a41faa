"""The queue of a paced link: exactly the cells of a slot, circuits in turn, the same whether or not anything waits."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from egress_rig import ADAPTIVE, CONSTANT, SLOT, PlainLink, Rig, TimedConnection, cell, cells, run
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.cell import CELL_BYTES, LINK_CIRCUIT
from phantomband.core.errors import Bug
from phantomband.core.shaping import Mode, Schedule, Shape
from phantomband.runtime.egress import CIRCUIT_CAP, LINK_QUEUE_CAP, Egress
from phantomband.runtime.paced_egress import PAD
from virtual import run_virtual

# ---- slots -------------------------------------------------------------------------------------------------


def test_an_idle_link_sends_the_same_number_of_padding_cells_each_slot() -> None:
    async def test(rig: Rig) -> None:
        await asyncio.sleep(10 + SLOT / 2)
        assert rig.slots == [["PAD"] * 4] * 320
        assert (rig.egress.cells_sent, rig.egress.padding_sent) == (1280, 1280)
        assert {round(b - a, 6) for a, b in pairwise(rig.connection.times)} == {SLOT}

    run(test)


def test_nothing_is_sent_before_a_slot_and_then_real_cells_come_first() -> None:
    async def test(rig: Rig) -> None:
        rig.egress.add(cells(1, 6))
        await asyncio.sleep(SLOT * 0.9)
        assert not rig.slots
        assert rig.egress.waiting == 6
        await asyncio.sleep(SLOT * 2)
        assert rig.slots == [[(1, 0), (1, 1), (1, 2), (1, 3)], [(1, 4), (1, 5), "PAD", "PAD"]]
        assert (rig.egress.waiting, rig.egress.cells_sent, rig.egress.padding_sent) == (0, 8, 2)

    run(test)


Load = list[tuple[float, int, int]]
"""After so many seconds so many cells of such a circuit."""


def observed(shape: Shape, load: Load, seconds: float) -> list[tuple[float, int]]:
    """(time, bytes) of all that is written."""

    async def main() -> list[tuple[float, int]]:
        rig = Rig(shape)
        loop = asyncio.get_running_loop()
        for after, circuit, count in load:
            loop.call_later(after, lambda circuit=circuit, count=count: rig.egress.add(cells(circuit, count)))  # type: ignore[misc]
        await asyncio.sleep(seconds)
        rig.egress.stop()
        return list(zip(rig.connection.times, map(len, rig.connection.written), strict=True))

    return run_virtual(main())


LOADS = st.lists(st.tuples(st.floats(0, 2.9), st.integers(0, 3), st.integers(1, 40)), max_size=25)


@settings(max_examples=40, deadline=None)
@given(LOADS, st.sampled_from(Schedule), st.sampled_from([8, 31, 32, 128, 700]))
def test_an_observer_of_a_constant_link_sees_the_same_whatever_is_sent(
    load: Load, schedule: Schedule, rate: int
) -> None:
    shape = Shape(Mode.CONSTANT, schedule, rate)
    busy, idle = observed(shape, load, 3), observed(shape, [], 3)
    assert [size for _, size in busy] == [size for _, size in idle]
    # The loop runs timers together that lie within a nanosecond, at the moment of the first.
    assert [at for at, _ in busy] == pytest.approx([at for at, _ in idle], rel=0, abs=1e-8)


def test_the_control_without_pacing_does_differ() -> None:
    async def main() -> int:
        connection = TimedConnection()
        Egress(PlainLink(), connection, lambda c: None).add(cells(1, 3))  # type: ignore[arg-type]
        return len(connection.times)

    assert run_virtual(main()) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=12))
def test_every_cell_leaves_once_in_its_circuits_order_whatever_the_pieces(batches: list[tuple[int, int]]) -> None:
    async def test(rig: Rig) -> None:
        sent: dict[int, int] = {}
        for circuit, count in batches:
            rig.egress.add(cells(circuit, count, sent.get(circuit, 0)))
            sent[circuit] = sent.get(circuit, 0) + count
        total = sum(sent.values())
        await asyncio.sleep((total / 4 + 2) * SLOT)
        flat = [name for slot in rig.slots for name in slot if name != "PAD"]
        for circuit, count in sent.items():
            assert [n for c, n in flat if c == circuit] == list(range(count))  # type: ignore[misc]
        assert all(len(slot) == 4 for slot in rig.slots)
        assert "PAD" not in [name for slot in rig.slots[: total // 4] for name in slot]
        assert rig.egress.waiting == 0

    run(test)


def test_circuits_take_turns_a_slot_each_and_a_long_queue_delays_another_by_a_slot() -> None:
    async def test(rig: Rig) -> None:
        rig.egress.add(cells(1, 4000))
        rig.egress.add(cells(2, 1))
        await asyncio.sleep(SLOT * 3.5)
        assert rig.slots[0] == [(1, 0), (1, 1), (1, 2), (1, 3)]
        assert rig.slots[1] == [(2, 0), (1, 4), (1, 5), (1, 6)]

    run(test)


def test_within_a_large_slot_a_turn_is_one_record() -> None:
    async def test(rig: Rig) -> None:
        rig.egress.add(cells(1, 40))
        rig.egress.add(cells(2, 40))
        await asyncio.sleep(SLOT * 1.5)
        (slot,) = rig.slots
        assert [c for c, _ in slot] == [1] * 15 + [2] * 15 + [1] * 15 + [2] * 15 + [1] * 4  # type: ignore[misc]

    run(test, shape=Shape(Mode.CONSTANT, Schedule.FIXED, 2048))


def test_missed_slots_are_made_up_for_in_writes_of_their_own() -> None:
    async def test(rig: Rig) -> None:
        await asyncio.sleep(SLOT * 1.5)
        rig.connection.written.clear()
        loop: Any = asyncio.get_running_loop()
        loop._jumping.passed += 3.2 * SLOT  # the loop was busy
        await asyncio.sleep(0.001)
        assert rig.slots == [["PAD"] * 4] * 3

    run(test)


# ---- what fills a slot -------------------------------------------------------------------------------------


def test_the_filler_makes_up_what_lacks_and_padding_what_it_does_not_give() -> None:
    asked: list[int] = []

    def fill(count: int) -> bytes:
        asked.append(count)
        return cells(7, min(count, 3), 100)

    async def test(rig: Rig) -> None:
        rig.egress.add(cells(1, 5))
        await asyncio.sleep(SLOT * 3.5)
        assert rig.slots == [
            [(1, 0), (1, 1), (1, 2), (1, 3)],
            [(1, 4), (7, 100), (7, 101), (7, 102)],
            [(7, 100), (7, 101), (7, 102), "PAD"],
        ]
        assert asked == [3, 4], "and is not called while cells wait"
        assert rig.egress.padding_sent == 7

    run(test, fill=fill)


def test_a_filler_may_queue_more_than_it_gives_and_each_circuit_keeps_its_order() -> None:
    rigs: list[Rig] = []
    made = iter(range(0, 100, 20))

    def fill(count: int) -> bytes:
        """Twenty cells of circuit 2; what the slot has no room for waits."""
        cells_of_two = cells(2, 20, next(made)) if len(rigs[0].connection.written) == 0 else b""
        rigs[0].egress.add(cells_of_two[count * CELL_BYTES :])
        return cells_of_two[: count * CELL_BYTES]

    async def test(rig: Rig) -> None:
        rigs.append(rig)
        rig.egress.add(cells(1, 40))
        await asyncio.sleep(SLOT * 1.5)
        (first,) = rig.slots
        assert first == [(1, n) for n in range(40)] + [(2, n) for n in range(20)] + ["PAD"] * 4
        rig.connection.written.clear()
        rig.egress.add(cells(1, 60, 40))
        await asyncio.sleep(SLOT)
        (second,) = rig.slots
        assert second == [(1, n) for n in range(40, 100)] + [(2, n) for n in range(20, 24)]
        await asyncio.sleep(SLOT)
        assert rig.slots[1][:16] == [(2, n) for n in range(24, 40)]

    run(test, shape=Shape(Mode.CONSTANT, Schedule.FIXED, 2048), fill=fill)


@pytest.mark.parametrize("wrong", [b"x", PAD * 5])
def test_a_filler_that_gives_something_else_is_a_bug_and_the_slots_go_on(wrong: bytes) -> None:
    gives = [wrong, b""]
    told: list[type[BaseException]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(type(context["exception"])))
        rig = Rig(fill=lambda count: gives.pop(0))
        rig.egress.add(cells(1, 2))
        await asyncio.sleep(SLOT * 2.5)
        rig.egress.stop()
        assert rig.slots == [[(1, 0), (1, 1), "PAD", "PAD"], ["PAD"] * 4], "what waited is not lost"

    run_virtual(main())
    assert told == [Bug]


# ---- the connection does not take it -----------------------------------------------------------------------


def test_a_slot_at_which_the_connection_is_congested_is_lost_and_not_made_up_for() -> None:
    async def test(rig: Rig) -> None:
        rig.connection.congest()
        rig.egress.add(cells(1, 5))
        await asyncio.sleep(SLOT * 5.5)
        assert not rig.slots
        rig.connection.congest(False)
        rig.egress.drain()
        assert not rig.slots, "what waits leaves in slots"
        await asyncio.sleep(SLOT)
        assert rig.slots == [[(1, 0), (1, 1), (1, 2), (1, 3)]]

    run(test)


def test_caps_are_those_of_every_egress() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(CIRCUIT_CAP // 64):
            rig.egress.add(cells(1, 64))
        rig.egress.add(cells(2, 1))
        assert not rig.given_up
        rig.egress.add(cells(1, 1))
        assert rig.given_up == [b"\0\0\0\1"]
        assert rig.egress.waiting == 1
        rig.egress.add(PAD * LINK_QUEUE_CAP)
        rig.egress.add(PAD)
        assert rig.given_up[1:] == [LINK_CIRCUIT]

    run(test)


def test_a_reset_drops_what_waits_for_circuits_and_waits_for_a_slot_itself() -> None:
    async def test(rig: Rig) -> None:
        rig.egress.add(cells(1, 50))
        rig.egress.reset(cell(0, 9))
        assert rig.egress.waiting == 1
        await asyncio.sleep(SLOT * 1.5)
        assert rig.slots == [[(0, 9), "PAD", "PAD", "PAD"]]

    run(test)


def test_a_stopped_queue_sends_nothing_more_whatever_comes() -> None:
    async def test(rig: Rig) -> None:
        rig.egress.stop()
        rig.egress.add(cells(1, 5))
        rig.egress.carried()
        await asyncio.sleep(1)
        assert not rig.slots

    for shape in (CONSTANT, ADAPTIVE):
        run(test, shape=shape)
