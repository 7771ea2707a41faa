"""Two sets are reconciled whatever they hold, in bounded messages, and a lying peer cannot lead on for ever."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.dht import reconcile
from phantomband.core.dht.reconcile import (
    BOTTOM,
    ITEM_BYTES,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    TOP,
    ItemSet,
    Reconciliation,
    answer_untrusted,
)
from phantomband.core.errors import Malformed


def meet(ours: set[bytes], theirs: set[bytes]) -> tuple[Reconciliation, int]:
    """Runs one exchange; gives its outcome and the bytes that it took."""
    run, other, size = Reconciliation(ItemSet(ours)), ItemSet(theirs), 0
    while (request := run.next_request()) is not None:
        reply = answer_untrusted(request, other)
        assert len(request) <= MAX_REQUEST_BYTES
        assert len(reply) <= MAX_REPLY_BYTES
        size += len(request) + len(reply)
        run.reply_untrusted(reply)
    assert run.done
    return run, size


def items(source: random.Random, count: int) -> set[bytes]:
    return {source.randbytes(ITEM_BYTES) for _ in range(count)}


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 600), st.integers(0, 80), st.integers(0, 400), st.booleans())
def test_both_sides_learn_exactly_what_differs(seed: int, same: int, left: int, right: int, crowded: bool) -> None:
    source = random.Random(seed)
    shared, ours, theirs = items(source, same), items(source, left), items(source, right)
    if crowded:
        theirs = {bytes(30) + one[30:] for one in theirs}
    run, _ = meet(shared | ours, shared | theirs)
    assert set(run.wanted) == (shared | theirs) - (shared | ours)
    assert set(run.offered) == (shared | ours) - (shared | theirs)
    assert len(set(run.wanted)) == len(run.wanted)


def test_few_differences_cost_few_bytes() -> None:
    source = random.Random(1)
    shared = items(source, 10_000)
    run, size = meet(shared, shared)
    assert run.rounds == 1
    assert size < 200
    run, size = meet(shared, shared | items(source, 3))
    assert len(run.wanted) == 3
    assert run.rounds <= 5
    assert size < 25_000  # the full list has 560,000 bytes


def test_directories_that_meet_at_random_converge() -> None:
    source = random.Random(2)
    sets = [items(source, 20) for _ in range(32)]
    everything = set().union(*sets)
    rounds = 0
    while any(one != everything for one in sets):
        rounds += 1
        for at, one in enumerate(sets):
            other = sets[source.choice([i for i in range(len(sets)) if i != at])]
            run, _ = meet(one, other)
            one.update(run.wanted)
            other.update(run.offered)
        assert rounds <= 10
    assert rounds >= 2


@pytest.mark.parametrize(
    "reply",
    [
        b"\0\0\0",
        b"\2\0\0",
        b"\1\0\1" + BOTTOM + TOP + b"\0" + bytes(16),
        b"\1\0\1" + TOP + TOP + b"\1\0\0",
        b"\1\0\1" + BOTTOM + TOP + b"\2",
        b"\1\0\1" + BOTTOM + TOP + b"\1\0\2" + BOTTOM + BOTTOM,
        b"\1\xff\xff",
        bytes(MAX_REPLY_BYTES + 1),
    ],
)
def test_a_reply_that_leads_nowhere_is_malformed(reply: bytes) -> None:
    run = Reconciliation(ItemSet([b"\7" * ITEM_BYTES]))
    run.next_request()
    with pytest.raises(Malformed):
        run.reply_untrusted(reply)


def test_a_part_that_was_not_asked_about_is_malformed() -> None:
    run = Reconciliation(ItemSet(items(random.Random(3), 100)))
    request = run.next_request()
    assert request is not None
    run.reply_untrusted(answer_untrusted(request, ItemSet(items(random.Random(4), 600))))
    assert run.next_request() is not None
    with pytest.raises(Malformed, match="not asked"):
        run.reply_untrusted(b"\1\0\1" + BOTTOM + TOP + b"\1\0\0")


def test_rounds_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "MAX_ROUNDS", 2)
    source = random.Random(5)
    run, other = Reconciliation(ItemSet(items(source, 3000))), ItemSet(items(source, 3000))
    with pytest.raises(Malformed):
        while (request := run.next_request()) is not None:
            run.reply_untrusted(answer_untrusted(request, other))
