"""Slots: a schedule of its own for each circuit."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from mixing_driver import Driver, cell, kolmogorov_smirnov
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


def test_idle_slots_are_those_without_a_cell() -> None:
    strategy = SlotMixing(1.0, 1000, Seeded(8))
    busy, idle = (LinkId(1), b"\0\0\0\1"), (LinkId(1), b"\0\0\0\2")
    strategy.add(LinkId(1), [cell(1, i) for i in range(3)], 10.0)
    found = strategy.idle_slots([busy, idle], 10.0, 15.0)
    assert [len([1 for _, circuit in found if circuit == c]) for c in (busy, idle)] == [2, 5]
    assert found == sorted(found)
    last = strategy.next_slot(busy, 12.0)
    assert min(at for at, circuit in found if circuit == busy) == strategy.next_slot(busy, last)


def test_a_dummy_added_for_an_idle_slot_leaves_in_it() -> None:
    strategy = SlotMixing(1.0, 1000, Seeded(9))
    circuit = (LinkId(1), b"\0\0\0\1")
    ((at, _),) = strategy.idle_slots([circuit], 10.0, 11.0)
    strategy.add(LinkId(1), [cell(1, 0)], math.nextafter(at, 0))
    assert strategy.deadline == at
    assert strategy.idle_slots([circuit], 10.0, 11.0) == []


def test_at_the_bound_the_flood_leaves_early_and_the_others_keep_their_slots() -> None:
    driver = Driver(SlotMixing(1.0, 64, Seeded(1)))
    driver.add(1, list(range(20)))
    expected = {i: driver.strategy.next_slot((LinkId(1), i.to_bytes(4, "big")), 100.0) for i in range(20)}  # type: ignore[attr-defined]
    for _ in range(500):
        driver.add(2, [99])
        assert driver.strategy.held <= 64
    assert {link for link, _ in driver.got} == {2}
    driver.wait(100.0)
    assert {i: times(driver, i)[0] for i in range(20)} == expected
    rest = [now for now in times(driver, 99) if now > 100.0]
    assert rest[0] <= 101.0, "those behind move up to the slots that became free"
    assert all(b - a == pytest.approx(1.0) for a, b in pairwise(rest)), "its rhythm goes on"
