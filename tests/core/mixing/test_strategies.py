"""What every mixing strategy must do. A new strategy is added to `STRATEGIES` and passes all of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixing_driver import Driver, cell, number
from phantomband.core.cell import Command
from phantomband.core.ids import LinkId
from phantomband.core.mixing import queues
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
    "threshold": lambda seed: ThresholdMixing(16, MAX_WAIT, Seeded(seed), BOUND),
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


def numbers(driver: Driver, link: int, circuit: int) -> list[int]:
    """The cells of a circuit that left, in their order."""
    return [number(c) for at, c in driver.got if at == link and c[:4] == circuit.to_bytes(4, "big")]


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
        assert numbers(driver, link, circuit) == list(range(last + 1))


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
    for _ in range(4000):
        driver.add(2, [2])
        driver.now += INTERVAL / 300
    first = next(now for now, batch in driver.released if any(link == 1 for link, _ in batch))
    assert first <= due + INTERVAL / 100


def test_ten_times_too_much_ends_circuits_whole_and_loses_no_cell_of_others(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    for i in range(320):
        driver.add(i % 7, [1 + i % 5, 1 + i % 3])
        assert driver.strategy.held <= BOUND
    lost = 640 - len(driver.got) - driver.strategy.held
    driver.wait(10.0)
    assert (lost > 0) == bool(driver.dropped)
    assert driver.strategy.dropped_cells <= lost
    for (link, circuit), last in driver.numbers.items():
        left = numbers(driver, link, circuit)
        if (link, circuit.to_bytes(4, "big")) in driver.dropped:
            assert left == list(range(len(left))), "what left before is whole"
            lost -= last + 1 - len(left)
        else:
            assert left == list(range(last + 1))
    assert lost == 0, "only circuits that were named lost cells"


def test_one_cell_each_of_too_many_circuits_is_bounded_too(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    for circuit in range(1, 641):
        driver.add(circuit % 7, [circuit])
        assert driver.strategy.held <= BOUND
    driver.wait(10.0)
    assert len(driver.got) + len(driver.dropped) == 640
    assert driver.strategy.dropped_cells == len(driver.dropped)


def test_a_circuit_over_its_own_bound_is_dropped_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "MAX_CIRCUIT_CELLS", 20)
    for name in ("timed", "pool", "poisson", "slots"):
        driver = Driver(STRATEGIES[name](1))
        driver.add(1, [1] * 20 + [2] * 20)
        assert not driver.dropped
        driver.add(1, [2, 1, 2])
        assert driver.dropped == {(1, b"\0\0\0\2"), (1, b"\0\0\0\1")}
        driver.add(1, [3, 1])
        driver.wait(10.0)
        assert [c[:4] for _, c in driver.got] == [b"\0\0\0\3"], name


def test_cells_behind_a_drop_in_the_same_delivery_are_dropped_too(make: Callable[[int], Strategy]) -> None:
    """Else they would leave with a gap before them."""
    strategy = make(1)
    strategy.add(LinkId(1), [cell(1, i) for i in range(BOUND + 1)] + [cell(2, 0), cell(1, BOUND + 1)], 100.0)
    left = [c for _, cells in strategy.release(float("inf")) for c in cells]
    dropped = strategy.take_dropped()
    assert dropped in ([], [(1, b"\0\0\0\1")])
    assert cell(2, 0) in left
    assert len(left) == (1 if dropped else BOUND + 3)
    assert strategy.dropped_cells == (BOUND + 2 if dropped else 0)


def test_a_dropped_circuit_is_named_once(make: Callable[[int], Strategy]) -> None:
    strategy = make(1)
    strategy.add(LinkId(1), [cell(1, i) for i in range(BOUND + 1)], 100.0)
    assert len(strategy.take_dropped()) <= 1
    assert strategy.take_dropped() == []


def test_a_link_whose_circuits_are_dead_is_forgotten(make: Callable[[int], Strategy]) -> None:
    driver = Driver(make(1))
    for link in (1, 2):
        driver.strategy.add(LinkId(link), [cell(1, 0), cell(2, 0)], driver.now)
    driver.strategy.drop_link(LinkId(1))
    assert driver.strategy.held == 2
    driver.wait(10.0)
    assert sorted(driver.got) == sorted((2, cell(circuit, 0)) for circuit in (1, 2))
    assert not driver.dropped
    driver.add(1, [3])
    driver.strategy.drop_link(LinkId(1))
    assert (driver.strategy.held, driver.strategy.deadline) == (0, None)
    driver.add(1, [4])
    driver.wait(10.0)
    assert driver.got[-1] == (1, cell(4, 0))


def test_handshake_and_control_cells_are_mixed_like_all_others(make: Callable[[int], Strategy]) -> None:
    """The same arrivals with other commands leave at the same times in the same order."""

    def left(commands: list[Command]) -> list[tuple[float, int, list[tuple[bytes, int]]]]:
        driver = Driver(make(7))
        for i in range(40):
            driver.release(driver.now)
            driver.strategy.add(LinkId(i % 3), [cell(1 + i % 5, i, commands[i % len(commands)])], driver.now)
            driver.wait(0.003)
        driver.wait(10.0)
        return [(now, at, [(c[:4], number(c)) for c in cells]) for now, batch in driver.released for at, cells in batch]

    assert left([Command.CREATE, Command.CREATED, Command.RELAY, Command.DESTROY]) == left([Command.RELAY])


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


def test_timed_keeps_its_time_whatever_comes() -> None:
    """A flood cannot force a batch out: then who floods would know who else is in it."""
    driver = Driver(TimedMixing(0.5, 64, Seeded(1)))
    driver.now = 10.1
    driver.add(1, [1])
    for _ in range(500):
        driver.add(2, [2])
    assert driver.dropped == {(2, b"\0\0\0\2")}
    assert not driver.released
    driver.wait(1.0)
    assert [(now, batch) for now, batch in driver.released] == [(10.5, [(1, [cell(1, 0)])])]


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
