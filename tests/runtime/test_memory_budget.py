"""One budget a process: what is multiplied by links and circuits has a sum, and the heaviest pays for it."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import pytest
from phantomband.runtime.memory_budget import TRIM_BYTES, TRIM_SECONDS, MemoryBudget

MIB = 1024 * 1024


class Timers:
    """`later` by hand."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, work: Callable[[], None]) -> None:
        self.due.append((seconds, work))

    def run(self) -> None:
        due, self.due = self.due, []
        for _, work in due:
            work()


class Queue:
    """Holds pieces, gives the last one up when asked."""

    def __init__(self, budget: MemoryBudget, source: Hashable) -> None:
        self.budget, self.source = budget, source
        self.pieces: list[int] = []

    def add(self, size: int) -> None:
        self.pieces.append(size)
        self.budget.hold(self, size)

    def shed(self) -> None:
        self.budget.hold(self, -self.pieces.pop())


class Stuck(Queue):
    """Gives nothing up."""

    def shed(self) -> None: ...


class Faulty(Queue):
    def shed(self) -> None:
        raise KeyError("ours")


def rig(limit: int = 100, **given: Callable[[BaseException], None]) -> tuple[MemoryBudget, Timers, list[None]]:
    timers: Timers = Timers()
    trims: list[None] = []
    return MemoryBudget(limit, later=timers, trim=lambda: trims.append(None), **given), timers, trims


def test_nothing_is_shed_up_to_the_limit() -> None:
    budget, timers, _ = rig()
    queue = Queue(budget, "a")
    queue.add(100)
    timers.run()
    assert (budget.used, budget.over, budget.shed) == (100, False, 0)


def test_over_the_limit_the_heaviest_holder_sheds_until_an_eighth_is_free() -> None:
    budget, timers, _ = rig()
    light, heavy = Queue(budget, "light"), Queue(budget, "heavy")
    light.add(30)
    for _ in range(8):
        heavy.add(10)
    assert budget.over
    timers.run()
    assert budget.used <= 100 - 100 // 8
    assert (sum(light.pieces), sum(heavy.pieces)) == (30, 50)


def test_many_small_holders_of_one_source_weigh_together() -> None:
    budget, timers, _ = rig()
    honest = Queue(budget, "honest")
    honest.add(20)
    spread = [Queue(budget, "spread") for _ in range(30)]
    for queue in spread:
        queue.add(3)
    timers.run()
    assert honest.pieces == [20]
    assert budget.used <= 88


def test_a_holder_is_not_pulled_from_under_the_one_who_adds() -> None:
    budget, _, _ = rig()
    queue = Queue(budget, "a")
    queue.add(200)
    assert queue.pieces == [200]


def test_a_holder_that_gives_nothing_does_not_keep_the_others_from_shedding() -> None:
    budget, timers, _ = rig()
    stuck, other = Stuck(budget, "stuck"), Queue(budget, "other")
    stuck.add(60)
    other.add(50)
    timers.run()
    assert (budget.held(stuck), budget.held(other)) == (60, 0)


def test_an_error_in_one_holder_is_counted_and_the_others_shed() -> None:
    bugs: list[BaseException] = []
    budget, timers, _ = rig(bug=bugs.append)
    faulty, other = Faulty(budget, "faulty"), Queue(budget, "other")
    faulty.add(60)
    other.add(50)
    timers.run()
    assert [type(b) for b in bugs] == [KeyError]
    assert budget.held(other) == 0
    faulty.add(50)  # and it is asked again at the next occasion
    timers.run()
    assert len(bugs) == 2


def test_what_was_released_twice_hides_nothing_that_others_hold() -> None:
    budget, _, _ = rig()
    a, b = Queue(budget, "a"), Queue(budget, "b")
    a.add(10)
    b.add(10)
    budget.hold(a, -15)
    budget.release(a)
    assert budget.used == 10


@pytest.mark.parametrize(("released", "trims"), [(TRIM_BYTES - 1, 0), (TRIM_BYTES, 1)])
def test_memory_is_given_back_when_much_was_released(released: int, trims: int) -> None:
    budget, timers, trimmed = rig(100 * MIB)
    queue = Queue(budget, "a")
    queue.add(40 * MIB)
    budget.hold(queue, -released)
    assert [seconds for seconds, _ in timers.due] == [TRIM_SECONDS] * trims
    timers.run()
    assert len(trimmed) == trims
    budget.hold(queue, -1024)  # ... once a peak
    assert len(timers.due) == 1 - trims
