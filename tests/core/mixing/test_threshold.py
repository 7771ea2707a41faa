"""Threshold batches."""

from __future__ import annotations

import pytest
from mixing_driver import Driver, Waits, cell
from phantomband.core.ids import LinkId
from phantomband.core.mixing.threshold import ThresholdMixing
from world import Seeded


def test_each_batch_has_exactly_so_many_cells() -> None:
    driver = Driver(ThresholdMixing(10, 1e9, Seeded(1)))
    for number in range(1000):
        driver.add(number % 3, [number % 7])
        driver.wait(0.001)
    assert [sum(len(cells) for _, cells in batch) for _, batch in driver.released] == [10] * 100


def test_the_first_cell_of_a_batch_is_any_of_it_equally_often() -> None:
    """Chi-square over 3,000 batches of 6; the batch that a cell came in is told by nothing else."""
    first = [0] * 6
    strategy = ThresholdMixing(6, 1.0, Seeded(2))
    for _ in range(3000):
        for number in range(6):
            strategy.add(LinkId(1), [cell(number, 0)], 10.0)
        ((_, cells),) = strategy.release(10.0)
        first[int.from_bytes(cells[0][:4], "big")] += 1
    assert sum((n - 500) ** 2 / 500 for n in first) < 25.7, first  # 5 degrees of freedom, p = 0.0001


def test_more_than_a_batch_at_once_is_several_batches_and_a_rest() -> None:
    strategy = ThresholdMixing(4, 0.5, Seeded(3))
    strategy.add(LinkId(1), [cell(i, 0) for i in range(10)], 10.0)
    assert strategy.deadline == 10.0
    ((_, cells),) = strategy.release(10.0)
    circuits = [int.from_bytes(c[:4], "big") for c in cells]
    assert [sorted(circuits[:4]), sorted(circuits[4:])] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (strategy.held, strategy.deadline) == (2, 10.5)


def test_low_load_leaves_when_the_oldest_has_waited_enough() -> None:
    strategy = ThresholdMixing(4, 0.5, Seeded(4))
    strategy.add(LinkId(1), [cell(1, 0)], 10.0)
    strategy.add(LinkId(1), [cell(2, 0)], 10.4)
    assert strategy.deadline == 10.5
    assert strategy.release(10.49) == []
    assert sum(len(c) for _, c in strategy.release(10.5)) == 2
    assert (strategy.timeouts, strategy.deadline) == (1, None)


def test_mean_wait_is_half_a_batch() -> None:
    """With arrivals each second, cell i of n waits n - i seconds: (n - 1) / 2 on average."""
    waits = Waits(ThresholdMixing(16, 1e9, Seeded(5)))
    for number in range(1600):
        waits.add(1, [number % 5])
        waits.driver.wait(1.0)
    times = waits.seconds()
    assert sum(times) / len(times) == pytest.approx(7.5)


def test_where_nobody_takes_the_batches_the_longest_circuit_is_dropped() -> None:
    strategy = ThresholdMixing(4, 0.5, Seeded(6), 16)
    strategy.add(LinkId(1), [cell(1, i) for i in range(3)], 10.0)
    strategy.add(LinkId(2), [cell(1, i) for i in range(14)], 10.1)
    assert (strategy.held, strategy.dropped_cells, strategy.deadline) == (3, 14, 10.5)
    strategy.add(LinkId(2), [cell(1, 14), cell(2, 0)], 10.2)
    assert strategy.take_dropped() == [(2, b"\0\0\0\1")]
    assert strategy.deadline == 10.2
    assert sorted(c[:4] for _, cells in strategy.release(10.2) for c in cells) == [b"\0\0\0\1"] * 3 + [b"\0\0\0\2"]
