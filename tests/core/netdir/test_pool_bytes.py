"""The pool is bounded in bytes, and nodes that are nowhere have a small part of it that networks share."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.codec import IDENTITY_BYTES, SIGNATURE_BYTES
from phantomband.core.netdir.descriptor import SignedDescriptor
from phantomband.core.netdir.newcomers import Newcomers
from phantomband.core.netdir.pool import DescriptorPool

NETWORK = 40
"""Descriptors that the places of these tests have room for."""


class Many:
    """Descriptors of as many identities as wanted; nothing is signed."""

    def __init__(self, world: Any) -> None:
        self.world, self.genesis = world, world.genesis()
        self.reached: set[bytes] = set()
        self.now = world.start + 1.0
        size = len(self.make(0).encoded)
        self.pool = DescriptorPool(
            reached=lambda one: int(bytes(one.node_id) in self.reached), max_bytes=NETWORK * size,
            newcomer_bytes=NETWORK * size,
        )  # fmt: skip
        self.size = size

    def make(self, index: int, host: str = "20.1.1.1", **changes: object) -> SignedDescriptor:
        identity = hashlib.shake_256(str(index).encode()).digest(IDENTITY_BYTES)
        made = self.world.descriptor(
            self.genesis, 1, identity=identity, addresses=(NodeAddress("tcp", host, 9001),), **changes
        )
        raw = made.encode() + bytes(SIGNATURE_BYTES)
        return SignedDescriptor(made, raw, hashlib.sha256(raw).digest())

    def add(self, one: SignedDescriptor, **more: Any) -> SignedDescriptor:
        self.pool.add(one, self.now, **more)
        return one

    def held(self, one: SignedDescriptor) -> bool:
        return one.digest in self.pool


@pytest.fixture
def many(world: Any) -> Many:
    return Many(world)


def test_a_flood_of_nodes_that_are_nowhere_fills_a_small_place_only(many: Many) -> None:
    member, there = many.make(1000), many.make(1001)
    many.pool.members = frozenset((member.node_id,))
    many.reached.add(bytes(there.node_id))
    many.add(member)
    many.add(there)
    for index in range(10 * NETWORK):
        many.add(many.make(index, host=f"20.{index % 200}.1.1"))
        assert many.pool.bytes <= (NETWORK + 2) * many.size
    assert many.held(member)
    assert many.held(there)
    assert len(many.pool) == NETWORK + 2


def test_the_network_with_most_gives_way(many: Many) -> None:
    """A flood that one network hands in, whatever addresses it claims, puts out nobody else's newcomers."""
    honest = [many.add(many.make(2000 + i, host=f"30.{i}.1.1"), network=bytes((4, 90, i))) for i in range(10)]
    for index in range(5 * NETWORK):
        many.add(many.make(index, host=f"40.{index % 250}.1.1"), network=b"\4\x09\x09")
    assert all(many.held(one) for one in honest)
    assert len(many.pool) == NETWORK


def test_what_others_pass_on_counts_for_the_network_that_it_claims(many: Many) -> None:
    honest = many.add(many.make(2000, host="30.1.1.1"))
    for index in range(5 * NETWORK):
        many.add(many.make(index, host="40.1.1.1"))
    assert many.held(honest)


def test_a_newcomer_that_was_reached_is_none_any_more(many: Many) -> None:
    first = many.add(many.make(2000))
    many.reached.add(bytes(first.node_id))
    for index in range(3 * NETWORK):
        many.add(many.make(index))
    assert many.held(first)


def test_a_full_pool_lets_older_descriptors_go_then_nodes_in_no_view_and_members_never(many: Many) -> None:
    members = [many.make(3000 + index) for index in range(NETWORK // 2)]
    many.pool.members = frozenset(one.node_id for one in members)
    for one in members:
        many.add(one)
    many.now += 9
    newer = [many.make(3000 + i, published=one.descriptor.published + 1) for i, one in enumerate(members)]
    for one in newer:
        many.add(one)
    assert len(list(many.pool.digests())) == NETWORK
    strangers = [many.make(4000 + index) for index in range(NETWORK)]
    many.reached.update(bytes(one.node_id) for one in strangers)
    for one in strangers:
        many.add(one)
        assert many.pool.bytes <= NETWORK * many.size
    assert all(many.held(one) for one in newer)
    assert not any(many.held(one) for one in members)
    assert many.held(strangers[-1])
    many.pool.members |= frozenset(one.node_id for one in strangers)
    with pytest.raises(Refused, match="takes no new ones"):
        for index in range(NETWORK):
            many.reached.add(bytes(many.make(5000 + index).node_id))
            many.add(many.make(5000 + index))
    assert many.pool.bytes <= NETWORK * many.size


def test_what_a_vote_names_is_no_newcomer(many: Many) -> None:
    named = many.add(many.make(2000), named=True)
    for index in range(3 * NETWORK):
        many.add(many.make(index))
    assert many.held(named)


def test_bytes_are_counted_right_whatever_comes_and_goes(many: Many) -> None:
    dice = random.Random(7)
    for step in range(400):
        index = dice.randrange(90)
        published = many.world.start + dice.randrange(step // 30 + 1)
        many.now = published + 30.0
        made = many.make(index, host=f"20.{index % 7}.1.1", published=published, expires=published + 60)
        try:
            many.add(made, named=dice.random() < 0.05)
        except Refused:
            pass
        if dice.random() < 0.02:
            many.reached.add(bytes(made.node_id))
        if dice.random() < 0.02:
            many.pool.prune(many.now + dice.randrange(40))
        held = sum(len(many.pool.get(digest).encoded) for digest in many.pool.digests())  # type: ignore[union-attr]
        assert many.pool.bytes == held
        assert many.pool._newcomers.bytes == sum(sum(g.values()) for g in many.pool._newcomers._groups.values())
        assert many.pool._newcomers.bytes <= NETWORK * many.size
    many.pool.prune(many.now + 10_000)
    assert (many.pool.bytes, many.pool._newcomers.bytes, len(many.pool._newcomers)) == (0, 0, 0)
    assert not many.pool._newcomers._bytes


def test_whoever_left_is_not_counted(many: Many) -> None:
    place = Newcomers(lambda node: False, 100)
    node = many.make(1).node_id
    place.add(node, b"n", 60)
    place.add(node, b"other", 30)
    assert (node in place, place.bytes, list(place.over())) == (True, 90, [])
    place.shrink(node, 60)
    place.leave(node)
    place.leave(node)
    place.shrink(node, 5)
    assert (place.bytes, len(place)) == (0, 0)


def test_what_was_never_written_needs_no_removal(many: Many) -> None:
    """A flood beside a full disk would else grow the list of what is to be removed from it without end."""
    for index in range(5 * NETWORK):
        many.add(many.make(index))
    changes = many.pool.take_changes()
    assert len(changes.added) == NETWORK
    assert not changes.removed
