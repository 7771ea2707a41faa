"""A guard that refuses circuits, or lets only some stand, is noticed, told, and left for others of the same sample."""

from __future__ import annotations

import pytest
from phantomband.core.ids import NodeId
from phantomband_client.guard_health import (
    BIASED_SECONDS,
    COLLAPSED,
    ENOUGH_BUILDS,
    LEAST_BUILDS,
    MAX_GUARDS,
    MOST_BUILDS,
    REFUSALS,
    REFUSED_SECONDS,
    GuardHealth,
)

GUARD, OTHER = NodeId(b"g" * 32), NodeId(b"o" * 32)


def test_a_guard_that_refuses_some_in_a_row_is_left_and_tried_again_later_and_later() -> None:
    health, now, pauses = GuardHealth(), 100.0, []
    for _ in range(REFUSALS - 1):
        assert not health.built(GUARD, 0, 3, now)
    for _ in range(10):
        assert health.built(GUARD, 0, 3, now)
        assert "refused" in health.words(now)
        begun = now
        while health.left(GUARD, now):
            now += 10
        pauses.append(now - begun)
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]
    assert not health.built(GUARD, 3, 3, now)
    assert health.words(now) == ""
    assert not health.left(OTHER, now)


def test_refusals_of_one_burst_are_one_failure() -> None:
    health = GuardHealth()
    told = [health.built(GUARD, 0, 3, 100.0) for _ in range(50)]
    assert told.count(True) == 1
    assert not health.left(GUARD, 100.0 + REFUSED_SECONDS[0])


def test_one_answer_in_between_is_enough() -> None:
    health = GuardHealth()
    assert not any(health.built(GUARD, answered, 3, 0.0) for answered in (0, 0, 0, 1) * 4)


@pytest.mark.parametrize("answered", [1, 2])
def test_a_guard_through_which_too_few_circuits_stand_is_left_for_long(answered: int) -> None:
    health = GuardHealth()
    left = [health.built(GUARD, 3 if i % 3 == 0 else answered, 3, 50.0) for i in range(LEAST_BUILDS)]
    assert left.index(True) == LEAST_BUILDS - 1, "judged as soon as there is enough to judge by"
    assert health.left(GUARD, 50.0 + BIASED_SECONDS[0] - 1)
    assert not health.left(GUARD, 50.0 + BIASED_SECONDS[0])
    assert "7 of 20" in health.words(60.0)


def test_circuits_that_end_after_they_were_built_count_too() -> None:
    health = GuardHealth()
    left = False
    for i in range(LEAST_BUILDS):
        assert not health.built(GUARD, 3, 3, 1.0)
        left = left or health.collapsed(GUARD, [NodeId(bytes((i,)) * 32)], 1.0)
    assert left
    assert health.totals == {COLLAPSED: LEAST_BUILDS}


def test_an_honest_guard_of_a_network_with_bad_relays_is_told_of_and_kept() -> None:
    health = GuardHealth()
    outcomes = [3, 3, 2, 3] * 40
    assert not any(health.built(GUARD, answered, 3, 1.0) for answered in outcomes)
    assert health.words(1.0) == ""
    outcomes = [3, 3, 2, 3, 1, 2, 3, 3, 1, 3] * 40  # six of ten
    left = [health.built(OTHER, answered, 3, 1.0) for answered in outcomes]
    assert left.index(True) >= ENOUGH_BUILDS - 1, "told of first"


def test_a_person_is_told_before_a_guard_is_left() -> None:
    health = GuardHealth()
    for answered in [3, 3, 2, 3, 1] * 6:
        assert not health.built(GUARD, answered, 3, 1.0)
    assert f"18 of 30 circuits through the guard {str(GUARD)[:8]} stood" in health.words(1.0)


def test_what_was_long_ago_counts_less_and_hops_are_told_apart() -> None:
    health = GuardHealth()
    for _ in range(10 * MOST_BUILDS):
        health.built(GUARD, 3, 3, 1.0)
    for _ in range(10):
        health.built(GUARD, 2, 3, 1.0)
        health.built(GUARD, 1, 3, 1.0)
    assert health.totals == {1: 10, 2: 10}
    more = 0
    while not health.built(GUARD, 2, 3, 1.0):
        more += 1
    assert more < 2 * MOST_BUILDS, "a long good past excuses nobody for long"


def test_it_remembers_a_bounded_number() -> None:
    health = GuardHealth()
    for i in range(MAX_GUARDS + 10):
        health.built(NodeId(i.to_bytes(32, "big")), 0, 3, 1.0)
    assert len(health._of) == MAX_GUARDS
    assert REFUSED_SECONDS[0] < REFUSED_SECONDS[1]


def test_a_relay_that_dies_with_all_its_circuits_convicts_no_guard() -> None:
    health = GuardHealth()
    for i in range(200):
        health.built(GUARD, 3, 3, 1.0)
        assert not health.collapsed(GUARD, [OTHER, NodeId(bytes((i,)) * 32)], 1.0)
    assert health.words(1.0) == ""
    assert health.totals[COLLAPSED] == 200
