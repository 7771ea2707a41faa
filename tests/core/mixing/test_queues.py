"""Who gives up cells when the mixer is full."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.ids import LinkId
from phantomband.core.mixing.queues import Circuit, by_link, excess, longest
from phantomband.core.mixing.shuffle import Draw
from world import Seeded


def circuit(number: int) -> Circuit:
    return LinkId(1), number.to_bytes(4, "big")


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 2**32), st.data())
def test_exactly_so_many_are_freed_and_the_longest_pay(lengths: list[int], seed: int, data: st.DataObject) -> None:
    spare = data.draw(st.integers(0, sum(lengths)))
    queues = {circuit(i): bytes(length) for i, length in enumerate(lengths)}
    cuts = longest(queues, spare, Draw(Seeded(seed)))
    assert sum(cuts.values()) == spare
    left = {c: len(q) - cuts.get(c, 0) for c, q in queues.items()}
    assert min(left.values()) >= 0
    cut_to = max((left[c] for c in cuts), default=0)
    assert all(left[c] >= cut_to - 1 for c in cuts), "all are cut to one length, or one more"
    assert all(left[c] <= cut_to + 1 for c in queues if cuts), "no longer queue is spared"


def test_a_flood_pays_alone() -> None:
    queues = {circuit(1): bytes(1000)} | {circuit(i): bytes(5) for i in range(2, 50)}
    assert longest(queues, 900, Draw(Seeded(1))) == {circuit(1): 900}


def test_among_equals_chance_decides() -> None:
    queues = {circuit(i): bytes(1) for i in range(4)}
    paid = Counter(c for seed in range(4000) for c in longest(queues, 1, Draw(Seeded(seed))))
    assert all(850 < paid[c] < 1150 for c in queues), paid


def test_the_bound_frees_an_eighth() -> None:
    assert [excess(held, 80) for held in (0, 79, 80, 100)] == [0, 0, 10, 30]
    assert excess(2, 2) == 1


def test_by_link_keeps_the_order_given() -> None:
    cells = [((LinkId(n % 2), b"cccc"), bytes([n])) for n in range(5)]
    assert by_link(cells) == [(0, [b"\0", b"\2", b"\4"]), (1, [b"\1", b"\3"])]
