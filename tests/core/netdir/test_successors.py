"""The standing of an identity goes to one successor; one that names two loses it for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from phantomband.core.errors import Malformed
from phantomband.core.netdir import tally
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.ballot import Vote
from phantomband.core.netdir.candidates import Candidates
from phantomband.core.netdir.caps import FirstSeen
from phantomband.core.netdir.descriptor import SignedDescriptor, decode_untrusted, sign_descriptor, sign_succession
from phantomband.core.netdir.genesis import Terms
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.pool_records import Record, accused
from phantomband.core.netdir.view import Flags, View

EPOCH, OLD, WEIGHT = 100, 20, 50_000
BOTH = int(Flags.GUARD | Flags.EXIT)


class Heirs:
    """A network with probation, an old heavy node, and identities that say that they come after it."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.genesis = replace(world.genesis(4, test_network=False), terms=Terms(probation_epochs=24))
        self.now = float(self.genesis.clock.start(EPOCH))
        before = world.view(self.genesis, [], epoch=EPOCH - 1)
        old = replace(world.entry(OLD, weight=WEIGHT), node_id=world.key(OLD).node_id, since=1)
        self.previous = replace(before, entries=(old,))

    def descriptor(self, index: int, *, after: int | None = OLD, **changes: object) -> SignedDescriptor:
        key, published = self.world.key(index), int(self.now)
        succession = (
            b"" if after is None else sign_succession(self.world.key(after), self.genesis.network_id, key.node_id)
        )
        made = self.world.descriptor(
            self.genesis, index, succession=succession, published=published, expires=published + 3000,
            bandwidth=100 << 20, capacity=100 << 20, exit_policy="accept *:443",
            addresses=(NodeAddress("tcp", f"{30 + index}.1.1.1", 9001),),
        )  # fmt: skip
        return sign_descriptor(replace(made, **changes), key)

    def pool(self, *descriptors: SignedDescriptor) -> DescriptorPool:
        pool = DescriptorPool()
        for one in descriptors:
            pool.add(decode_untrusted(one.encoded, self.genesis.network_id), self.now)
        return pool

    def entries(self, pool: DescriptorPool) -> Any:
        seen = FirstSeen()
        seen.note(EPOCH - 1, [(self.world.key(OLD).node_id, 1)])
        return Candidates(self.genesis, pool, lambda node: 1.0, seen).entries(EPOCH, self.now)

    def view(self, *pools: DescriptorPool) -> View:
        """From votes of four directories that hold these."""
        held = [pools[min(directory, len(pools) - 1)] for directory in range(4)]
        votes = [
            Vote(self.genesis.network_id, EPOCH, i, 1, bytes(32), 0, self.entries(pool)) for i, pool in enumerate(held)
        ]
        chosen = tally.choose(votes, self.genesis)
        found = {one.descriptor: pool.get(one.descriptor) for one in chosen for pool in pools if one.descriptor in pool}
        descriptors = {digest: one.descriptor for digest, one in found.items() if one is not None}
        return tally.build_view(EPOCH, chosen, descriptors, self.previous, bytes(32), self.genesis)


def test_one_successor_has_the_standing(world: Any) -> None:
    heirs = Heirs(world)
    (entry,) = heirs.view(heirs.pool(heirs.descriptor(21), heirs.descriptor(OLD, after=None))).entries
    assert entry.node_id == world.key(21).node_id, "and takes the old one's place"
    assert (entry.flags & BOTH, entry.since) == (BOTH, 1)
    assert entry.weight > WEIGHT


@pytest.mark.parametrize("count", [2, 12])
def test_several_successors_are_newcomers_all_and_the_old_one_is_out(world: Any, count: int) -> None:
    heirs = Heirs(world)
    rivals = [heirs.descriptor(21 + index) for index in range(count)]
    view = heirs.view(heirs.pool(heirs.descriptor(OLD, after=None), *rivals))
    assert [entry.node_id for entry in view.entries] == sorted(one.node_id for one in rivals)
    assert {(entry.flags & BOTH, entry.since) for entry in view.entries} == {(0, EPOCH)}
    assert sum(entry.weight for entry in view.entries) == count * tally.UNMEASURED_WEIGHT


def test_directories_that_were_told_of_different_ones_multiply_nothing(world: Any) -> None:
    """Each half knows one successor and votes with its standing; the count finds the rivals."""
    heirs = Heirs(world)
    one, other = heirs.descriptor(21), heirs.descriptor(22)
    first, second = heirs.pool(one), heirs.pool(other)
    votes = [Vote(heirs.genesis.network_id, EPOCH, i, 1, bytes(32), 0, ()) for i in range(4)]
    entries = tuple(sorted((*heirs.entries(first), *heirs.entries(second)), key=lambda entry: entry.node_id))
    chosen = tally.choose([replace(vote, entries=entries) for vote in votes], heirs.genesis)
    assert {each.since for each in chosen} == {1}, "so the votes say"
    descriptors = {one.digest: one.descriptor, other.digest: other.descriptor}
    view = tally.build_view(EPOCH, chosen, descriptors, heirs.previous, bytes(32), heirs.genesis)
    assert {(entry.flags & BOTH, entry.since) for entry in view.entries} == {(0, EPOCH)}
    assert {entry.weight for entry in view.entries} == {tally.UNMEASURED_WEIGHT}


def test_two_convict_for_as_long_as_two_descriptors_of_one_time_do(world: Any) -> None:
    heirs = Heirs(world)
    old, first, second = heirs.descriptor(OLD, after=None), heirs.descriptor(21), heirs.descriptor(22)
    pool = heirs.pool(old, first)
    assert pool.heir_of(first.descriptor, heirs.now) == old.node_id
    pool.add(second, heirs.now)
    (conviction,) = pool.convictions
    assert conviction.node_id == old.node_id
    assert {conviction.first.signed, conviction.second.signed} == {first, second}
    assert pool.take_changes().convicted == {old.node_id}
    ends = first.descriptor.expires
    pool.prune(ends + 1.0)
    assert len(pool) == 0
    third = replace(heirs.descriptor(23), descriptor=replace(heirs.descriptor(23).descriptor, expires=ends + 9000))
    assert pool.heir_of(third.descriptor, ends + 1.0) is None, "one that comes when they are gone gets nothing either"
    assert pool.is_convicted(old.node_id, conviction.until - 1)
    assert not pool.is_convicted(old.node_id, conviction.until)
    assert pool.shared(first.node_id) == []


def test_an_identity_may_be_replaced_again(world: Any) -> None:
    """A chain is no fork; and a successor's newer descriptors are no second successor."""
    heirs = Heirs(world)
    first, again = heirs.descriptor(21), heirs.descriptor(21, published=int(heirs.now) + 1)
    pool = heirs.pool(first, again, heirs.descriptor(22, after=21))
    assert not pool.convictions
    assert pool.heir_of(again.descriptor, heirs.now) == world.key(OLD).node_id


def test_descriptors_that_contradict_nothing_convict_nobody(world: Any) -> None:
    heirs = Heirs(world)
    one, other = heirs.descriptor(21), heirs.descriptor(22, after=None)
    with pytest.raises(Malformed):
        accused(Record(one), Record(other))
    with pytest.raises(Malformed):
        accused(Record(other), Record(heirs.descriptor(22, after=None, published=int(heirs.now) + 1)))
