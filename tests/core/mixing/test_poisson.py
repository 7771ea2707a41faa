"""Exponential delays, against their closed forms."""

from __future__ import annotations

import math

import pytest
from mixing_driver import Driver, Waits, cell, kolmogorov_smirnov
from phantomband.core.ids import LinkId
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.shuffle import Draw
from world import Seeded

MEAN = 0.05
LIMIT = 2.23


def exponential(x: float) -> float:
    return 1 - math.exp(-x / MEAN)


def test_uniforms_are_uniform_multiples_of_2_to_the_minus_53() -> None:
    draw = Draw(Seeded(1))
    values = [draw.uniform() for _ in range(20_000)]
    assert 0.0 <= min(values) <= max(values) < 1.0
    assert all((value * 2.0**53).is_integer() for value in values)
    assert kolmogorov_smirnov(values, lambda x: x) < LIMIT


def test_the_ends_of_the_uniform_range_are_finite() -> None:
    assert Draw(bytes).exponential(MEAN) == 0.0
    assert Draw(lambda n: b"\xff" * n).uniform() == 1 - 2.0**-53
    assert Draw(lambda n: b"\xff" * n).exponential(1.0) == pytest.approx(53 * math.log(2))


def test_rounding_at_random_has_the_right_mean() -> None:
    draw = Draw(Seeded(2))
    values = [draw.rounded(2.3) for _ in range(20_000)]
    assert set(values) == {2, 3}
    assert sum(values) / len(values) == pytest.approx(2.3, abs=0.0126)  # 3.9 standard deviations
    assert draw.rounded(4.0) == 4


@pytest.mark.parametrize("seed", range(3))
def test_lone_cells_are_delayed_by_exp_of_the_mean(seed: int) -> None:
    waits = Waits(PoissonMixing(MEAN, 100_000, Seeded(seed)))
    for number in range(5000):
        waits.add(number % 5, [number])
        waits.driver.wait(0.001)
    waits.driver.wait(10.0)
    assert kolmogorov_smirnov(waits.seconds(), exponential) < LIMIT


def test_delays_are_independent_from_cell_to_cell() -> None:
    """Correlation of neighbours' delays: 0, standard deviation 1 / sqrt(n)."""
    waits: dict[int, float] = {}
    driver = Driver(PoissonMixing(MEAN, 100_000, Seeded(7)))
    start = driver.now
    driver.add(1, list(range(5000)))
    driver.wait(10.0)
    for now, batch in driver.released:
        for _, cells in batch:
            waits.update((int.from_bytes(c[:4], "big"), (now - start) / MEAN - 1) for c in cells)
    assert abs(sum(waits[i] * waits[i + 1] for i in range(4999)) / 4999) < 3.9 / 4999**0.5


@pytest.mark.parametrize("n", [2, 5, 20])
def test_a_burst_of_one_circuit_leaves_at_a_running_maximum(n: int) -> None:
    """The last of n cells that came together waits for the greatest of n delays: distribution F^n."""
    last = []
    for seed in range(2000):
        strategy = PoissonMixing(MEAN, 1000, Seeded(seed * 100 + n))
        strategy.add(LinkId(1), [cell(1, i) for i in range(n)], 0.0)
        while strategy.deadline is not None:
            last.append(now := strategy.deadline)
            strategy.release(now)
            if strategy.held:
                last.pop()
    assert len(last) == 2000
    assert kolmogorov_smirnov(last, lambda x: exponential(x) ** n) < LIMIT


def test_held_cells_are_those_of_an_infinite_server_queue() -> None:
    """Little: mean number held = arrivals a second x mean delay, 1,000 x 0.05."""
    driver = Driver(PoissonMixing(MEAN, 100_000, Seeded(9)))
    held = []
    for number in range(10_000):
        driver.add(1, [number])
        driver.wait(0.001)
        held.append(driver.strategy.held)
    settled = held[1000:]
    assert sum(settled) / len(settled) == pytest.approx(1000 * MEAN, rel=0.05)


def test_deadlines_are_exact_and_late_releases_keep_their_order() -> None:
    strategy = PoissonMixing(MEAN, 1000, Seeded(1))
    strategy.add(LinkId(1), [cell(i, 0) for i in range(10)], 0.0)
    late = PoissonMixing(MEAN, 1000, Seeded(1))
    late.add(LinkId(1), [cell(i, 0) for i in range(10)], 0.0)
    order = []
    while (due := strategy.deadline) is not None:
        assert strategy.release(math.nextafter(due, 0)) == []
        order += [c for _, cells in strategy.release(due) for c in cells]
    ((_, at_once),) = late.release(100.0)
    assert at_once == order


def test_at_the_bound_the_flood_ends_and_the_others_keep_their_delays() -> None:
    flooded = Waits(PoissonMixing(1000.0, 64, Seeded(1)))
    alone = PoissonMixing(1000.0, 64, Seeded(1))
    flooded.add(1, list(range(20)))
    alone.add(LinkId(1), [cell(i, 0) for i in range(20)], flooded.driver.now)
    for _ in range(500):
        flooded.add(2, [99])
        assert flooded.driver.strategy.held <= 64
    assert flooded.driver.dropped == {(2, b"\0\0\0\x63")}
    flooded.driver.wait(1e6)
    for now, batch in flooded.driver.released:
        assert (alone.deadline, batch) == (now, alone.release(now))
    assert alone.held == 0
