"""What every mixing strategy must do. A new strategy is added to `STRATEGIES` and passes all of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixing_driver import Driver, cell
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Strategy
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.pool import PoolMixing
from phantomband.core.mixing.slots import SlotMixing
from phantomband.core.mixing.threshold import ThresholdMixing
from phantomband.core.mixing.timed import TimedMixing
from world import Seeded

INTERVAL = 0.02
BOUND = 64
MAX_WAIT = 0.2
STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "none": lambda _: NoMixing(),
    "threshold": lambda seed: ThresholdMixing(16, MAX_WAIT, Seeded(seed)),
    "timed": lambda seed: TimedMixing(INTERVAL, BOUND, Seeded(seed)),
    "pool": lambda seed: PoolMixing(INTERVAL, 8, 0.5, MAX_WAIT, BOUND, Seeded(seed)),
    "poisson": lambda seed: PoissonMixing(INTERVAL, BOUND, Seeded(seed)),
    "slots": lambda seed: SlotMixing(INTERVAL, BOUND, Seeded(seed)),
}

Moves = list[tuple[int, int, float]]
MOVES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.floats(0, 0.05)), max_size=25)


@pytest.fixture(params=STRATEGIES)
def make(request: pytest.FixtureRequest) -> Callable[[int], Strategy]:
    return STRATEGIES[request.param]


def driven(strategy: Strategy, moves: Moves) -> Driver:
    driver = Driver(strategy)
    for link, count, pause in moves:
        driver.add(link, [1 + i % 3 for i in range(count)])
        driver.wait(pause)
    driver.wait(10.0)
    return driver


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), moves=MOVES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_is_lost_doubled_or_moved_to_another_link(name: str, seed: int, moves: Moves) -> None:
    driver = driven(STRATEGIES[name](seed), moves)
    assert sorted(driver.got) == sorted(driver.put)
    assert driver.strategy.held == 0
    assert driver.strategy.deadline is None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), moves=MOVES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_the_order_within_a_circuit_is_kept(name: str, seed: int, moves: Moves) -> None:
    driver = driven(STRATEGIES[name](seed), moves)
    for (link, circuit), last in driver.numbers.items():
        mine = [c[4:8] for at, c in driver.got if at == link and c[:4] == circuit.to_bytes(4, "big")]
        assert mine == [n.to_bytes(4, "big") for n in range(last + 1)]


def test_the_deadline_says_when_something_is_held(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    assert driver.strategy.deadline is None
    assert driver.strategy.release(driver.now) == []
    driver.add(1, [1])
    assert driver.strategy.deadline is not None
    assert driver.strategy.deadline >= driver.now
    driver.release(driver.strategy.deadline)
    assert driver.strategy.deadline is None
    assert len(driver.got) == 1


def test_what_is_due_leaves_before_what_arrives(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    driver.add(1, [1])
    due = driver.strategy.deadline
    assert due is not None
    driver.now = due + 5.0
    driver.add(1, [2])
    assert [c[:4] for _, c in driver.got] == [b"\0\0\0\1"]
    assert driver.strategy.held == 1


def test_a_flood_delays_no_release(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    driver.add(1, [1])
    due = driver.strategy.deadline
    assert due is not None
    for _ in range(1000):
        driver.add(2, [2])
        driver.now += INTERVAL / 300
    first = next(now for now, batch in driver.released if any(link == 1 for link, _ in batch))
    assert first <= due + INTERVAL / 100


def test_the_bound_is_honoured_and_nothing_is_lost_by_it(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    for i in range(500):
        driver.add(i % 7, [i % 5, i % 3])
        assert driver.strategy.held < BOUND + 2
    driver.wait(1.0)
    assert sorted(driver.got) == sorted(driver.put)


def test_everything_goes_at_once_when_the_service_stops(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    driver.add(1, [1, 2, 3])
    driver.release(float("inf"))
    assert sorted(driver.got) == sorted(driver.put)
    assert driver.strategy.held == 0


def test_a_batch_names_no_link_twice_and_no_empty_one(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(3))
    if driver.strategy.passes:
        pytest.skip("this strategy forwards what it gets as it is")
    for i in range(30):
        driver.add(i % 4, [i % 3])
    driver.wait(1.0)
    for _, batch in driver.released:
        links = [link for link, _ in batch]
        assert len(set(links)) == len(links)
        assert all(cells for _, cells in batch)


# ---- none --------------------------------------------------------------------------------------------------


def test_none_holds_nothing_back() -> None:
    strategy = NoMixing()
    assert strategy.passes
    strategy.add(LinkId(1), [cell(1, 0)], 5.0)
    assert strategy.deadline == 5.0
    assert strategy.release(5.0) == [(1, [cell(1, 0)])]


# ---- timed -------------------------------------------------------------------------------------------------


def test_timed_releases_at_multiples_of_its_interval_only() -> None:
    driver = Driver(TimedMixing(0.5, 10_000, Seeded(1)))
    driver.now = 10.1
    driver.add(1, [1])
    driver.wait(0.3)
    assert not driver.released
    driver.add(1, [2])
    driver.wait(0.2)
    assert [now for now, _ in driver.released] == [10.5]
    assert len(driver.got) == 2
    assert driver.strategy.release(10.9) == []


def test_timed_deadline_does_not_move_with_later_cells() -> None:
    strategy = TimedMixing(0.5, 10_000, Seeded(1))
    strategy.add(LinkId(1), [cell(1, 0)], 10.1)
    for now in (10.2, 10.3, 10.49):
        strategy.add(LinkId(1), [cell(1, 1)], now)
        assert strategy.deadline == 10.5


def test_timed_over_its_bound_leaves_early() -> None:
    strategy = TimedMixing(0.5, 4, Seeded(1))
    strategy.add(LinkId(1), [cell(1, i) for i in range(3)], 10.1)
    assert strategy.early == 0
    strategy.add(LinkId(1), [cell(1, 3)], 10.2)
    assert (strategy.early, strategy.deadline) == (1, 10.2)
    assert sum(len(c) for _, c in strategy.release(10.2)) == 4


def test_timed_shuffles_across_circuits() -> None:
    """The first cell out is each circuit's equally often: chi-square over 3,000 seeded runs."""
    circuits, runs = 6, 3000
    first = [0] * circuits
    for seed in range(runs):
        strategy = TimedMixing(0.5, 10_000, Seeded(seed))
        for circuit in range(circuits):
            strategy.add(LinkId(1), [cell(circuit, 0)], 10.1)
        ((_, cells),) = strategy.release(10.5)
        first[int.from_bytes(cells[0][:4], "big")] += 1
    expected = runs / circuits
    chi_square = sum((n - expected) ** 2 / expected for n in first)
    assert chi_square < 25.7, first  # 5 degrees of freedom, p = 0.0001


def test_timed_forgets_which_cells_came_together() -> None:
    """Two circuits of 50 cells each that came one after the other leave interleaved."""
    strategy = TimedMixing(0.5, 10_000, Seeded(9))
    for circuit in (1, 2):
        strategy.add(LinkId(1), [cell(circuit, i) for i in range(50)], 10.1)
    ((_, cells),) = strategy.release(10.5)
    runs = len(list(groupby(c[:4] for c in cells)))
    assert 30 < runs < 72, runs  # 51 expected, standard deviation 5
