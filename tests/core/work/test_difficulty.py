"""Difficulty follows the joins, a bit at a time, and finds its level against a flood of constant power."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import UserError
from phantomband.core.work.difficulty import FREE, DifficultyRule, bits_after, next_bits

RULE = DifficultyRule(floor=2, ceiling=14, expected=8, window=3)
JOINS = st.lists(st.integers(0, 100_000), max_size=60)


@given(st.integers(2, 14), JOINS)
def test_a_step_is_one_bit_at_most_and_within_bounds(bits: int, joins: list[int]) -> None:
    after = next_bits(bits, joins, RULE)
    assert abs(after - bits) <= 1
    assert RULE.floor <= after <= RULE.ceiling


@given(JOINS, JOINS)
def test_more_joins_never_make_it_cheaper(some: list[int], more: list[int]) -> None:
    size = min(len(some), len(more))
    lower, higher = some[:size], [a + b for a, b in zip(some, more)]
    assert bits_after(lower, RULE) <= bits_after(higher, RULE)


@given(JOINS)
def test_the_whole_history_is_its_steps(joins: list[int]) -> None:
    bits = RULE.floor
    for end in range(1, len(joins) + 1):
        bits = next_bits(bits, joins[:end], RULE)
    assert bits_after(joins, RULE) == bits


def test_welcome_joins_change_nothing_and_silence_leads_back_to_the_floor() -> None:
    assert next_bits(7, [8, 8, 8], RULE) == 7
    assert next_bits(7, [16, 16, 16], RULE) == 7
    assert next_bits(7, [17, 16, 16], RULE) == 8
    assert next_bits(7, [4, 4, 4], RULE) == 7
    assert next_bits(7, [4, 4, 3], RULE) == 6
    assert bits_after([1000] * 20, RULE) == 14
    assert bits_after([1000] * 20 + [0] * 20, RULE) == 2
    assert bits_after([], RULE) == 2


@pytest.mark.parametrize("power", [100, 1_000, 10_000, 50_000])
def test_a_flood_of_constant_power_is_brought_down_to_what_is_welcome(power: int) -> None:
    """An attacker who affords `power` stamps of 0 bits an epoch, for 200 epochs."""
    joins: list[int] = []
    for _ in range(200):
        joins.append(power >> bits_after(joins, RULE))
    settled = joins[50:]
    assert sum(settled) / len(settled) <= 2 * RULE.expected
    assert max(settled) <= 4 * RULE.expected


def test_test_networks_ask_for_nothing() -> None:
    assert bits_after([10_000] * 50, FREE) == 0


@pytest.mark.parametrize("wrong", [{"floor": 9, "ceiling": 8}, {"ceiling": 33}, {"expected": 0}, {"window": 0}])
def test_rules_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError):
        DifficultyRule(**wrong)
