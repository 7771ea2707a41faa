"""Random order without bias."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.mixing.shuffle import Draw, interleave, shuffle
from world import Seeded


def chi_square(counts: Counter[object], outcomes: int) -> float:
    expected = counts.total() / outcomes
    return sum((n - expected) ** 2 / expected for n in counts.values()) + expected * (outcomes - len(counts))


@given(st.lists(st.integers()), st.integers(0, 2**32))
def test_shuffle_is_a_permutation(items: list[int], seed: int) -> None:
    shuffled = list(items)
    shuffle(shuffled, Draw(Seeded(seed)))
    assert sorted(shuffled) == sorted(items)


def test_every_permutation_is_equally_likely() -> None:
    draw = Draw(Seeded(5))
    counts: Counter[object] = Counter()
    for _ in range(24_000):
        items = [0, 1, 2, 3]
        shuffle(items, draw)
        counts[tuple(items)] += 1
    assert set(counts) == set(permutations(range(4)))
    assert chi_square(counts, 24) < 56.0, counts  # 23 degrees of freedom, p = 0.0001


@pytest.mark.parametrize("bound", [1, 2, 3, 7, 10, 1000])
def test_draws_are_uniform_and_in_range(bound: int) -> None:
    draw = Draw(Seeded(7))
    values = [draw.below(bound) for _ in range(5000)]
    assert 0 <= min(values) <= max(values) < bound
    tenth = [v * 10 // bound for v in values]
    if bound >= 1000:
        assert chi_square(Counter(tenth), 10) < 33.8  # 9 degrees of freedom, p = 0.0001
    elif bound > 1:
        assert chi_square(Counter(values), bound) < 33.8


def test_values_that_would_bias_the_remainder_are_thrown_away() -> None:
    """Below 3, 2^32 - 1 is the one value too many: 2^32 = 3 x 1,431,655,765 + 1."""
    words = [b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe", b"\0\0\0\4"]
    draw = Draw(lambda _: b"".join(words))
    assert [draw.below(3), draw.below(3)] == [(2**32 - 2) % 3, 1]


def test_the_source_is_asked_again_when_its_bytes_are_used_up() -> None:
    asked: list[int] = []

    def source(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    draw = Draw(source)
    for _ in range(3 * 1024):
        draw.below(5)
    assert asked == [4096, 4096, 4096]


@given(st.dictionaries(st.integers(0, 5), st.lists(st.integers(), max_size=6), max_size=4), st.integers(0, 2**32))
def test_interleave_keeps_each_queue_in_order_and_loses_nothing(queues: dict[int, list[int]], seed: int) -> None:
    out = interleave(queues, Draw(Seeded(seed)))
    assert len(out) == sum(map(len, queues.values()))
    for key, items in queues.items():
        assert [item for k, item in out if k == key] == items


def test_every_interleaving_is_equally_likely() -> None:
    draw = Draw(Seeded(11))
    counts: Counter[object] = Counter(tuple(interleave({"a": [1, 2], "b": [3, 4]}, draw)) for _ in range(12_000))
    assert len(counts) == 6
    assert chi_square(counts, 6) < 25.7, counts  # 5 degrees of freedom, p = 0.0001
