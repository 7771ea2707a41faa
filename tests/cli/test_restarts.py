"""When a service is started again."""

from __future__ import annotations

import signal

from phantomband_cli.restarts import EARLY, FAILED_AFTER, FIRST_DELAY, LONGEST_DELAY, Restarts


def test_a_service_that_ran_long_is_back_at_once() -> None:
    restarts = Restarts()
    assert restarts.died(EARLY, 1) == FIRST_DELAY < 0.1
    assert restarts.count == 1
    assert not restarts.failing


def test_early_deaths_wait_longer_and_longer_and_count_as_failing() -> None:
    restarts = Restarts()
    delays = [restarts.died(0.1, 1) for _ in range(10)]
    assert delays == sorted(delays)
    assert delays[0] == FIRST_DELAY
    assert delays[1] == 2 * FIRST_DELAY
    assert delays[-1] == LONGEST_DELAY
    assert restarts.failing


def test_failing_ends_when_it_runs_again() -> None:
    restarts = Restarts()
    for _ in range(FAILED_AFTER):
        restarts.died(0.0, 1)
    assert restarts.failing
    restarts.died(EARLY + 1, 1)
    assert not restarts.failing


def test_kills_from_outside_are_no_fault() -> None:
    restarts = Restarts()
    assert {restarts.died(0.3, -signal.SIGKILL) for _ in range(20)} == {FIRST_DELAY}
    assert not restarts.failing
