"""The directory of one node: announces it, votes when it is of the genesis set, keeps and hands out the
certified view.

Collaborators come by constructor; `run` is everything that happens of itself, `answer` what others ask for.
Only this service holds the node's identity key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.admission import Admission, rule_of
from phantomband.core.netdir.caps import members_of
from phantomband.core.netdir.certified import (
    CertifiedView,
    Expired,
    Forked,
    Freshness,
    ViewKeeper,
    freshness,
    verify_untrusted,
)
from phantomband.core.netdir.descriptor import SignedDescriptor, decode_untrusted
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.path import uniform_below
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.requests import (
    Ballot,
    Descriptors,
    GetDescriptors,
    GetView,
    GetVotes,
    Reply,
    ViewReply,
    Votes,
)
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
    Remember,
    ViewArrived,
)

from phantomband_directory.announcer import Announcer
from phantomband_directory.answers import Answers
from phantomband_directory.parts import NodeParts, NodeSettings, PeerNetwork, Store
from phantomband_directory.peers import Peers

log = logging.getLogger(__name__)

FIRST_POLL_SECONDS = 0.4
"""Between questions for a view while there is none."""

MAX_SLEEP_SECONDS = 5.0
"""Longest sleep before the clock is looked at again: system clocks are set, laptops wake up."""

BALLOT_ATTEMPTS = 3
"""Times that a VOTE, ECHO or SIGNATURE is sent to a peer that does not answer."""


@dataclass(frozen=True, slots=True)
class Status:
    """For health checks and people."""

    node_id: NodeId
    voter: bool
    epoch: int
    view_epoch: int
    freshness: str
    """`none`, or a value of `Freshness`."""
    relays: int
    """In the view."""
    descriptors: int
    """Nodes in this directory's pool; 0 when it does not vote."""
    evidence: int
    """Proofs of misbehaviour found since the start."""
    dropped_calls: int
    measured: int
    """Relays of which this node's loops have said something."""
    bad: tuple[NodeId, ...]
    """Those whose quality is under half."""


class DirectoryService:
    """One node's directory.

    Args:
        parts: the node's gateway and relay.
        network: calls to other directories.
        now: Unix seconds.
        store: what outlives the process.

    Raises:
        UserError: the store holds what cannot be used.
    """

    def __init__(
        self,
        genesis: Genesis,
        key: IdentityKey,
        settings: NodeSettings,
        parts: NodeParts,
        network: PeerNetwork,
        now: Callable[[], float],
        random: RandomSource,
        store: Store,
    ) -> None:
        self._genesis, self._key = genesis, key
        self._now, self._random, self._store = now, random, store
        self.measures = Measures()
        self._observed = now()
        self._index = genesis.index_of(key.node_id)
        self._pool = DescriptorPool()
        self._admission = Admission(genesis.network_id, rule_of(genesis))
        self._peers = Peers(genesis, network)
        self._group: asyncio.TaskGroup | None = None
        self._view_changed = asyncio.Event()
        self._encoded: bytes | None = None
        self._evidence = 0
        self._poll_offset = 0.0
        self._unsaved_descriptors = False
        self._keeper, stored = self._load_view()
        self._voting = self._make_voting(stored)
        self._announcer = Announcer(genesis, key, settings, parts, self._peers, now, random, self._accept_descriptor)
        self._answers = Answers(
            genesis, self._pool, self._admission, self._voting, self._handle_ballot, self._accept_descriptor
        )

    @property
    def view(self) -> CertifiedView | None:
        """The newest certified view."""
        return self._keeper.current

    def status(self) -> Status:
        view, now = self.view, self._now()
        return Status(
            node_id=self._key.node_id,
            voter=self._voting is not None,
            epoch=self._genesis.clock.epoch_at(now),
            view_epoch=NO_EPOCH if view is None else view.view.epoch,
            freshness="none" if view is None else freshness(view.view, self._genesis.clock, now).value,
            relays=0 if view is None else len(view.view.entries),
            descriptors=len(self._pool),
            evidence=self._evidence,
            dropped_calls=self._peers.dropped,
            measured=len(self.measures.by_node),
            bad=tuple(n for n, m in self.measures.by_node.items() if m.quality < 0.5),
        )

    async def run(self) -> None:
        """Announces, votes and polls until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._announcer.run())
            if self._voting is not None:
                group.create_task(self._vote(self._voting))
            if self._others():
                group.create_task(self._poll())

    def answer(self, request: bytes, peer: bytes) -> bytes:
        """Answers one request from another node's directory or a client.

        Args:
            peer: the link key (32 bytes) that the peer proved, or empty for an anonymous client.

        Returns: at most 4 MiB. Never raises: bad requests are refused alike.
        """
        return self._answers.answer(request, peer, self.view, self._encoded, self._now())

    async def watch(self) -> AsyncIterator[bytes]:
        """The newest certified view, and each newer one; those that come while the reader is slow are
        skipped."""
        seen: bytes | None = None
        while True:
            changed, current = self._view_changed, self._encoded
            if current is not None and current is not seen:
                seen = current
                yield current
            else:
                await changed.wait()

    # --- at the start

    def _load_view(self) -> tuple[ViewKeeper, CertifiedView | None]:
        raw = self._store.load_view()
        if raw is None:
            return ViewKeeper(self._genesis), None
        try:
            stored = CertifiedView.decode_untrusted(raw)
            keeper = ViewKeeper(self._genesis, stored.view.epoch)
            keeper.accept(verify_untrusted(raw, self._genesis, self._now(), NO_EPOCH))
            self._encoded = raw
            self._admit_by(stored)
        except Expired:
            pass  # of no use to anyone, but nothing older will be taken either
        except Malformed as e:
            raise UserError(
                f"The stored view cannot be used ({e}). If the network was made anew, give the node a new "
                "state directory; otherwise check this machine's clock and disk."
            ) from e
        return keeper, stored

    def _make_voting(self, stored: CertifiedView | None) -> Voting | None:
        if self._index is None:
            return None
        now = self._now()
        for raw in self._store.load_descriptors():
            try:
                self._pool.add(decode_untrusted(raw, self._genesis.network_id), now)
            except (Malformed, Refused):
                continue  # expired, or damaged: its node will hand in another
        memory = self._store.load_memory()
        return Voting(self._genesis, self._key, self._index, memory, stored, self._pool, self.measures.quality)

    # --- measurements

    def observe(self, observations: Iterable[tuple[NodeId, int, int, float]]) -> None:
        """(relay, loops that came back, loops that did not, seconds), as this node measured since it last said so."""
        now = self._now()
        self.measures.fade(max(0.0, now - self._observed))
        self._observed = now
        for node, returned, lost, delay in observations:
            self.measures.add(node, returned, lost, delay)

    # --- voting

    async def _vote(self, voting: Voting) -> None:
        while True:
            now = self._now()
            self._pool.prune(now)
            self._carry_out(voting.tick(now))
            if self._unsaved_descriptors:
                self._unsaved_descriptors = False
                self._store.save_descriptors([one.encoded for one in self._pool.newest()])
            await asyncio.sleep(min(MAX_SLEEP_SECONDS, max(0.001, voting.deadline(now) - self._now())))

    def _handle_ballot(self, kind: BallotKind, data: bytes) -> None:
        if self._voting is not None:
            self._carry_out(self._voting.handle(BallotReceived(kind, data), self._now()))

    def _accept_descriptor(self, signed: SignedDescriptor) -> None:
        if self._voting is not None and self._pool.add(signed, self._now()):
            self._unsaved_descriptors = True
            self._carry_out(self._voting.handle(DescriptorsAdded(), self._now()))

    def _carry_out(self, effects: list[Effect]) -> None:
        """In order: what must be remembered is on disk before what follows is sent."""
        for effect in effects:
            match effect:
                case Remember(memory):
                    self._store.save_memory(memory)
                case Broadcast(kind, data):
                    for index in self._others():
                        self._spawn(index, Ballot(kind, data), BALLOT_ATTEMPTS)
                case FetchDescriptors(index, digests):
                    self._spawn(index, GetDescriptors(digests), 1, self._take_descriptors)
                case FetchVotes(index, epoch, digests):
                    self._spawn(index, GetVotes(epoch, digests), 1, self._take_votes)
                case FetchView(index):
                    self._spawn(index, GetView(self._view_epoch()), 1, self._take_view)
                case Certified(certified):
                    self._accept_view(certified)
                case Evidence(index, kind, first, second):
                    self._keep_evidence(f"{kind.name}-{index}-{self._view_epoch()}", first, second)

    def _spawn(
        self,
        index: int,
        request: Ballot | GetDescriptors | GetVotes | GetView,
        attempts: int,
        then: Callable[[Reply], None] | None = None,
    ) -> None:
        if self._group is not None:
            self._peers.spawn(self._group, index, request, attempts, then)

    def _take_descriptors(self, reply: Reply) -> None:
        for raw in reply.items if isinstance(reply, Descriptors) else ():
            try:
                self._accept_descriptor(decode_untrusted(raw, self._genesis.network_id))
            except (Malformed, Refused):
                continue

    def _take_votes(self, reply: Reply) -> None:
        for raw in reply.items if isinstance(reply, Votes) else ():
            try:
                self._handle_ballot(BallotKind.VOTE, raw)
            except Malformed:
                continue

    def _take_view(self, reply: Reply) -> None:
        if not isinstance(reply, ViewReply):
            return
        try:
            verified = verify_untrusted(reply.certified, self._genesis, self._now(), self._keeper.highest_epoch)
        except Malformed:
            return
        if self._accept_view(verified) and self._voting is not None:
            self._carry_out(self._voting.handle(ViewArrived(verified), self._now()))

    def _accept_view(self, certified: CertifiedView) -> bool:
        """Keeps, stores and hands on a newer view."""
        try:
            newer = self._keeper.accept(certified)
        except Forked as fork:
            log.error("two certified views of epoch %d: evidence kept", certified.view.epoch)
            self._keep_evidence(f"fork-{certified.view.epoch}", fork.first.encode(), fork.second.encode())
            return False
        if newer:
            self._encoded = certified.encode()
            self._store.save_view(self._encoded)
            changed, self._view_changed = self._view_changed, asyncio.Event()
            changed.set()
            self._poll_offset = self._part_of(self._genesis.clock.length(certified.view.epoch + 1) / 8)
            self._admit_by(certified)
            self._announcer.view_changed(certified.view)
        return newer

    def _admit_by(self, certified: CertifiedView) -> None:
        self._admission.new_view(certified.view.epoch, certified.digest, 0, members_of(certified.view))

    def _keep_evidence(self, name: str, first: bytes, second: bytes) -> None:
        self._evidence += 1
        self._store.save_evidence(name, first, second)

    # --- polling

    async def _poll(self) -> None:
        """Asks for a newer view when there should be one: the first soon, later ones when they take
        effect."""
        while True:
            wait = self._poll_wait()
            if wait > 0:
                await asyncio.sleep(min(wait, MAX_SLEEP_SECONDS))
                continue
            await self._poll_once()
            await asyncio.sleep(self._poll_pause())

    def _poll_wait(self) -> float:
        """Seconds until the view held should have been replaced."""
        view = self.view
        return 0.0 if view is None else view.view.fresh_until + self._poll_offset - self._now()

    def _poll_pause(self) -> float:
        """After a question: short while there is no view, else a part of the epoch."""
        view, clock = self.view, self._genesis.clock
        longest = FIRST_POLL_SECONDS if view is None else clock.length(view.view.epoch + 1) / 4
        return longest / 2 + self._part_of(longest / 2)

    def _part_of(self, seconds: float) -> float:
        """Anything between 0 and `seconds`: nodes must not ask in step."""
        return seconds * uniform_below(1024, self._random) / 1024

    async def _poll_once(self) -> None:
        others = self._others()
        index = others[uniform_below(len(others), self._random)]
        reply = await self._peers.call(index, GetView(self._view_epoch()))
        if reply is not None:
            self._take_view(reply)

    def _view_epoch(self) -> int:
        return NO_EPOCH if self.view is None else self.view.view.epoch

    def _others(self) -> list[int]:
        return [index for index in range(self._genesis.size) if index != self._index]

    @property
    def is_fresh(self) -> bool:
        """Whether the view held is the newest there should be: ready for clients."""
        view = self.view
        return view is not None and freshness(view.view, self._genesis.clock, self._now()) in (
            Freshness.FRESH,
            Freshness.VALID,
        )
