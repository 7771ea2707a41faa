"""Only addresses that directories reached count: in the view, under caps, in paths."""

from __future__ import annotations

from typing import Any

import pytest
from phantomband.core.ids import NodeId
from phantomband.core.netdir import tally
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.ballot import Vote, VoteEntry
from phantomband.core.netdir.candidates import Candidates
from phantomband.core.netdir.caps import FirstSeen
from phantomband.core.netdir.descriptor import SignedDescriptor, sign_descriptor
from phantomband.core.netdir.path import conflict
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.reach import GIVE_UP_FAILURES, Reachability
from phantomband.core.netdir.view import View

OWN = NodeId(b"o" * 32)


def at(*hosts: str) -> tuple[NodeAddress, ...]:
    return tuple(NodeAddress("tcp", host, 9001) for host in hosts)


class Party:
    """Four directories; each says at which addresses it reached whom."""

    def __init__(self, world: Any) -> None:
        self.world, self.genesis = world, world.genesis(4, test_network=False)
        self.signed: dict[bytes, SignedDescriptor] = {}
        self.masks: dict[bytes, list[int]] = {}

    def node(self, index: int, *hosts: str, masks: list[int]) -> NodeId:
        made = self.world.descriptor(self.genesis, index, addresses=at(*hosts))
        one = sign_descriptor(made, self.world.key(index))
        self.signed[one.digest], self.masks[one.node_id] = one, masks
        return one.node_id

    def view(self) -> View:
        votes = []
        for directory in range(4):
            entries = [
                VoteEntry(
                    one.node_id, one.digest, one.descriptor.published, 3, 9, 1, self.masks[one.node_id][directory]
                )
                for one in sorted(self.signed.values(), key=lambda one: one.node_id)
                if self.masks[one.node_id][directory]
            ]
            votes.append(Vote(self.genesis.network_id, 1, directory, 0, bytes(32), 0, tuple(entries)))
        descriptors = {digest: one.descriptor for digest, one in self.signed.items()}
        return tally.build_view(1, tally.choose(votes, self.genesis), descriptors, None, bytes(32), self.genesis)


@pytest.mark.parametrize(
    ("masks", "listed"),
    [
        ([0b11, 0b11, 0b11, 0b11], 2),
        ([0b01, 0b01, 0b11, 0b11], 2),  # two of four: one is honest, the others have no IPv6
        ([0b01, 0b01, 0b01, 0b11], 1),  # one alone may lie
        ([0b10, 0b01, 0b00, 0b01], 1),
        ([0b11, 0b11, 0b00, 0b00], 0),  # not of a majority
        ([0b10, 0b01, 0b100, 0b1000], 0),
    ],
)
def test_an_address_stands_in_the_view_when_an_honest_directory_reached_it(
    world: Any, masks: list[int], listed: int
) -> None:
    party = Party(world)
    node = party.node(9, "20.1.1.1", "2400:5::1", masks=masks)
    entry = party.view().find(node)
    assert (entry.addresses if entry is not None else ()) == at("20.1.1.1", "2400:5::1")[:listed]


def test_a_claimed_address_shuts_nobody_out(world: Any) -> None:
    """Sixteen liars name an address each in the /16 of a victim, and two its own: it is in, they are not kept by it."""
    party = Party(world)
    for index in range(10, 28):
        claimed = "203.5.6.7" if index < 12 else f"203.5.{index}.9"
        party.node(index, f"{40 + index}.1.0.1", claimed, masks=[1, 1, 1, 1])
    victim = party.node(1, "203.5.6.7", masks=[1, 1, 1, 1])
    view = party.view()
    assert view.find(victim) is not None
    assert len(view.entries) == 19
    assert all(len(entry.addresses) == 1 for entry in view.entries)


def test_a_claimed_network_keeps_nobody_out_of_paths(world: Any) -> None:
    party = Party(world)
    liar = party.node(5, "99.1.1.1", *(f"100.{i}.250.1" for i in range(7)), masks=[1, 1, 1, 1])
    exits = [party.node(10 + i, f"100.{i}.3.1", masks=[1, 1, 1, 1]) for i in range(7)]
    view = party.view()
    first = view.find(liar)
    assert first is not None
    for node in exits:
        other = view.find(node)
        assert other is not None
        assert not conflict(first, other, party.genesis)


def test_a_directory_votes_for_the_addresses_that_it_reached(world: Any) -> None:
    genesis, addresses = world.genesis(4, test_network=False), at("20.1.1.1", "20.2.1.1", "20.3.1.1")
    one = sign_descriptor(world.descriptor(genesis, 9, addresses=addresses), world.key(9))
    reach = Reachability(OWN, 100.0, 40.0)
    pool = DescriptorPool(reached=reach.mask)
    pool.add(one, world.start + 1.0)
    voter = Candidates(genesis, pool, lambda node: 1.0, FirstSeen())
    assert voter.entries(1, world.start + 1.0) == ()
    reach.note(one.descriptor, 0.0)
    (tried,) = reach.take_due(0.0, 9)
    assert reach.succeeded(tried, 0.0, 0.5, frozenset((addresses[0], addresses[2])))
    assert [entry.reached for entry in voter.entries(1, world.start + 1.0)] == [0b101]


def test_an_address_that_is_added_needs_its_own_proof_and_one_that_fails_is_given_up(world: Any) -> None:
    genesis, addresses = world.genesis(), at("20.1.1.1", "20.2.1.1")
    before = world.descriptor(genesis, 9, addresses=addresses[:1])
    after = world.descriptor(genesis, 9, addresses=addresses)
    reach = Reachability(OWN, 100.0, 40.0)
    reach.note(before, 0.0)
    assert reach.succeeded(reach.take_due(0.0, 9)[0], 0.0, 0.5)
    reach.note(after, 1.0)
    assert reach.mask(after) == 0b01, "it stays while the new one is tried"
    (tried,) = reach.take_due(1.0, 9)
    assert reach.succeeded(tried, 1.0, 0.5, frozenset(addresses))
    now = 1.0
    for count in range(GIVE_UP_FAILURES):
        assert reach.mask(after) == 0b11, f"{count} failures beside a success are not enough"
        now = reach.deadline() or now
        (tried,) = reach.take_due(now, 9)
        reach.succeeded(tried, now, 0.5, frozenset(addresses[:1]))
    assert reach.mask(after) == 0b01
    assert reach.mask(world.descriptor(genesis, 9, addresses=addresses, link_key=b"k" * 32)) == 0
