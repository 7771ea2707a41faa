"""Pacers on a virtual clock: slots are where the schedule says and carry what it says, whatever waits."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ks import chance, distance_from
from phantomband.core.shaping import LADDER, OFF, Mode, Pacer, Schedule, Shape, make_pacer, slot_of
from phantomband.core.shaping.pacer import (
    DOWN_SECONDS,
    MAX_LATE_SECONDS,
    QUIET_SECONDS,
    SLOT_CELLS,
    AdaptivePacer,
    ConstantPacer,
)

BEGIN = 1000.0
CONSTANT, ADAPTIVE = Mode.CONSTANT, Mode.ADAPTIVE
FIXED, POISSON = Schedule.FIXED, Schedule.POISSON


def constant(rate: int, schedule: Schedule = FIXED, seed: int = 1) -> ConstantPacer:
    return ConstantPacer(Shape(CONSTANT, schedule, rate), BEGIN, random.Random(seed).randbytes)


def adaptive(top: int = 32_768, seed: int = 1, schedule: Schedule = FIXED) -> AdaptivePacer:
    return AdaptivePacer(Shape(ADAPTIVE, schedule, top), BEGIN, random.Random(seed).randbytes)


def slots(pacer: Pacer, until: float, waiting: Callable[[float], int] = lambda now: 0) -> Iterator[tuple[float, int]]:
    """(time, cells) of each slot, each taken on time."""
    while pacer.deadline is not None and pacer.deadline <= until:
        now = pacer.deadline
        yield now, pacer.due(now, waiting(now))


# ---- slots -------------------------------------------------------------------------------------------------


def test_off_has_no_pacer() -> None:
    assert make_pacer(OFF, BEGIN, random.randbytes) is None
    assert isinstance(make_pacer(Shape(CONSTANT, FIXED, 1), BEGIN, random.randbytes), ConstantPacer)
    assert isinstance(make_pacer(Shape(ADAPTIVE, FIXED, 8), BEGIN, random.randbytes), AdaptivePacer)


@pytest.mark.parametrize(
    ("rate", "cells", "seconds"),
    [(1, 1, 1), (8, 1, 1 / 8), (31, 1, 1 / 31), (32, 1, 1 / 32), (128, 4, 1 / 32), (512, 16, 1 / 32),
     (2048, 64, 1 / 32), (8192, 120, 120 / 8192), (32_768, 120, 120 / 32_768)],
)  # fmt: skip
def test_slots_of_the_rates(rate: int, cells: int, seconds: float) -> None:
    assert slot_of(rate) == (cells, pytest.approx(seconds))


@given(st.integers(1, 32_768))
def test_a_slot_is_whole_cells_and_the_rate_is_kept(rate: int) -> None:
    cells, seconds = slot_of(rate)
    assert cells / seconds == pytest.approx(rate)
    assert 1 <= cells <= SLOT_CELLS
    assert seconds <= (1 / 20 if rate >= 32 else 1 / rate)
    assert seconds >= 1 / 48 or cells == SLOT_CELLS


# ---- constant ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("rate", [3, 32, 500])
def test_nothing_that_waits_or_is_carried_changes_a_constant_link(schedule: Schedule, rate: int) -> None:
    idle, busy = constant(rate, schedule), constant(rate, schedule)
    load = random.Random(5)
    quiet = list(slots(idle, BEGIN + 20))
    seen = []
    for slot in slots(busy, BEGIN + 20, lambda now: load.choice([0, 0, 1, 50, 4096])):
        busy.carried(slot[0])
        seen.append(slot)
    assert seen == quiet
    assert sum(cells for _, cells in quiet) == pytest.approx(20 * rate, rel=0 if schedule is FIXED else 0.4, abs=16)


def test_a_fixed_schedule_is_a_grid() -> None:
    times = [at for at, _ in slots(constant(128), BEGIN + 100)]
    assert times == pytest.approx([BEGIN + (i + 1) / 32 for i in range(3200)])


def exponential(sample: list[float], mean: float) -> bool:
    """Whether a sample may be of the exponential distribution (Kolmogorov-Smirnov, alpha 0.01)."""
    return chance(distance_from(sample, lambda x: -math.expm1(-x / mean)), len(sample)) > 0.01


def test_a_poisson_schedule_has_exponential_distances() -> None:
    times = [BEGIN, *(at for at, _ in slots(constant(128, POISSON), BEGIN + 200))]
    gaps = [b - a for a, b in pairwise(times)]
    assert exponential(gaps, 1 / 32)
    assert not exponential(gaps, 1 / 28)
    early, late = gaps[0::2], gaps[1::2]
    agree = sum(a * b for a, b in zip(early, late, strict=False)) / min(len(early), len(late))
    assert agree == pytest.approx((1 / 32) ** 2, rel=0.1), "one distance tells nothing of the next"


@settings(max_examples=100)
@given(st.lists(st.floats(0.0001, 0.9), min_size=1, max_size=60), st.sampled_from(Schedule), st.integers(0, 5000))
def test_missed_slots_are_made_up_for_one_by_one_whatever_waits(
    pauses: list[float], schedule: Schedule, waiting: int
) -> None:
    late, on_time = constant(96, schedule), constant(96, schedule)
    now, seen = BEGIN, []
    for pause in pauses:
        now += pause
        while cells := late.due(now, waiting):
            seen.append(cells)
    assert seen == [cells for _, cells in slots(on_time, now)]
    assert late.deadline == on_time.deadline


def test_a_process_that_stood_still_makes_up_for_a_second_at_most() -> None:
    pacer = constant(32)
    now = BEGIN + 3600
    caught_up = 0
    while pacer.due(now, 9):
        caught_up += 1
    assert caught_up == 1
    assert pacer.deadline == pytest.approx(now + 1 / 32)
    now = pacer.deadline + MAX_LATE_SECONDS * 0.99
    while pacer.due(now, 9):
        caught_up += 1
    assert caught_up == 1 + 32


def test_no_slot_comes_before_its_time() -> None:
    pacer = constant(32)
    assert pacer.due(pacer.deadline - 1e-6, 100) == 0
    assert pacer.due(pacer.deadline, 100) == 1


# ---- adaptive ----------------------------------------------------------------------------------------------


class Queue:
    """Arrivals at a rate, cells a second, and what the slots take of them."""

    def __init__(self, pacer: AdaptivePacer) -> None:
        self.pacer = pacer
        self.waiting = 0.0
        self.now = BEGIN
        self.rates: list[tuple[float, int]] = []

    def run(self, rate: float, seconds: float) -> None:
        """Slots until `seconds` later, with `rate` cells a second coming evenly between them."""
        end = self.now + seconds
        if rate:
            self.pacer.carried(self.now)
        while self.pacer.deadline is not None and self.pacer.deadline <= end:
            at = self.pacer.deadline
            self.waiting += rate * (at - self.now)
            self.now = at
            if rate:
                self.pacer.carried(at)
            self.waiting -= min(self.pacer.due(at, int(self.waiting)), int(self.waiting))
            self.rates.append((at, self.pacer.rate))
        self.waiting += rate * (end - self.now)
        self.now = end

    def highest(self) -> int:
        return max(rate for _, rate in self.rates)


def test_an_adaptive_link_is_silent_until_it_carries_a_circuit() -> None:
    pacer = adaptive()
    assert pacer.deadline is None
    assert pacer.due(BEGIN + 100, 5) == 0
    pacer.carried(BEGIN + 100)
    assert pacer.deadline == BEGIN + 100, "the first slot is at once"
    assert pacer.due(BEGIN + 100, 1) == 1
    assert pacer.deadline == BEGIN + 100 + 1 / 8


def test_it_climbs_one_rung_a_slot_while_more_waits_than_it_carries_in_an_eighth_of_a_second() -> None:
    pacer = adaptive()
    pacer.carried(BEGIN)
    taken = []
    for now, cells in slots(pacer, BEGIN + 60, lambda now: 100_000):
        taken.append((now, cells))
        if len(taken) == 9:
            break
    assert [cells for _, cells in taken] == [1, 4, 16, 64, 120, 120, 120, 120, 120]
    assert pacer.rate == LADDER[-1]
    assert taken[-1][0] < BEGIN + 0.2


def test_what_a_rung_carries_in_an_eighth_of_a_second_is_no_reason_to_climb() -> None:
    pacer = adaptive()
    pacer.carried(BEGIN)
    for rung, higher in pairwise(LADDER):
        for _ in range(20):
            pacer.due(pacer.deadline or 0.0, rung // 8)
            assert pacer.rate == rung
        pacer.due(pacer.deadline or 0.0, rung // 8 + 1)
        assert pacer.rate == higher


@pytest.mark.parametrize("top", LADDER)
def test_it_climbs_no_higher_than_its_top(top: int) -> None:
    pacer = adaptive(top)
    pacer.carried(BEGIN)
    for _ in slots(pacer, BEGIN + 3, lambda now: 5000):
        pass
    assert pacer.rate == top


@pytest.mark.parametrize("load", [5, 20, 100, 400, 1500])
def test_a_steady_load_is_carried_without_a_queue_that_grows(load: int) -> None:
    queue = Queue(adaptive())
    queue.run(load, 300)
    assert queue.waiting < load
    enough = min(rate for rate in LADDER if rate >= load)
    assert queue.highest() <= 4 * enough, "and no more than one rung above the one that carries it"


def test_a_load_at_nearly_the_rate_of_a_rung_keeps_the_rung() -> None:
    """The rung below could not carry it, so it is needed and never left."""
    queue = Queue(adaptive())
    queue.run(100, 2)
    queue.rates.clear()
    queue.run(100, 600)
    assert {rate for _, rate in queue.rates} == {128}


def test_a_rung_that_is_not_needed_is_left_after_an_exponential_time() -> None:
    times = []
    for seed in range(400):
        pacer = adaptive(32, seed)
        pacer.carried(BEGIN)
        waits = iter([50, 50])
        start = end = 0.0
        for now, _ in slots(pacer, BEGIN + 2000, lambda now, left=waits: next(left, 0)):  # type: ignore[misc]
            pacer.carried(now)
            if pacer.rate == 32:
                start = start or now
            elif start:
                end = now
                break
        times.append(end - start)
    mean = sum(times) / len(times)
    assert mean == pytest.approx(DOWN_SECONDS, rel=0.2)
    assert exponential(times, mean)


def test_it_goes_down_one_rung_at_a_time_and_falls_silent_when_circuits_do() -> None:
    queue = Queue(adaptive())
    queue.run(3000, 10)
    assert queue.pacer.rate == 8192
    queue.rates.clear()
    queue.run(0, 3600)
    steps = list(dict.fromkeys(rate for _, rate in queue.rates))
    assert steps == [8192, 2048, 512, 128, 32, 8, 0]
    assert queue.pacer.deadline is None
    assert queue.rates[-1][0] > BEGIN + 10 + QUIET_SECONDS


def test_it_is_not_silent_while_circuits_cells_come() -> None:
    pacer = adaptive()
    pacer.carried(BEGIN)
    last = BEGIN
    for now, _ in slots(pacer, BEGIN + 3600):
        if now - last > QUIET_SECONDS - 1:
            pacer.carried(now)
            last = now
    assert pacer.rate == 8


def test_it_is_not_silent_while_anything_waits() -> None:
    pacer = adaptive()
    pacer.carried(BEGIN)
    for _ in slots(pacer, BEGIN + 3600, lambda now: 1):
        pass
    assert pacer.deadline is not None


def test_within_a_rung_slots_are_the_same_whatever_the_load() -> None:
    """Between two changes of rate an observer sees the schedule and nothing else."""

    def seen(load: list[int]) -> list[tuple[float, int]]:
        pacer = adaptive(512, seed=3, schedule=POISSON)
        pacer.carried(BEGIN)
        out = []
        waits = iter([90, 90, 90, *load])
        for now, cells in slots(pacer, BEGIN + 60, lambda now: next(waits, 0)):
            out.append((now, cells))
            if len(out) == 200 or (pacer.rate != 512 and len(out) > 3):
                break
        return out

    low, high = seen([3] * 200), seen([4000] * 200)
    assert low == high
    assert len(low) == 200
