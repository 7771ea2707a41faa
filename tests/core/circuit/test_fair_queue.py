"""Sources take turns, their links within them; at the bound whoever has most waiting loses."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.circuit.fair_queue import FairQueue


def filled(limit: int, *items: tuple[str, int]) -> tuple[FairQueue[tuple[str, int, int]], list[tuple[str, int, int]]]:
    queue: FairQueue[tuple[str, int, int]] = FairQueue(limit)
    shed = []
    for number, (source, link) in enumerate(items):
        out = queue.add((source, link, number), source=source, link=link)
        if out is not None:
            shed.append(out)
    return queue, shed


def test_a_source_with_many_links_gets_no_more_turns_than_one_with_one() -> None:
    queue, _ = filled(1000, *[("flood", link) for link in range(8) for _ in range(60)], *[("honest", 1)] * 3)
    first = [queue.pop()[0] for _ in range(6)]
    assert first == ["flood", "honest"] * 3


def test_links_of_one_source_take_turns() -> None:
    queue, _ = filled(10, ("a", 1), ("a", 1), ("a", 1), ("a", 2))
    assert [queue.pop()[1] for _ in range(4)] == [1, 2, 1, 1]


def test_at_the_bound_the_newest_of_the_heaviest_goes_and_a_newcomer_comes_in() -> None:
    queue, shed = filled(6, *[("flood", 1)] * 4, *[("flood", 2)] * 2, ("honest", 3), ("honest", 4))
    assert shed == [("flood", 1, 3), ("flood", 1, 2)]
    assert queue.waiting == 6


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3))), st.integers(1, 8))
def test_nothing_is_lost_or_doubled_and_the_bound_holds(items: list[tuple[str, int]], limit: int) -> None:
    queue, shed = filled(limit, *items)
    assert queue.waiting == min(limit, len(items))
    left = []
    while queue:
        left.append(queue.pop())
    assert Counter([*left, *shed]) == Counter((s, link, n) for n, (s, link) in enumerate(items))
    for source in "abc":
        for link in range(4):
            own = [n for s, at, n in left if (s, at) == (source, link)]
            assert own == sorted(own)
