"""The pool: stamps, what is shared and what is voted for, nodes that contradict themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir import pool as pools
from phantomband.core.netdir.descriptor import SignedDescriptor, sign_descriptor
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.pool_records import Record


@pytest.fixture
def signed(world: Any) -> Any:
    genesis = world.genesis()

    def make(index: int, **changes: object) -> SignedDescriptor:
        return sign_descriptor(replace(world.descriptor(genesis, index), **changes), world.key(index))

    return make


def now_of(one: SignedDescriptor) -> float:
    return one.descriptor.published + 1.0


def test_stamps_are_kept_and_mended(signed: Any) -> None:
    pool, one = DescriptorPool(), signed(1)
    assert pool.add(one, now_of(one))
    assert pool.record(one.digest) == Record(one)
    before = pool.version
    pool.restamp(one.digest, b"stamp")
    assert pool.record(one.digest) == Record(one, b"stamp")
    assert pool.version > before
    pool.restamp(one.digest, b"other")
    assert pool.record(one.digest) == Record(one, b"stamp")
    pool.restamp(b"unknown", b"other")
    assert list(pool.all_shared(now_of(one))) == [Record(one, b"stamp")]


def test_only_usable_ones_are_voted_for(signed: Any) -> None:
    """Of a node whose newest descriptor names an address where it was not reached, the one before is."""
    first = signed(1)
    published = first.descriptor.published
    second = signed(1, published=published + 5, link_key=b"k" * 32)
    pool = DescriptorPool(reached=lambda descriptor: int(descriptor.link_key == first.descriptor.link_key))
    now = published + 6.0
    pool.add(first, now)
    pool.add(second, now)
    stranger = signed(2, link_key=b"z" * 32)
    pool.add(stranger, now)
    assert list(pool.votable(now)) == [first]
    assert {one.digest for one in pool.newest()} == {second.digest, stranger.digest}
    assert pool.newest_of(first.node_id) == second


def test_what_a_clock_that_was_ahead_let_in_is_not_voted_for(signed: Any) -> None:
    first = signed(1)
    ahead = first.descriptor.published + 3600
    later = signed(1, published=ahead, expires=ahead + 900)
    pool = DescriptorPool()
    pool.add(first, now_of(first))
    pool.add(later, ahead + 1.0)
    assert list(pool.votable(now_of(first))) == [first]
    assert list(pool.votable(ahead + 1.0)) == [later]


def test_two_for_one_time_convict(signed: Any) -> None:
    one, other = signed(1), signed(1, onion_key=b"x" * 32)
    honest = signed(2)
    pool = DescriptorPool(punished_seconds=1000.0)
    now = now_of(one)
    pool.add(honest, now)
    pool.add(one, now)
    assert list(pool.shared(one.node_id)) == [Record(one)]
    assert pool.add(other, now, b"stamp")
    assert pool.is_convicted(one.node_id, now)
    assert list(pool.votable(now)) == [honest]
    evidence = {(record.signed.digest, record.stamp) for record in pool.shared(one.node_id)}
    assert evidence == {(one.digest, b""), (other.digest, b"stamp")}
    assert len(list(pool.all_shared(now))) == 3
    assert pool.get(other.digest) == other, "a vote that is under way may name it"
    assert pool.take_changes().convicted == {one.node_id}
    newer = signed(1, published=one.descriptor.published + 1)
    with pytest.raises(Refused, match="left out"):
        pool.add(newer, now)
    assert pool.add(newer, now, named=True), "others vote for it, so we need it"
    assert list(pool.votable(now)) == [honest]
    ends = max(one.descriptor.expires, other.descriptor.expires)
    (conviction,) = pool.convictions
    assert conviction.until == ends + 1000
    assert conviction.first.signed.digest < conviction.second.signed.digest
    assert list(pool.all_shared(ends)) == [], "what has expired nobody takes any more"
    assert pool.prune(ends + 1)
    assert pool.is_convicted(one.node_id, ends + 1)
    assert not pool.prune(ends + 2)
    assert pool.prune(ends + 1000)
    assert not pool.is_convicted(one.node_id, ends + 1000)
    assert one.node_id in pool.take_changes().acquitted
    later = signed(1, published=int(ends) + 1000, expires=int(ends) + 1100)
    assert pool.add(later, ends + 1001)


def test_the_same_signed_anew_is_no_contradiction(signed: Any, world: Any) -> None:
    one, again = signed(1), signed(1)
    assert one.encoded != again.encoded
    pool = DescriptorPool()
    assert pool.add(one, now_of(one))
    assert not pool.add(again, now_of(one))
    assert pool.convictions == ()


def test_convictions_are_bounded(signed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "MAX_CONVICTED", 2)
    pool = DescriptorPool()
    for index in range(2):
        pool.convict(Record(signed(index)), Record(signed(index, onion_key=b"x" * 32)))
    one, other = signed(5), signed(5, onion_key=b"x" * 32)
    pool.add(one, now_of(one))
    with pytest.raises(Refused, match="too many"):
        pool.add(other, now_of(one))
    assert pool.get(other.digest) is None
    assert pool.newest_of(one.node_id) == one
    pool.convict(Record(signed(0)), Record(signed(0, onion_key=b"y" * 32)))
    assert len(pool.convictions) == 2


def test_changes_are_said_once(signed: Any) -> None:
    pool, one = DescriptorPool(), signed(1)
    assert not pool.take_changes()
    pool.add(one, now_of(one))
    changes = pool.take_changes()
    assert (changes.added, changes.removed) == ({one.digest}, set())
    assert not pool.take_changes()
    pool.prune(one.descriptor.expires)
    assert pool.take_changes().removed == {one.digest}


def test_older_than_all_that_is_held_is_refused(signed: Any) -> None:
    first = signed(1)
    published = first.descriptor.published
    pool = DescriptorPool()
    for more in (5, 6, 7):
        pool.add(signed(1, published=published + more), published + 8)
    with pytest.raises(Refused, match="newer"):
        pool.add(first, published + 8)
    with pytest.raises(Malformed, match="future"):
        pool.add(signed(1, published=published + 500, expires=published + 900), published + 8)


def test_nodes_that_are_nowhere_make_room_for_others(signed: Any) -> None:
    reached: set[bytes] = set()
    pool = DescriptorPool(max_nodes=4, reached=lambda descriptor: int(descriptor.node_id in reached))
    member, there = signed(1), signed(2)
    now = now_of(member)
    pool.members = frozenset({member.node_id})
    reached.add(there.node_id)
    for one in (member, there, *(signed(index) for index in range(3, 9))):
        assert pool.add(one, now)
        assert len(pool) <= 4
    assert {one.node_id for one in pool.newest()} == {one.node_id for one in (member, there, signed(7), signed(8))}
    reached |= {signed(7).node_id, signed(8).node_id}
    with pytest.raises(Refused, match="takes no new ones"):
        pool.add(signed(9), now)
    assert pool.add(signed(8, published=member.descriptor.published + 1), now + 1), "those that are held go on"
    assert len(pool.take_changes().added) == 5
    pool.members = frozenset(signed(index).node_id for index in (1, 2, 7, 8))
    with pytest.raises(Refused, match="takes no new ones"):
        pool.check(signed(9).descriptor, now)
