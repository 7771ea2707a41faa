"""Slots: a schedule of its own for each circuit."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from mixing_driver import Driver, cell, kolmogorov_smirnov
from phantomband.core.cell import LINK_CIRCUIT, Command, encode
from phantomband.core.ids import LinkId
from phantomband.core.mixing import slots
from phantomband.core.mixing.slots import SlotMixing
from world import Seeded

SLOT = 0.02


def times(driver: Driver, circuit: int) -> list[float]:
    ident = circuit.to_bytes(4, "big")
    return [now for now, batch in driver.released for _, cells in batch for c in cells if c[:4] == ident]


def test_a_backlog_leaves_one_cell_a_slot() -> None:
    driver = Driver(SlotMixing(SLOT, 100_000, Seeded(1)))
    driver.add(1, [1] * 100 + [2] * 50)
    driver.wait(10.0)
    for circuit, count in ((1, 100), (2, 50)):
        mine = times(driver, circuit)
        assert len(mine) == count
        assert mine[0] <= 100.0 + SLOT
        assert all(b - a == pytest.approx(SLOT, abs=1e-9) for a, b in pairwise(mine))


def test_whatever_comes_in_leaves_on_the_grid_and_never_two_in_a_slot() -> None:
    driver = Driver(SlotMixing(SLOT, 100_000, Seeded(2)))
    source = Seeded(3)
    for _ in range(2000):
        byte = source(1)[0]
        driver.add(1, [1] * (byte % 3))
        driver.wait(byte / 255 * 2 * SLOT)
    driver.wait(100.0)
    steps = [(now - times(driver, 1)[0]) / SLOT for now in times(driver, 1)[:500]]
    assert all(abs(step - round(step)) < 1e-6 for step in steps)
    numbers = [round(step) for step in steps]
    assert len(set(numbers)) == len(numbers)


def test_a_cell_at_the_very_time_of_a_slot_waits_for_the_next() -> None:
    """However the times are rounded: 10,000 slots in a row, each asked for at the time of the one before."""
    strategy = SlotMixing(0.1, 1000, Seeded(4))
    circuit = (LinkId(1), b"\0\0\0\1")
    at = 1.7e9
    first = strategy.next_slot(circuit, at)
    at = first
    for number in range(1, 10_000):
        at = strategy.next_slot(circuit, at)
        assert at == pytest.approx(first + number * 0.1, abs=1e-5)


def test_phases_are_uniform() -> None:
    strategy = SlotMixing(SLOT, 100_000, Seeded(5))
    phases = [strategy.next_slot((LinkId(1), n.to_bytes(4, "big")), 0.0) for n in range(5000)]
    assert kolmogorov_smirnov(phases, lambda x: min(1.0, x / SLOT)) < 2.23


def test_a_phase_lasts_while_the_circuit_is_silent() -> None:
    driver = Driver(SlotMixing(SLOT, 100_000, Seeded(6)))
    for _ in range(20):
        driver.add(1, [1])
        driver.wait(1.2345)
    steps = [(now - times(driver, 1)[0]) / SLOT for now in times(driver, 1)]
    assert all(abs(step - round(step)) < 1e-6 for step in steps)


def test_phases_are_bounded_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MAX_PHASES", 3)
    strategy = SlotMixing(1.0, 1000, Seeded(7))
    circuits = [(LinkId(1), bytes([0, 0, 0, n])) for n in range(4)]
    before = [strategy.next_slot(c, 0.0) for c in circuits]
    assert [strategy.next_slot(c, 0.0) for c in circuits[1:]] == before[1:]
    assert strategy.next_slot(circuits[0], 0.0) != before[0]


def test_at_the_bound_the_flood_ends_and_the_others_keep_their_slots() -> None:
    strategy = SlotMixing(1.0, 64, Seeded(1))
    driver = Driver(strategy)
    driver.add(1, list(range(20)))
    expected = {i: strategy.next_slot((LinkId(1), i.to_bytes(4, "big")), 100.0) for i in range(20)}
    for _ in range(500):
        driver.add(2, [99])
        assert strategy.held <= 64
    assert driver.dropped == {(2, b"\0\0\0\x63")}
    driver.wait(100.0)
    assert {i: times(driver, i)[0] for i in range(20)} == expected
    assert len(driver.got) == 20


def test_a_release_that_comes_late_sends_one_cell_of_a_circuit() -> None:
    strategy = SlotMixing(1.0, 1000, Seeded(1), dummies=10)
    strategy.add(LinkId(1), [cell(1, i) for i in range(5)] + [cell(2, 0)], 10.0)
    assert sorted(c[:4] for _, cells in strategy.release(13.5) for c in cells) == [b"\0\0\0\1", b"\0\0\0\2"]
    assert strategy.held == 4
    assert strategy.deadline is not None
    assert 13.5 < strategy.deadline <= 14.5


# ---- dummies ---------------------------------------------------------------------------------------------------


def test_a_links_slots_are_the_same_whether_a_circuit_is_busy_or_silent() -> None:
    """Two circuits on a link: one sends in bursts, the other one cell. Whoever counts cells sees no difference."""

    def seen(bursts: list[int]) -> list[tuple[float, int]]:
        driver = Driver(SlotMixing(SLOT, 100_000, Seeded(3), dummies=10))
        driver.add(1, [1, 2])
        for burst in bursts:
            driver.wait(1.0)
            driver.add(1, [1] * burst)
        driver.wait(30.0 - len(bursts))
        return [(now, sum(len(cells) for _, cells in batch)) for now, batch in driver.released]

    silent = seen([])
    assert len(silent) == pytest.approx(2 * 30 / SLOT, abs=2)
    assert seen([1, 40, 0, 7]) == silent
    assert seen([0, 0, 300]) == silent


def test_dummies_go_to_the_circuits_link_as_cells_of_the_link() -> None:
    driver = Driver(SlotMixing(1.0, 1000, Seeded(3), dummies=10))
    driver.add(7, [1])
    driver.wait(10.0)
    assert {link for link, _ in driver.got} == {7}
    ((_, first), *rest) = driver.got
    assert first == cell(1, 0)
    assert len(rest) in (8, 9)
    assert {c for _, c in rest} == {encode(LINK_CIRCUIT, Command.PAD)}


def test_dummies_end_behind_the_circuits_destroy() -> None:
    driver = Driver(SlotMixing(1.0, 1000, Seeded(3), dummies=10))
    driver.add(1, [1, 1])
    driver.strategy.add(LinkId(1), [cell(1, 9, Command.DESTROY)], driver.now)
    driver.wait(20.0)
    assert [c for _, c in driver.got] == [cell(1, 0), cell(1, 1), cell(1, 9, Command.DESTROY)]
    assert driver.strategy.deadline is None


def test_dummies_end_when_a_circuit_is_silent_for_long() -> None:
    strategy = SlotMixing(1.0, 1000, Seeded(3), dummies=10)
    driver = Driver(strategy)
    driver.add(1, [1])
    driver.wait(50.0)
    driver.add(1, [1])
    driver.wait(slots.LIVE_SECONDS - 2)
    assert strategy.live == 1
    driver.wait(4.0)
    assert (strategy.live, strategy.deadline) == (0, None)
    assert max(now for now, _ in driver.released) <= 150.0 + slots.LIVE_SECONDS
    assert strategy.dummies_sent == len(driver.got) - 2
    driver.add(1, [1])
    assert strategy.live == 1


def test_dummies_are_for_the_circuits_that_spoke_last() -> None:
    strategy = SlotMixing(1.0, 1000, Seeded(3), dummies=2)
    driver = Driver(strategy)
    for link in (1, 2, 3, 2):
        driver.add(link, [link])
    driver.wait(10.0)
    assert strategy.live == 2
    assert {link for link, c in driver.got if c.startswith(LINK_CIRCUIT)} == {2, 3}
    assert [link for link, c in driver.got if c == cell(1, 0)] == [1]


def test_no_dummies_for_circuits_that_were_dropped_or_whose_link_died() -> None:
    strategy = SlotMixing(1.0, 16, Seeded(3), dummies=10)
    driver = Driver(strategy)
    driver.add(1, [1] * 17)
    assert driver.dropped
    driver.add(2, [2])
    strategy.drop_link(LinkId(2))
    assert (strategy.live, strategy.deadline) == (0, None)


def test_dummies_are_sent_for_one_slot_only_when_many_were_missed() -> None:
    strategy = SlotMixing(SLOT, 1000, Seeded(3), dummies=10)
    strategy.add(LinkId(1), [cell(1, 0)], 10.0)
    strategy.release(10.1)
    ((_, cells),) = strategy.release(40.0)
    assert len(cells) == 1


def test_stopping_sends_what_is_held_and_no_dummies() -> None:
    strategy = SlotMixing(SLOT, 1000, Seeded(3), dummies=10)
    strategy.add(LinkId(1), [cell(1, 0), cell(2, 0)], 10.0)
    ((_, cells),) = strategy.release(math.inf)
    assert sorted(cells) == [cell(1, 0), cell(2, 0)]
    assert (strategy.held, strategy.live, strategy.deadline) == (0, 0, None)
