"""The voting machine and the tally, over a perfect in-memory network with a clock in hand."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from phantomband.core.crypto.labels import SIGN_VIEW
from phantomband.core.errors import Bug, Malformed
from phantomband.core.netdir import ballot, tally
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.certified import CertifiedView, verify_untrusted
from phantomband.core.netdir.descriptor import SignedDescriptor, sign_descriptor
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.voting import Voting
from phantomband.core.netdir.voting_events import (
    BallotKind,
    BallotReceived,
    Broadcast,
    Certified,
    DescriptorsAdded,
    Effect,
    Evidence,
    FetchDescriptors,
    FetchView,
    FetchVotes,
    Memory,
    Remember,
    ViewArrived,
)


@dataclass
class Member:
    """One directory: its machine and what it did."""

    voting: Voting
    pool: DescriptorPool
    memory: Memory = field(default_factory=Memory)
    certified: list[CertifiedView] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class Council:
    """All directories of a genesis; `alive` ones hear each other at once."""

    def __init__(self, world: Any, genesis: Any) -> None:
        self.world, self.genesis, self.now = world, genesis, float(genesis.clock.start_time)
        self.members: dict[int, Member] = {}
        self.alive = set(range(genesis.size))
        self.deaf_to: set[tuple[int, int]] = set()
        self.waiting: deque[tuple[int, Effect]] = deque()
        for index in range(genesis.size):
            self.start(index)

    def start(self, index: int, memory: Memory | None = None, current: CertifiedView | None = None) -> None:
        pool = DescriptorPool()
        memory = memory or Memory()
        key = self.world.key(index)
        self.members[index] = Member(Voting(self.genesis, key, index, memory, current, pool), pool, memory)

    def publish(self, node: int, to: set[int] | None = None, **changes: object) -> SignedDescriptor:
        signed = sign_descriptor(self.world.descriptor(self.genesis, node, **changes), self.world.key(node))
        for index in self.alive if to is None else to:
            self.members[index].pool.add(signed, self.now)
            self.do(index, self.members[index].voting.handle(DescriptorsAdded(), self.now))
        return signed

    def do(self, index: int, effects: list[Effect]) -> None:
        self.waiting.extend((index, effect) for effect in effects)
        while self.waiting:
            self.carry_out(*self.waiting.popleft())

    def carry_out(self, index: int, effect: Effect) -> None:
        member = self.members[index]
        member.log.append(type(effect).__name__)
        match effect:
            case Remember(memory):
                member.memory = memory
            case Broadcast(kind, data):
                for other in sorted(self.alive - {index}):
                    if (other, index) not in self.deaf_to:
                        self.deliver(other, kind, data)
            case FetchDescriptors(source, digests) if source in self.alive:
                found = [self.members[source].pool.get(digest) for digest in digests]
                for one in found:
                    if one is not None:
                        member.pool.add(one, self.now)
                self.waiting.extend((index, e) for e in member.voting.handle(DescriptorsAdded(), self.now))
            case FetchVotes(source, epoch, digests) if source in self.alive:
                for raw in self.members[source].voting.votes(epoch, digests):
                    self.deliver(index, BallotKind.VOTE, raw)
            case FetchView(source) if source in self.alive and self.members[source].certified:
                newest = self.members[source].certified[-1]
                member.certified.append(newest)
                self.waiting.extend((index, e) for e in member.voting.handle(ViewArrived(newest), self.now))
            case Certified(certified):
                member.certified.append(certified)
            case Evidence():
                member.evidence.append(effect)

    def deliver(self, index: int, kind: BallotKind, data: bytes) -> None:
        effects = self.members[index].voting.handle(BallotReceived(kind, data), self.now)
        self.waiting.extend((index, effect) for effect in effects)

    def share(self, index: int, like: ballot.ViewSignature) -> bytes:
        """A share that this directory signed."""
        mine = replace(like, directory=index)
        return replace(mine, signature=self.world.key(index).sign(mine.message(), SIGN_VIEW)).encode()

    def run_to(self, time: float) -> None:
        """Ticks all that live at each of their deadlines up to `time`."""
        while self.now < time:
            due = min(self.members[i].voting.deadline(self.now) for i in self.alive)
            self.now = min(due, time)
            for index in sorted(self.alive):
                self.do(index, self.members[index].voting.tick(self.now))

    def run_epoch(self, epoch: int) -> None:
        self.run_to(self.genesis.clock.end(epoch))

    def views(self, epoch: int) -> dict[int, CertifiedView]:
        found = {}
        for index, member in self.members.items():
            for certified in member.certified:
                if certified.view.epoch == epoch:
                    found[index] = certified
        return found


@pytest.fixture
def council(world: Any) -> Council:
    made = Council(world, world.genesis(4))
    for node in range(5):
        made.publish(node)
    return made


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_all_certify_the_same_view_at_once(world: Any, n: int) -> None:
    made = Council(world, world.genesis(n))
    for node in range(3):
        made.publish(node)
    made.run_to(made.genesis.clock.cutoff(1))
    views = made.views(1)
    assert set(views) == set(range(n))
    assert len({certified.digest for certified in views.values()}) == 1
    certified = verify_untrusted(views[0].encode(), made.genesis, made.now, 0)
    assert [entry.nickname for entry in certified.view.entries] == sorted(
        ("node0", "node1", "node2"), key=lambda name: made.world.key(int(name[-1])).node_id
    )
    log = made.members[0].log
    assert log.count("Remember") == 2
    assert all(log[i + 1] == "Broadcast" for i, name in enumerate(log) if name == "Remember")


def test_views_follow_one_another(council: Council) -> None:
    council.run_epoch(3)
    first, second = council.views(2)[0], council.views(3)[1]
    assert second.view.previous == first.digest


def test_one_dead_still_certifies_two_do_not(council: Council) -> None:
    council.alive = {0, 1, 2}
    council.run_epoch(1)
    assert set(council.views(1)) == {0, 1, 2}
    council.alive = {0, 1}
    council.run_epoch(2)
    assert council.views(2) == {}
    council.alive = {0, 1, 2, 3}
    council.run_epoch(3)
    assert set(council.views(3)) == {0, 1, 2, 3}
    assert council.views(3)[0].view.previous == council.views(1)[0].digest


def test_an_equivocating_voter_is_dropped_and_kept_as_evidence(council: Council) -> None:
    council.run_to(council.genesis.clock.cutoff(1) - 0.01)
    council.alive = {0, 1, 2}
    liar = council.world.key(3)
    base = ballot.Vote(council.genesis.network_id, 1, 3, 0, bytes(32), 1, ())
    one, two = ballot.sign_vote(base, liar), ballot.sign_vote(replace(base, time=2), liar)
    for index, raw in ((0, one), (1, one), (2, two)):
        council.do(index, council.members[index].voting.handle(BallotReceived(BallotKind.VOTE, raw), council.now))
    council.run_epoch(1)
    views = council.views(1)
    assert set(views) == {0, 1, 2}
    assert len({certified.digest for certified in views.values()}) == 1
    assert len(views[0].view.entries) == 5
    for index in (0, 1, 2):
        found = council.members[index].evidence
        assert [(e.directory, e.kind) for e in found] == [(3, BallotKind.VOTE)]
        assert {found[0].first, found[0].second} == {one, two}


def test_who_signs_two_views_for_two_halves_is_found_out(council: Council) -> None:
    council.run_to(council.genesis.clock.cutoff(1) - 0.01)
    council.alive = {0, 1, 2}
    council.run_epoch(1)
    certified = council.views(1)[0]
    view, digest = certified.view, certified.digest
    honest = ballot.ViewSignature(view.network_id, 1, 0, view.previous, digest, view.set_id, b"")
    true, false = (council.share(3, replace(honest, view=signed)) for signed in (digest, bytes(32)))
    for index, raw in ((0, true), (1, true), (2, false)):
        council.do(index, council.members[index].voting.handle(BallotReceived(BallotKind.SIGNATURE, raw), council.now))
    for index in (0, 1):
        (found,) = council.members[index].evidence
        assert (found.directory, found.kind) == (3, BallotKind.SIGNATURE)
        assert {found.first, found.second} == {true, false}
    assert not council.members[2].evidence, "it has one share of the liar's only, and the others have the proof"
    assert all(views.digest == digest for views in council.views(1).values())


def test_a_restart_neither_votes_nor_signs_twice(council: Council) -> None:
    council.run_to(council.genesis.clock.cutoff(1))
    memory = council.members[2].memory
    assert (memory.voted_epoch, memory.signed_epoch) == (1, 1)
    council.start(2, memory)
    council.publish(6, {2})  # it would vote and sign otherwise than before
    council.run_epoch(1)
    assert "Remember" not in council.members[2].log
    assert council.members[2].memory == memory
    council.run_epoch(2)
    assert set(council.views(2)) == {0, 1, 2, 3}


def test_descriptors_that_only_some_hold_are_fetched(council: Council) -> None:
    council.publish(7, {0, 1, 2})
    council.publish(8, {3})  # votes last: the others hear of it too late
    council.run_epoch(1)
    names = {entry.nickname for entry in council.views(1)[3].view.entries}
    assert "node7" in names  # three of four list it
    assert "node8" not in names  # one of four is no majority
    council.run_epoch(2)
    assert "node8" in {entry.nickname for entry in council.views(2)[3].view.entries}


def test_a_vote_that_one_did_not_hear_is_fetched(council: Council) -> None:
    council.deaf_to = {(0, 3)}
    council.run_epoch(1)
    assert set(council.views(1)) == {0, 1, 2, 3}


def test_the_newer_descriptor_wins_when_half_hold_it(council: Council) -> None:
    new = council.publish(0, {0, 1}, published=council.world.start + 1, onion_key=b"n" * 32)
    council.run_epoch(1)
    entry = council.views(1)[3].view.find(new.node_id)
    assert entry is not None
    assert entry.onion_key == b"n" * 32


def test_the_previous_onion_key_stays_for_one_view(council: Council) -> None:
    council.run_epoch(1)
    old = council.world.descriptor(council.genesis, 0).onion_key
    new = council.publish(0, published=council.world.start + 1, onion_key=b"n" * 32)
    council.run_epoch(3)
    second, third = (council.views(e)[0].view.find(new.node_id) for e in (2, 3))
    assert second is not None
    assert third is not None
    assert (second.onion_key, second.previous_onion_key) == (b"n" * 32, old)
    assert third.previous_onion_key is None


def test_the_first_view_waits_for_enough_relays(world: Any) -> None:
    made = Council(world, world.genesis(4, min_relays=3))
    made.publish(0)
    made.publish(1)
    made.run_epoch(1)
    assert made.views(1) == {}
    made.publish(2)
    made.run_epoch(2)
    assert set(made.views(2)) == {0, 1, 2, 3}


def test_who_missed_views_catches_up_and_signs_again(council: Council) -> None:
    council.alive = {0, 1, 2}
    council.run_epoch(3)
    council.start(3)
    council.alive = {0, 1, 2, 3}
    council.run_epoch(4)
    assert set(council.views(4)) == {0, 1, 2, 3}
    assert council.members[3].memory.signed_epoch == 4


def test_medians_and_declared_weight(world: Any) -> None:
    genesis = world.genesis(4)
    signed = sign_descriptor(world.descriptor(genesis, 1, bandwidth=50 * 1024), world.key(1))
    votes = [
        ballot.Vote(
            genesis.network_id, 1, i, 0, bytes(32), 0,
            (ballot.VoteEntry(signed.node_id, signed.digest, signed.descriptor.published, flags, weight),),
        )
        for i, (weight, flags) in enumerate([(10, 3), (20, 3), (30, 1), (4000000, 7)])
    ]  # fmt: skip
    (chosen,) = tally.choose(votes, genesis)
    assert (chosen.weight, chosen.flags) == (20, 3)
    high = replace(chosen, weight=4000)
    view = tally.build_view(1, [high], {signed.digest: signed.descriptor}, None, bytes(32), genesis)
    (entry,) = view.entries
    assert (entry.weight, entry.mix, entry.padding) == (50, "none", "constant:fixed:2")
    assert tally.choose(votes[:2], genesis) == []


def test_a_family_is_mutual(world: Any) -> None:
    genesis = world.genesis(1)
    ids = [world.key(i).node_id for i in range(3)]
    nodes = {
        ids[0]: world.descriptor(genesis, 0, family=tuple(sorted((ids[1], ids[2])))),
        ids[1]: world.descriptor(genesis, 1, family=(ids[0],)),
        ids[2]: world.descriptor(genesis, 2),
    }
    families = tally.family_ids(nodes)
    assert set(families) == {ids[0], ids[1]}
    assert len(set(families.values())) == 1


def test_forged_ballots_are_malformed(council: Council) -> None:
    vote = ballot.Vote(council.genesis.network_id, 1, 3, 0, bytes(32), 1, ())
    with pytest.raises(Malformed):
        raw = ballot.sign_vote(vote, council.world.key(2))
        council.members[0].voting.handle(BallotReceived(BallotKind.VOTE, raw), council.now)
    with pytest.raises(Bug):
        Voting(council.genesis, council.world.key(1), 0, Memory(), None, DescriptorPool())


@pytest.mark.parametrize("seed", range(3))
def test_never_two_views_of_one_epoch_and_no_honest_one_accused(world: Any, seed: int) -> None:
    """Random deafness and deaths, and one directory that sends a different vote to each."""
    council = Council(world, world.genesis(4, startup=30))
    choose = random.Random(seed)
    for node in range(4):
        council.publish(node)
    for epoch in range(1, 16):
        council.alive = {0, 1, 2} if choose.random() < 0.8 else {0, 1}
        council.deaf_to = {(a, b) for a in range(4) for b in range(4) if choose.random() < 0.15}
        council.run_to(council.genesis.clock.cutoff(epoch) - 0.01)
        for index in sorted(council.alive):
            vote = ballot.Vote(council.genesis.network_id, epoch, 3, 0, bytes(32), index, ())
            data = ballot.sign_vote(vote, world.key(3))
            voting = council.members[index].voting
            council.do(index, voting.handle(BallotReceived(BallotKind.VOTE, data), council.now))
        council.run_epoch(epoch)
        assert len({certified.digest for certified in council.views(epoch).values()}) <= 1
    assert {e.directory for m in council.members.values() for e in m.evidence} == {3}
    council.alive, council.deaf_to = {0, 1, 2, 3}, set()
    council.run_epoch(17)
    assert set(council.views(17)) == {0, 1, 2, 3}


def test_networks_that_are_no_test_networks_have_caps_and_old_nodes_keep_their_places(world: Any) -> None:
    for test_network in (True, False):
        genesis = world.genesis(4, test_network=test_network)
        one_net = (NodeAddress("tcp", "192.0.2.1", 9000),)
        signed = [sign_descriptor(world.descriptor(genesis, i, addresses=one_net), world.key(i)) for i in range(4, 9)]
        descriptors = {one.digest: one.descriptor for one in signed}
        chosen = [tally.Chosen(one.node_id, one.digest, 1, 1, 1) for one in sorted(signed, key=lambda one: one.node_id)]
        view = tally.build_view(1, chosen, descriptors, None, bytes(32), genesis)
        assert len(view.entries) == (5 if test_network else 2), "two nodes of one address"
        for salt in range(8):
            later = tally.build_view(2, chosen, descriptors, view, bytes((salt,)) * 32, genesis)
            assert [one.node_id for one in later.entries] == [one.node_id for one in view.entries]


def test_directories_of_the_genesis_set_have_their_places_before_all_others(world: Any) -> None:
    genesis = world.genesis(2, test_network=False)
    one_net = (NodeAddress("tcp", "192.0.2.1", 9000),)
    signed = [sign_descriptor(world.descriptor(genesis, i, addresses=one_net), world.key(i)) for i in range(6)]
    chosen = [tally.Chosen(one.node_id, one.digest, 1, 1, 1) for one in sorted(signed, key=lambda one: one.node_id)]
    for salt in range(8):
        salted = bytes((salt,)) * 32
        view = tally.build_view(1, chosen, {one.digest: one.descriptor for one in signed}, None, salted, genesis)
        assert {one.node_id for one in view.entries} == {one.node_id for one in genesis.directories}


def test_a_vote_that_is_announced_is_fetched_twice_at_most(council: Council) -> None:
    voting = council.members[0].voting
    council.run_to(council.genesis.clock.start_time + 0.1)
    asked = [voting.vote_held(1, 2, bytes([number]) * 32, council.now) for number in range(4)]
    assert asked[0] == [FetchVotes(2, 1, (bytes(32),))]
    assert [len(effects) for effects in asked] == [1, 1, 0, 0], "a liar's announcements are bounded"
    assert voting.vote_held(9, 2, bytes(32), council.now) == [], "not an epoch that matters"
