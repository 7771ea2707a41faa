"""When a link's slots begin and end: adaptive links, and links that are paced, or no longer, while they stand."""

from __future__ import annotations

import asyncio

import pytest
from egress_rig import ADAPTIVE, CONSTANT, SLOT, PlainLink, Rig, cells, run
from phantomband.core.shaping import Shape
from phantomband.runtime.egress import Egress
from virtual import run_virtual

# ---- adaptive ----------------------------------------------------------------------------------------------


def test_while_an_adaptive_link_is_silent_its_own_cells_leave_at_once() -> None:
    async def test(rig: Rig) -> None:
        assert not rig.egress.active
        rig.egress.add(cells(0, 2))
        assert rig.slots == [[(0, 0), (0, 1)]]
        await asyncio.sleep(1000)
        assert len(rig.slots) == 1
        rig.connection.congest()
        rig.egress.add(cells(0, 1, 2))
        rig.connection.congest(False)
        rig.egress.drain()
        assert rig.slots[1:] == [[(0, 2)]]

    run(test, shape=ADAPTIVE)


@pytest.mark.parametrize("ours", [True, False])
def test_a_circuits_cell_of_either_direction_begins_the_slots(ours: bool) -> None:
    async def test(rig: Rig) -> None:
        await asyncio.sleep(0.7)
        if ours:
            rig.egress.add(cells(1, 1))
        else:
            rig.egress.carried()
        assert not rig.slots
        await asyncio.sleep(0.01)
        assert rig.egress.active
        assert rig.slots == [[(1, 0) if ours else "PAD"]]
        rig.egress.add(cells(0, 1))
        assert len(rig.slots) == 1, "and now the link's own cells wait for them too"
        await asyncio.sleep(0.125)
        assert rig.slots[1:] == [[(0, 0)]]

    run(test, shape=ADAPTIVE)


def test_an_adaptive_link_that_carries_nothing_any_more_falls_silent_and_begins_again() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(2):
            rig.egress.add(cells(1, 1))
            await asyncio.sleep(75)
            assert rig.egress.active
            await asyncio.sleep(1200)
            assert not rig.egress.active
            seen = len(rig.slots)
            await asyncio.sleep(1000)
            assert len(rig.slots) == seen

    run(test, shape=ADAPTIVE)


# ---- from one to the other ---------------------------------------------------------------------------------


def test_what_waits_and_what_was_counted_goes_over_both_ways() -> None:
    async def test(rig: Rig) -> None:
        rig.egress.add(cells(1, 6))
        await asyncio.sleep(SLOT * 1.5)
        plain = Egress(PlainLink(), rig.connection, rig.given_up.append)  # type: ignore[arg-type]
        plain.take_over(rig.egress)
        assert rig.slots == [[(1, 0), (1, 1), (1, 2), (1, 3)], [(1, 4), (1, 5)]]
        assert (plain.waiting, plain.cells_sent, plain.padding_sent) == (0, 6, 0)
        await asyncio.sleep(1)
        assert len(rig.slots) == 2, "the old queue has stopped"

    run(test)


@pytest.mark.parametrize("shape", [CONSTANT, ADAPTIVE])
def test_cells_that_waited_for_a_congested_link_leave_in_slots_once_it_is_paced(shape: Shape) -> None:
    async def main() -> None:
        rig = Rig(shape)
        plain = Egress(PlainLink(), rig.connection, rig.given_up.append)  # type: ignore[arg-type]
        rig.connection.congest()
        plain.add(cells(1, 3))
        rig.connection.congest(False)
        rig.egress.take_over(plain)
        assert not rig.slots
        await asyncio.sleep(0.3)
        assert [n for slot in rig.slots for n in slot if n != "PAD"] == [(1, 0), (1, 1), (1, 2)]
        rig.egress.stop()

    run_virtual(main())
