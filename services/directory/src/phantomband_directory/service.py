"""The directory of one node: announces it, certifies views while it is of the set, keeps and hands out the certified
view, and takes part in table and gossip.

Collaborators come by constructor; `run` is everything that happens of itself, `answer` what others ask for. Only this
service holds the node's identity key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import Signer
from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.admission import Admission, rule_of
from phantomband.core.netdir.caps import FirstSeen, members_of
from phantomband.core.netdir.certified import CertifiedView, Freshness, UnknownSet
from phantomband.core.netdir.descriptor import SignedDescriptor
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.path import uniform_below
from phantomband.core.netdir.pool import PUNISHED_EPOCHS, DescriptorPool
from phantomband.core.netdir.replies import Changes, Reply
from phantomband.core.netdir.requests import GetChanges, SubmitChange, VoteHeld
from phantomband.core.netdir.view_diff import newer_request
from phantomband.core.netdir.voting import Voting
from phantomband.core.netdir.voting_events import BallotKind
from phantomband.runtime.contained import Contained

from phantomband_directory.announcer import Announcer
from phantomband_directory.answers import Answers
from phantomband_directory.council import BALLOT_ATTEMPTS, MAX_SLEEP_SECONDS, Council
from phantomband_directory.intake import Intake
from phantomband_directory.parts import NodeParts, NodeSettings, PeerNetwork, Store
from phantomband_directory.peers import Peers
from phantomband_directory.reach import Reach, machine_for
from phantomband_directory.roster import Roster
from phantomband_directory.spread import Spread
from phantomband_directory.stamps import Solver, Stamps
from phantomband_directory.status import Status
from phantomband_directory.storage import Storage
from phantomband_directory.view_desk import ViewDesk

log = logging.getLogger(__name__)

FIRST_POLL_SECONDS = 0.4
"""Between questions for a view while there is none."""


class _SetChanged(Exception):
    """Another set of directories certifies from now on."""


class DirectoryService:
    """One node's directory.

    Args:
        parts: the node's gateway and relay.
        network: calls to other directories.
        now: Unix seconds.
        store: what outlives the process.
        solver: makes stamps, where the network asks for them.

    Raises:
        UserError: the store holds what cannot be used.
    """

    def __init__(
        self,
        genesis: Genesis,
        key: Signer,
        settings: NodeSettings,
        parts: NodeParts,
        network: PeerNetwork,
        now: Callable[[], float],
        random: RandomSource,
        store: Store,
        solver: Solver | None = None,
    ) -> None:
        self._key, self._settings, self._parts, self._network = key, settings, parts, network
        self._now, self._random, self._store = now, random, store
        self._roster = Roster(genesis, store, now)
        self.measures = Measures()
        self._observed = now()
        self._contained = Contained()
        self._poll_offset = 0.0
        self._seen = FirstSeen()
        self._reachability = machine_for(genesis, key.node_id)
        punished = PUNISHED_EPOCHS * float(genesis.clock.epoch_seconds)
        self._pool = DescriptorPool(punished_seconds=punished, reached=self._reachability.mask)
        self._storage = Storage(store, self._pool)
        self._admission = Admission(genesis.network_id, rule_of(genesis), genesis.terms.difficulty.floor)
        self._intake = Intake(self._pool, self._admission, now, self._descriptor_added)
        self._stamps = Stamps(genesis, key.node_id, solver, self._stamp_changed)
        self._desk = ViewDesk(self._roster.sets, store.load_view(), self._storage, now, self._view_changed)
        if self._desk.remembered is not None:
            self._pool.members = frozenset(entry.node_id for entry in self._desk.remembered.view.entries)
        saved = self._storage.load(now())
        self._published = saved.published
        self._spread = Spread(
            genesis, key, self._pool, self._intake, self._storage, network, saved.contacts, now, random,
            self._contained, work=self._admission.asks_work, listed=settings.listed,
        )  # fmt: skip
        self._take_set(self._roster.in_force)
        if self._desk.current is not None:
            self._admit_by(self._desk.current)
            self._spread.view_changed(self._desk.current)

    def _take_set(self, genesis: Genesis) -> None:
        """From now on these are the directories that certify."""
        self._genesis, self._index = genesis, genesis.index_of(self._key.node_id)
        if self._index is not None and not self._settings.listed:
            raise UserError("a directory of the genesis file cannot be an unlisted bridge. Remove `bridge = true`")
        self._peers = Peers(genesis, self._network, self._contained)
        self._council = None if self._index is None else self._make_council(genesis, self._index)
        reach = None
        if self._council is not None:
            reach = Reach(
                genesis, self._reachability, self._network, asyncio.get_running_loop().time, self._random,
                self._node_reached, self._contained,
            )  # fmt: skip
            reach.begin(self._desk.remembered, self._pool)
        self._spread.take_set(genesis, reach)
        self._announcer = Announcer(
            genesis, self._key, self._settings, self._parts, self._peers, self._now, self._random, self._accept_own,
            self._stamps, self._published,
        )  # fmt: skip
        self._answers = Answers(
            genesis, self._pool, self._intake, None if self._council is None else self._council.voting,
            self._take_ballot, self._take_change, self._take_vote_held, self._roster, self._spread, self._storage,
            lambda: self._announcer.current, self._contained,
        )  # fmt: skip

    def _make_council(self, genesis: Genesis, index: int) -> Council:
        voting = Voting(
            genesis, self._key, index, self._store.load_memory(), self._desk.current or self._desk.remembered,
            self._pool, self.measures.quality, self._seen, self._roster.sets.pending,
        )  # fmt: skip
        return Council(
            voting, index, self._peers, self._intake, self._storage, self._desk, self._take_view, self._now
        )  # fmt: skip

    @property
    def view(self) -> CertifiedView | None:
        """The newest certified view."""
        return self._desk.current

    @property
    def is_fresh(self) -> bool:
        """Whether the view held is the newest there should be: ready for clients."""
        return self._desk.freshness in (Freshness.FRESH, Freshness.VALID)

    def status(self) -> Status:
        view, fresh = self.view, self._desk.freshness
        return Status(
            node_id=self._key.node_id,
            voter=self._council is not None,
            epoch=self._roster.epoch,
            view_epoch=self._desk.epoch,
            freshness="none" if fresh is None else fresh.value,
            relays=0 if view is None else len(view.view.entries),
            descriptors=len(self._pool),
            evidence=self._storage.evidence,
            dropped_calls=self._peers.dropped,
            measured=len(self.measures.by_node),
            clock="" if self._council is None else self._council.clock_trouble,
            stamp=self._stamps.trouble,
            bad=tuple(n for n, m in self.measures.by_node.items() if m.quality < 0.5),
            spread=self._spread.status(),
            storage=self._storage.problem,
            bugs=self._contained.bugs,
        )

    async def run(self) -> None:
        """Announces, votes and polls until cancelled; anew when another set of directories takes over."""
        while True:
            try:
                await self._run_set()
            except* _SetChanged:
                self._take_set(self._roster.in_force)

    def answer(self, request: bytes, peer: bytes, ip: bytes = b"") -> bytes:
        """Answers one request from another node's directory or a client.

        Args:
            peer: the link key (32 bytes) that the peer proved, or empty for an anonymous client.
            ip: address of the link's other end, 4 or 16 bytes; empty if it is not known.

        Returns: at most 4 MiB. Never raises: bad requests are refused alike.
        """
        return self._answers.answer(request, peer, ip, self.view, self._desk.encoded, self._now())

    def watch(self) -> AsyncIterator[bytes]:
        """The newest certified view, and each newer one; those that come while the reader is slow are skipped."""
        return self._desk.watch()

    def observe(self, observations: Iterable[tuple[NodeId, int, int, float]]) -> None:
        """(relay, loops that came back, loops that did not, seconds), as this node measured since it last said so."""
        now = self._now()
        self.measures.fade(max(0.0, now - self._observed))
        self._observed = now
        for node, returned, lost, delay in observations:
            self.measures.add(node, returned, lost, delay)

    async def _run_set(self) -> None:
        keep = self._contained.keep
        async with asyncio.TaskGroup() as group:
            self._contained.start(group)
            group.create_task(self._await_next_set())
            if self._settings.listed:
                group.create_task(keep(self._stamps.run))
            group.create_task(keep(self._announcer.run))
            group.create_task(self._spread.run())
            if self._council is not None:
                group.create_task(keep(self._council.run))
            if self._peers.others(self._index):
                group.create_task(keep(self._poll))

    async def _await_next_set(self) -> None:
        while self._roster.in_force.set_id == self._genesis.set_id:  # noqa: ASYNC110 - it waits for a time of the clock
            await asyncio.sleep(min(MAX_SLEEP_SECONDS, max(0.001, self._roster.seconds_left())))
        raise _SetChanged

    # --- descriptors

    def _accept_own(self, signed: SignedDescriptor) -> None:
        """Raises: Refused: its time cannot be remembered, so a restart could contradict it."""
        self._storage.save_published(signed.descriptor.published)
        self._published = signed.descriptor.published
        try:
            self._intake.take_own(signed, self._stamps.current)
        except Refused as e:
            log.warning("our own descriptor is not held here: %s", e)
        self._spread.own_changed(signed, self._stamps.current)

    def _stamp_changed(self) -> None:
        """What waited for a stamp goes out; what is held of ours gets the new one."""
        if self._announcer.current is not None:
            self._pool.restamp(self._announcer.current.digest, self._stamps.current)
            self._spread.own_changed(self._announcer.current, self._stamps.current)
        self._announcer.stamp_changed()

    def _descriptor_added(self, signed: SignedDescriptor) -> None:
        self._spread.added(signed)
        self._node_reached()

    def _node_reached(self) -> None:
        if self._council is not None:
            self._council.descriptors_added()

    # --- ballots and changes that others bring

    def _take_ballot(self, kind: BallotKind, data: bytes, sender: int | None) -> None:
        if self._council is not None:
            self._council.take_ballot(kind, data, sender)

    def _take_vote_held(self, held: VoteHeld) -> None:
        if self._council is not None:
            self._council.take_vote_held(held)

    def _take_change(self, raw: bytes) -> None:
        """A change that was handed in goes to all directories, those included that it adds."""
        if not self._roster.offer_untrusted(raw, submitted=True):
            return
        log.info("a change of the directory set was taken; it acts at epoch %d", self._roster.sets.changes[-1].acts_at)
        for genesis in (self._genesis, self._roster.sets.newest):
            peers = Peers(genesis, self._network, self._contained)
            for index in peers.others(genesis.index_of(self._key.node_id)):
                peers.spawn(index, SubmitChange(raw), BALLOT_ATTEMPTS)

    def _ask_for_changes(self) -> None:
        others = self._peers.others(self._index)
        if others:
            request = GetChanges(self._roster.sets.next_number)
            self._peers.spawn(self._drawn(others), request, 1, self._take_changes)

    def _take_changes(self, reply: Reply) -> None:
        for raw in reply.items if isinstance(reply, Changes) else ():
            try:
                self._roster.offer_untrusted(raw, submitted=False)
            except Malformed:
                return

    # --- views

    def _take_view(self, reply: Reply) -> None:
        try:
            newer = self._desk.take_untrusted(reply)
        except UnknownSet:
            self._ask_for_changes()
            return
        except Malformed:
            return
        if newer is not None and self._council is not None:
            self._council.view_arrived(newer)

    def _view_changed(self, certified: CertifiedView) -> None:
        self._poll_offset = self._part_of(self._genesis.clock.length(certified.view.epoch + 1) / 8)
        self._admit_by(certified)
        self._spread.view_changed(certified)
        self._announcer.view_changed(certified.view)
        if self._roster.lacks(certified.view.pending):
            self._ask_for_changes()

    def _admit_by(self, certified: CertifiedView) -> None:
        view = certified.view
        self._admission.new_view(view.epoch, certified.digest, view.bits, members_of(view))
        self._stamps.view_changed(certified)

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

    async def _poll_once(self) -> None:
        request = newer_request(self.view)
        index = self._drawn(self._peers.others(self._index))
        reply = await self._peers.call(index, request) or await self._spread.ask_anyone(request)
        if reply is not None:
            self._take_view(reply)

    def _part_of(self, seconds: float) -> float:
        """Anything between 0 and `seconds`: nodes must not ask in step."""
        return seconds * uniform_below(1024, self._random) / 1024

    def _drawn(self, indices: list[int]) -> int:
        return indices[uniform_below(len(indices), self._random)]
