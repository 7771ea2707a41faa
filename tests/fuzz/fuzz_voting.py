"""Directories that vote under any order and loss of messages, clocks that step, restarts, and one that signs whatever
it likes: no call raises anything but Malformed, no honest directory votes or signs twice in an epoch, also over
restarts, no two certified views of one epoch differ, nobody honest is accused, and what is held of rounds stays
within a bound.

Run: `make fuzz TARGETS=voting`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from dataclasses import replace

from fuzz_input import Decisions
from phantomband.core.crypto.labels import SIGN_VIEW
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir import ballot
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor, sign_descriptor
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis
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

START = 1_790_000_000
SIZE = 4
LIAR = 3
"""Index of the directory whose key signs what the input says. It has no machine."""

EPOCH = bytes((0, 6, 2, 0, 2, 2, 0, 1, 2, 2, 0, 1))
"""From the start to the first view: votes, echoes and signatures, each delivered in time."""

SEEDS = [
    EPOCH + EPOCH[:-2],
    EPOCH + bytes((3, 0, 1, 0, 0, 0, 1, 0, 7, 3, 0, 0, 0, 1, 0)) + EPOCH[:-2],
    EPOCH[:8] + bytes((3, 0, 2, 1, 1, 0)) + EPOCH[8:] + bytes((3, 1, 2, 1, 0, 0)),
    bytes((4, 0, 4)) + EPOCH + bytes((5, 0, 4, 1, 2)) + EPOCH[:-2],
    b"".join(bytes((0, step, 1, 0, 1, 1, 1, 2, 4, 1, 3, 0, 0, 1, 0, 3, 2, 0, 1, 1)) for step in (6, 3, 3, 6, 3, 3)),
    bytes((0, 7, 2, 1, 0, 9, 5, 0, 255, 0, 7, 1, 0, 1, 0, 2, 0, 0, 8, 1, 0, 1, 0)),
]


def seeded(seed: str) -> IdentityKey:
    return IdentityKey.generate(lambda size: hashlib.shake_256(seed.encode()).digest(size))


def key32(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:31] + b"\1"


KEYS = [seeded(f"voting {i}") for i in range(SIZE)]
LINK_KEYS = [key32(f"link {i}") for i in range(SIZE)]


def address(index: int) -> NodeAddress:
    return NodeAddress("tcp", f"10.{index}.0.1", 9000 + index)


GENESIS = Genesis("fuzz", True, EpochClock(START, 4, 8, 32), 1, tuple(
    DirectoryInfo(f"d{i}", KEYS[i].public.raw, LINK_KEYS[i], (address(i),)) for i in range(SIZE)
))  # fmt: skip


def descriptor(index: int, published: int) -> SignedDescriptor:
    return sign_descriptor(Descriptor(
        network_id=GENESIS.network_id, identity=KEYS[index].public.raw, link_key=LINK_KEYS[index],
        onion_key=key32(f"onion {index} {published}"), addresses=(address(index),), exit_policy="", bandwidth=10**6,
        family=(), nickname=f"n{index}", software="x", mix="none", published=START + published, expires=START + 10_000,
    ), KEYS[index])  # fmt: skip


DESCRIPTORS = [descriptor(index, published) for index in range(SIZE) for published in (0, 1)]


class Signer:
    """A key that answers like the real one, but signs the same bytes once: signing is what takes long here."""

    def __init__(self, key: IdentityKey) -> None:
        self._key, self._signed = key, dict[tuple[bytes, bytes], bytes]()
        self.public = key.public
        self.node_id = key.node_id

    def sign(self, message: bytes, context: bytes) -> bytes:
        known = self._signed.get((message, context))
        if known is None:
            if len(self._signed) > 4096:
                self._signed.clear()
            known = self._signed[message, context] = self._key.sign(message, context)
        return known


SIGNERS = [Signer(key) for key in KEYS]


class Member:
    """One honest directory, its disk, and its clock's error in seconds."""

    def __init__(self, index: int) -> None:
        self.index, self.memory, self.off = index, Memory(), 0.0
        self.pool = DescriptorPool()
        self.certified: list[CertifiedView] = []
        self.start()

    def start(self) -> None:
        current = self.certified[-1] if self.certified else None
        self.voting = Voting(GENESIS, SIGNERS[self.index], self.index, self.memory, current, self.pool)


class World:
    """Three honest directories, a fourth's key, and the messages under way."""

    def __init__(self, data: bytes) -> None:
        self.decide = Decisions(data, 80)
        self.now = float(START)
        self.members = [Member(i) for i in range(LIAR)]
        self.under_way: list[tuple[int, int, BallotKind, bytes]] = []
        self.said: dict[tuple[int, BallotKind, int], set[bytes]] = defaultdict(set)
        self.views: dict[int, bytes] = {}
        for member in self.members:
            for one in DESCRIPTORS[::2]:
                self.pooled(member, one)

    def time(self, member: Member) -> float:
        return self.now + member.off

    def pooled(self, member: Member, one: SignedDescriptor) -> None:
        """A descriptor of another time by this clock is not taken."""
        with contextlib.suppress(Malformed, Refused):
            member.pool.add(one, self.time(member))

    def step(self) -> None:
        decide = self.decide
        match decide.below(10):
            case 0:
                self.now += (0.01, 0.5, 1.0, 1.9, 2.0, 4.0, 6.0, 8.0, 32.0, 900.0)[decide.below(10)]
                for member in self.members:
                    self.do(member, member.voting.tick(self.time(member)))
            case 1:
                self.deliver(decide.below(256))
            case 2:
                self.deliver_all()
            case 3:
                self.lie()
            case 4:
                self.step_clock(decide.one(self.members))
            case 5:
                self.restart(decide.one(self.members))
            case 6:
                member = decide.one(self.members)
                self.pooled(member, decide.one(DESCRIPTORS))
                self.do(member, member.voting.handle(DescriptorsAdded(), self.time(member)))
            case 7:
                if self.under_way:
                    del self.under_way[decide.below(len(self.under_way))]
            case 8:
                self.noise(decide.one(self.members))
            case _:
                member = decide.one(self.members)
                due = member.voting.deadline(self.time(member))
                if due <= self.time(member):
                    raise AssertionError("a deadline that has passed")
                self.now = max(self.now, min(due - member.off, self.now + 100.0))
                self.do(member, member.voting.tick(self.time(member)))

    def step_clock(self, member: Member) -> None:
        seconds = self.decide.one((-1000.0, -40.0, -3.0, 3.0, 9.0, 40.0, 1000.0))
        back = max(-900.0, min(900.0, member.off + seconds)) - member.off
        member.off += back
        member.voting.clock_jumped(back, self.time(member))

    def restart(self, member: Member) -> None:
        """What it knew of the round is lost; what it remembered on disk is not."""
        member.start()

    def do(self, member: Member, effects: list[Effect]) -> None:
        todo = list(effects)
        for _ in range(1000):
            if not todo:
                return
            todo += self.carry_out(member, todo.pop(0))
        raise AssertionError("effects without an end")

    def carry_out(self, member: Member, effect: Effect) -> list[Effect]:
        voting, now = member.voting, self.time(member)
        match effect:
            case Remember(memory):
                member.memory = memory
            case Broadcast(kind, data):
                self.sent(member, kind, data)
            case FetchDescriptors(source, digests) if source < LIAR:
                for digest in digests:
                    if (one := self.members[source].pool.get(digest)) is not None:
                        self.pooled(member, one)
                return voting.handle(DescriptorsAdded(), now)
            case FetchVotes(source, epoch, digests) if source < LIAR:
                votes = self.members[source].voting.votes(epoch, digests)
                self.under_way += [(source, member.index, BallotKind.VOTE, raw) for raw in votes]
            case FetchView(source) if source < LIAR and self.members[source].certified:
                newest = self.members[source].certified[-1]
                if not member.certified or newest.view.epoch > member.certified[-1].view.epoch:
                    member.certified.append(newest)
                return voting.handle(ViewArrived(newest), now)
            case Certified(certified):
                member.certified.append(certified)
                if self.views.setdefault(certified.view.epoch, certified.digest) != certified.digest:
                    raise AssertionError("two views of one epoch")
                if len(certified.signatures) < GENESIS.quorum:
                    raise AssertionError("a view without a quorum")
            case Evidence(directory) if directory != LIAR:
                raise AssertionError("an honest directory was accused")
            case _:
                pass
        return []

    def sent(self, member: Member, kind: BallotKind, data: bytes) -> None:
        read = {
            BallotKind.VOTE: ballot.Vote, BallotKind.ECHO: ballot.Echo, BallotKind.SIGNATURE: ballot.ViewSignature,
        }[kind].decode_untrusted(data)  # fmt: skip
        if read.directory == member.index:
            said = self.said[member.index, kind, read.epoch]
            said.add(data)
            if len(said) > 1 and kind is not BallotKind.ECHO:
                raise AssertionError("an honest directory said two things in one epoch")
        elif kind is not BallotKind.SIGNATURE or read.directory != LIAR:
            raise AssertionError("a directory passed on what is not a liar's")
        for other in self.members:
            if other is not member:
                self.under_way.append((member.index, other.index, kind, data))
        del self.under_way[:-200]

    def deliver(self, number: int) -> None:
        if not self.under_way:
            return
        sender, to, kind, data = self.under_way.pop(number % len(self.under_way))
        member = self.members[to]
        event = BallotReceived(kind, data, self.decide.one((sender, sender, None)))
        self.do(member, self.handled(member, event))

    def deliver_all(self) -> None:
        for _ in range(60):
            if self.under_way:
                sender, to, kind, data = self.under_way.pop(0)
                self.do(self.members[to], self.handled(self.members[to], BallotReceived(kind, data, sender)))

    def handled(self, member: Member, event: BallotReceived) -> list[Effect]:
        """An honest one's message is never Malformed to another."""
        return member.voting.handle(event, self.time(member))

    def noise(self, member: Member) -> None:
        """Bytes of anybody's: some of an honest message's, changed."""
        decide = self.decide
        kind = decide.one(list(BallotKind))
        raw = bytearray(self.under_way[decide.below(len(self.under_way))][3] if self.under_way else decide.piece(60))
        for _ in range(decide.below(3)):
            at = decide.below(max(1, len(raw)))
            raw[at : at + 1] = decide.bytes(1)
        try:
            self.do(member, member.voting.handle(BallotReceived(kind, bytes(raw)), self.time(member)))
        except Malformed:
            pass
        try:
            digest = decide.bytes(2).ljust(32, b"\0")
            self.do(member, member.voting.vote_held(decide.below(6), decide.below(SIZE), digest, self.time(member)))
        except Malformed:
            pass

    def lie(self) -> None:
        """The fourth directory signs what it likes, and sends it to one."""
        decide, key = self.decide, SIGNERS[LIAR]
        to = decide.one(self.members)
        epoch = max(0, GENESIS.clock.epoch_at(self.now) + decide.below(3) - 1)
        known = [digest for digests in self.said.values() for digest in digests]
        match decide.below(3):
            case 0:
                entries = tuple(sorted({
                    one.node_id: ballot.VoteEntry(
                        one.node_id, one.digest, one.descriptor.published, decide.byte(), decide.below(1 << 20),
                        decide.below(6), decide.byte(),
                    )
                    for one in (decide.one(DESCRIPTORS) for _ in range(decide.below(4)))
                }.values(), key=lambda entry: entry.node_id))  # fmt: skip
                previous = decide.one([(0, bytes(32)), *self.views.items(), (1, b"p" * 32)])
                vote = ballot.Vote(
                    GENESIS.network_id, epoch, LIAR, *previous, max(0, int(self.now) + decide.below(200) - 100),
                    entries, decide.bytes(1) * 32,
                )  # fmt: skip
                kind, raw = BallotKind.VOTE, ballot.sign_vote(vote, key)
            case 1:
                votes = [ballot.vote_digest(raw) for (_, k, _), raws in self.said.items() for raw in raws
                         if k is BallotKind.VOTE]  # fmt: skip
                held = {decide.below(6): decide.one([*votes, bytes(32)]) for _ in range(decide.below(5))}
                echo = ballot.Echo(GENESIS.network_id, epoch, LIAR, tuple(sorted(held.items())))
                kind, raw = BallotKind.ECHO, ballot.sign_echo(echo, key)
            case _:
                shares = [ballot.ViewSignature.decode_untrusted(raw) for raw in known if self._is_share(raw)]
                empty = ballot.ViewSignature(
                    GENESIS.network_id, epoch, LIAR, bytes(32), decide.bytes(1) * 32, GENESIS.set_id, b""
                )
                like = replace(decide.one([empty, *shares]), directory=LIAR)
                kind, raw = BallotKind.SIGNATURE, replace(like, signature=key.sign(like.message(), SIGN_VIEW)).encode()
        try:
            sender = decide.one((LIAR, None))
            self.do(to, to.voting.handle(BallotReceived(kind, raw, sender), self.time(to)))
        except Malformed:
            pass

    def _is_share(self, raw: bytes) -> bool:
        return any(raw in raws for (_, kind, _), raws in self.said.items() if kind is BallotKind.SIGNATURE)

    def check(self) -> None:
        for member in self.members:
            rounds = member.voting._rounds.values()
            for one in rounds:
                if any(len(votes) > 2 for votes in one.votes.values()) or len(one.votes) > SIZE:
                    raise AssertionError("too many votes are kept")
                if len(one.echoes) > SIZE or len(one.shares) > SIZE or len(one.asked) > 16 * SIZE:
                    raise AssertionError("too much of a round is kept")
            if len(rounds) > 64 or len(member.voting._views) > 3:
                raise AssertionError("too many rounds or views are kept")


def one_input(data: bytes) -> None:
    """One life of three directories."""
    world = World(data)
    while world.decide.more:
        world.step()
        world.check()
