"""Attempts a little apart: who wins, when the next begins, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Refused
from phantomband_client.choice.race import MAX_AT_ONCE, race
from virtual import BEGIN, run_virtual


class Attempts:
    """Each lasts so long and then succeeds or fails; begins and ends are written down."""

    def __init__(self, plans: list[tuple[float, bool]]) -> None:
        self.plans = plans
        self.begun: dict[int, float] = {}
        self.cancelled: list[int] = []
        self.discarded: list[int] = []
        self.most = self.running = 0

    def all(self) -> list[Callable[[], Coroutine[Any, Any, int]]]:
        return [lambda i=i: self._one(i) for i in range(len(self.plans))]  # type: ignore[misc]

    async def _one(self, index: int) -> int:
        seconds, works = self.plans[index]
        self.begun[index] = asyncio.get_running_loop().time() - BEGIN
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(index)
            raise
        finally:
            self.running -= 1
        if not works:
            raise Refused(f"number {index}")
        return index

    def race(self, pause: float = 1.0) -> int:
        async def main() -> int:
            won = await race(self.all(), lambda i: pause, self.discarded.append)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return won

        return run_virtual(main())


def test_a_quick_first_one_stays_alone() -> None:
    attempts = Attempts([(0.9, True), (0.1, True)])
    assert attempts.race() == 0
    assert list(attempts.begun) == [0]


def test_a_slow_first_one_gets_company_and_may_still_win() -> None:
    attempts = Attempts([(1.5, True), (5, True), (5, True)])
    assert attempts.race() == 0
    assert attempts.begun == {0: 0, 1: 1}
    assert attempts.cancelled == [1]


def test_the_second_wins_when_the_first_is_silent() -> None:
    attempts = Attempts([(15, False), (0.2, True), (0.2, True)])
    assert attempts.race() == 1
    assert attempts.cancelled == [0]


def test_a_refusal_starts_the_next_at_once() -> None:
    attempts = Attempts([(0.1, False), (0.1, False), (0.1, True)])
    assert attempts.race() == 2
    assert attempts.begun == pytest.approx({0: 0, 1: 0.1, 2: 0.2})


def test_when_all_fail_the_last_reason_is_told() -> None:
    with pytest.raises(Refused) as raised:
        Attempts([(3, False), (0.1, False)]).race()
    assert str(raised.value.__cause__) == "number 0"


def test_two_at_the_same_moment_the_later_is_given_back() -> None:
    attempts = Attempts([(2, True), (1, True)])
    assert attempts.race(pause=1.0) in (0, 1)
    assert len(attempts.discarded) + len(attempts.cancelled) == 1


@given(st.lists(st.tuples(st.floats(0.01, 20), st.booleans()), min_size=1, max_size=12), st.floats(0.1, 3))
def test_somebody_wins_if_anybody_can_and_no_more_than_a_few_run(plans: list[tuple[float, bool]], pause: float) -> None:
    attempts = Attempts(plans)
    if any(works for _, works in plans):
        assert plans[attempts.race(pause)][1]
    else:
        with pytest.raises(Refused):
            attempts.race(pause)
    assert attempts.most <= MAX_AT_ONCE
    assert attempts.running == 0
