"""Whose cells are dropped when the mixer is full."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Circuit
from phantomband.core.mixing.queues import by_link, longest, runs
from phantomband.core.mixing.shuffle import Draw
from world import Seeded


def circuit(number: int) -> Circuit:
    return LinkId(1), number.to_bytes(4, "big")


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 2**32), st.data())
def test_enough_is_freed_and_the_longest_pay(lengths: list[int], seed: int, data: st.DataObject) -> None:
    spare = data.draw(st.integers(1, sum(lengths)))
    queues = {circuit(i): bytes(length) for i, length in enumerate(lengths)}
    chosen = longest(queues, spare, Draw(Seeded(seed)))
    assert len(set(chosen)) == len(chosen)
    freed = [len(queues[c]) for c in chosen]
    assert sum(freed) - freed[-1] < spare <= sum(freed), "enough, and not one circuit more"
    assert freed == sorted(lengths, reverse=True)[: len(freed)]


def test_a_flood_pays_alone() -> None:
    queues = {circuit(1): bytes(1000)} | {circuit(i): bytes(5) for i in range(2, 50)}
    assert longest(queues, 900, Draw(Seeded(1))) == [circuit(1)]


def test_among_equals_chance_decides() -> None:
    queues = {circuit(i): bytes(2) for i in range(4)} | {circuit(4): bytes(1), circuit(5): bytes(9)}
    paid = Counter(c for seed in range(4000) for c in longest(queues, 11, Draw(Seeded(seed))))
    assert paid.pop(circuit(5)) == 4000
    assert all(850 < paid[circuit(i)] < 1150 for i in range(4)), paid
    assert circuit(4) not in paid


def test_runs_are_neighbours_of_one_circuit() -> None:
    cells = [b"aaaa1", b"aaaa2", b"bbbb1", b"aaaa3"]
    assert list(runs(LinkId(3), cells)) == [
        ((3, b"aaaa"), cells[:2]),
        ((3, b"bbbb"), cells[2:3]),
        ((3, b"aaaa"), cells[3:]),
    ]
    assert list(runs(LinkId(3), [])) == []


def test_by_link_keeps_the_order_given() -> None:
    cells = [((LinkId(n % 2), b"cccc"), bytes([n])) for n in range(5)]
    assert by_link(cells) == [(0, [b"\0", b"\2", b"\4"]), (1, [b"\1", b"\3"])]
