"""The timed dynamic pool, against its closed form."""

from __future__ import annotations

from collections import Counter

import pytest
from mixing_driver import Driver, Waits, cell
from phantomband.core.ids import LinkId
from phantomband.core.mixing.pool import PoolMixing
from world import Seeded

FOR_EVER = 1e9


@pytest.mark.parametrize(("arrivals", "minimum", "fraction"), [(10, 20, 0.5), (4, 40, 0.25), (7, 0, 0.6), (5, 9, 1.0)])
def test_residence_and_size_are_those_of_the_recursion(arrivals: int, minimum: int, fraction: float) -> None:
    """n = m + a / f before a tick; a cell that came just before one waits m / a + 1 / f - 1 further intervals."""
    waits = Waits(PoolMixing(1.0, minimum, fraction, FOR_EVER, 100_000, Seeded(3)))
    waits.driver.now = 0.75
    sizes = []
    for number in range(1500):
        for circuit in range(arrivals):
            waits.add(1, [number * arrivals + circuit])
        sizes.append(waits.driver.strategy.held)
        waits.driver.wait(1.0)
    settled = sizes[200:]
    assert sum(settled) / len(settled) == pytest.approx(minimum + arrivals / fraction, rel=0.02)
    times = waits.seconds()[200 * arrivals :]
    mean = sum(times) / len(times) - 0.25
    assert mean == pytest.approx(minimum / arrivals + 1 / fraction - 1, rel=0.05, abs=0.02)


def test_the_pool_empties_as_the_recursion_says() -> None:
    """n' = n - f (n - m), tick by tick, to within one cell of rounding each."""
    strategy = PoolMixing(1.0, 100, 0.3, FOR_EVER, 100_000, Seeded(4))
    strategy.add(LinkId(1), [cell(i, 0) for i in range(1100)], 0.5)
    expected = 1100.0
    for tick in range(1, 15):
        assert strategy.deadline == tick
        strategy.release(float(tick))
        expected -= 0.3 * (expected - 100)
        assert abs(strategy.held - expected) < 1 / 0.3


def test_every_cell_is_chosen_equally_often() -> None:
    """Chi-square over 2,000 pools of 8 of which 4 leave; the variance is that of draws without replacement."""
    left: Counter[int] = Counter()
    for seed in range(2000):
        strategy = PoolMixing(1.0, 0, 0.5, FOR_EVER, 1000, Seeded(seed))
        for circuit in range(8):
            strategy.add(LinkId(circuit % 3), [cell(circuit, 0)], 0.5)
        left.update(int.from_bytes(c[:4], "big") for _, cells in strategy.release(1.0) for c in cells)
    assert left.total() == 8000
    assert sum((left[i] - 1000) ** 2 / (2000 / 4) for i in range(8)) * 7 / 8 < 29.9, left  # 7 degrees, p = 0.0001


def test_nothing_is_held_longer_than_max_wait_and_the_minimum_stays_until_then() -> None:
    driver = Driver(PoolMixing(0.1, 5, 0.5, 2.0, 1000, Seeded(1)))
    driver.now = 10.05
    driver.add(1, [1, 2, 3])
    assert driver.strategy.deadline == 12.05
    driver.wait(1.0)
    driver.add(1, [4])
    assert not driver.released
    driver.wait(5.0)
    assert [(now, sum(len(c) for _, c in batch)) for now, batch in driver.released] == [(12.05, 3), (13.05, 1)]


def test_ticks_are_multiples_of_the_interval_and_wanted_only_above_the_minimum() -> None:
    strategy = PoolMixing(0.5, 2, 1.0, FOR_EVER, 1000, Seeded(1))
    strategy.add(LinkId(1), [cell(1, i) for i in range(2)], 10.1)
    assert strategy.deadline == 10.1 + FOR_EVER
    strategy.add(LinkId(1), [cell(1, 2)], 10.2)
    assert strategy.deadline == 10.5
    assert strategy.release(10.49) == []
    assert [c for _, cells in strategy.release(10.5) for c in cells] == [cell(1, 0)]
    assert strategy.deadline == 10.1 + FOR_EVER


def test_missed_ticks_are_made_up_for() -> None:
    """Ten ticks late is as if each had been in time: 1000 halves ten times."""
    strategy = PoolMixing(1.0, 0, 0.5, FOR_EVER, 10_000, Seeded(1))
    strategy.add(LinkId(1), [cell(i, 0) for i in range(1024)], 0.5)
    strategy.release(5.5)
    assert abs(strategy.held - 1024 / 2**5) <= 2
    assert strategy.deadline == 6.0


def test_at_the_bound_the_flood_ends_and_the_others_wait_on() -> None:
    driver = Driver(PoolMixing(1.0, 10, 0.01, 100.0, 64, Seeded(1)))
    driver.now = 0.1
    for circuit in range(20):
        driver.add(1, [circuit])
    for _ in range(500):
        driver.add(2, [99])
        assert driver.strategy.held <= 64
    assert driver.dropped == {(2, b"\0\0\0\x63")}
    assert (driver.strategy.held, driver.released) == (20, [])
    driver.wait(1000.0)
    assert sorted(driver.got) == sorted((1, cell(circuit, 0)) for circuit in range(20))
    assert max(now for now, _ in driver.released) == pytest.approx(100.1)
