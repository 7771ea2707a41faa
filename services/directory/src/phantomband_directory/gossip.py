"""Gossip: every directory comes to hold every current descriptor, by comparing sets with one peer at a time.

A round: RECONCILE until the differences are known (core/dht/reconcile.py), GET_RECORDS for what we lack, PUBLISH for
what the peer lacks. Peers are drawn at random among table, view and genesis. Rounds that find nothing come further and
further apart; news bring them near again. Answers are larger than requests, so they are for members only, within
budgets of requests and bytes.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.dht.descriptor_record import MARK_BYTES, item_of, read_item
from phantomband.core.dht.reconcile import ItemSet, Reconciliation, answer_untrusted
from phantomband.core.errors import Forged, Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.path import uniform_below
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.pool_records import Record
from phantomband.core.netdir.replies import (
    Accepted,
    Code,
    ReconcileReply,
    Records,
    RefusedReply,
    Reply,
    decode_reply_untrusted,
)
from phantomband.core.netdir.requests import GetRecords, Publish, Reconcile, Request, encode_request

from phantomband_directory.budget import Budget
from phantomband_directory.intake import Intake
from phantomband_directory.parts import Contact, PeerNetwork

CALL_SECONDS = 10.0
ANYONE_TRIES = 5
"""Peers asked for one thing before it is given up for now."""

ROUND_SECONDS = 60.0
"""A round that takes longer is left."""

MAX_RECONCILES = 16
"""RECONCILE requests of one round, at most: 1 MB. What is left over the next rounds find."""

MAX_FETCHED = 64
"""Nodes of one GET_RECORDS: some 360 KB."""

MAX_FETCHES = 4
"""GET_RECORDS of one round: within what a peer gives at once."""

MAX_OFFERED = 24
"""PUBLISH requests of one round."""

QUIET_FACTOR = 8
"""Rounds that find nothing come up to so many periods apart."""

MAX_REMEMBERED = 4096
"""Descriptors remembered as not wanted, and peers as not to be asked."""

FORGET_SECONDS = 600.0
"""How long they are."""

REQUESTS_OF_PEER, REQUESTS_OF_ALL = (1.0, 64.0), (50.0, 1000.0)
"""RECONCILE and GET_RECORDS a second, and at once."""

BYTES_OF_PEER, BYTES_OF_ALL = (64 * 1024.0, 2 * 1024 * 1024.0), (1024 * 1024.0, 16 * 1024 * 1024.0)
"""Bytes of their answers a second, and at once; the last one may go over by one answer."""


class Remembered:
    """Keys that are remembered for a while, in bounded number."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, key: bytes, now: float) -> None:
        self._until[key] = now + FORGET_SECONDS
        self._until.move_to_end(key)
        if len(self._until) > MAX_REMEMBERED:
            self._until.popitem(last=False)

    def has(self, key: bytes, now: float) -> bool:
        return now < self._until.get(key, 0.0) <= now + FORGET_SECONDS  # later: the clock was set back meanwhile


class Gossip:
    """One directory's.

    Args:
        own: this node's descriptor with its stamp, once there is one.
        peers: whom to ask: table, view, genesis, without ourselves.
        period: seconds between two rounds while there is news.
        work: whether descriptors need stamps: those without are not passed on.
    """

    def __init__(
        self,
        pool: DescriptorPool,
        intake: Intake,
        network: PeerNetwork,
        own: Callable[[], Record | None],
        peers: Callable[[], Sequence[Contact]],
        now: Callable[[], float],
        random: RandomSource,
        period: float,
        *,
        work: bool,
    ) -> None:
        self._pool, self._intake, self._network, self._own, self._peers = pool, intake, network, own, peers
        self._now, self._random, self._period, self._work = now, random, period, work
        self._requests = Budget(REQUESTS_OF_PEER, REQUESTS_OF_ALL)
        self._served = Budget(BYTES_OF_PEER, BYTES_OF_ALL)
        self._unwanted, self._refused, self._shunned = Remembered(), Remembered(), Remembered()
        self._items: tuple[int, ItemSet] = (-1, ItemSet(()))
        self._quiet = 1
        self._news = asyncio.Event()
        self._version = pool.version
        self.rounds = 0
        """Rounds that a peer took part in."""
        self.bytes = 0
        """Of requests and answers, ours and those that were served."""

    # --- served

    def answer_untrusted(self, ranges: bytes, peer: bytes) -> Reply:
        """Answers a RECONCILE of a member.

        Args: peer: whose budget it counts for: its link key, or its network.

        Raises:
            Malformed: it is none.
        """
        if not self._may_ask(peer):
            return RefusedReply(Code.BUSY, "too much gossip: ask later or elsewhere")
        answer = answer_untrusted(ranges, self._item_set())
        self._spend(peer, len(ranges) + len(answer))
        return ReconcileReply(answer)

    def records(self, nodes: Sequence[NodeId], peer: bytes) -> Reply:
        """Answers a GET_RECORDS of a member: as many as the budget has room for."""
        if not self._may_ask(peer):
            return RefusedReply(Code.BUSY, "too much gossip: ask later or elsewhere")
        now, found, size = self._now(), list[tuple[bytes, bytes]](), 0
        for node_id in nodes:
            if len(found) >= 2 * MAX_FETCHED:
                break
            for record in self._pool.shared(node_id):
                if record.signed.descriptor.expires > now and (record.stamp or not self._work):
                    found.append((record.stamp, record.signed.encoded))
                    size += len(record.signed.encoded)
        self._spend(peer, size)
        return Records(tuple(found))

    def _may_ask(self, peer: bytes) -> bool:
        now = self._now()
        return self._requests.allows(peer, now) and self._served.allows(peer, now)

    def _spend(self, peer: bytes, size: int) -> None:
        now = self._now()
        self._requests.spend(peer, 1, now)
        self._served.spend(peer, size, now)
        self.bytes += size

    def _item_set(self) -> ItemSet:
        version, items = self._items
        if version != self._pool.version:
            shared = self._pool.all_shared(self._now())
            items = ItemSet(item_of(one.signed) for one in shared if one.stamp or not self._work)
            self._items = (self._pool.version, items)
        return items

    # --- driven

    async def ask_anyone(self, request: Request) -> Reply | None:
        """One request to peers drawn at random, one after the other, until one gives a reply that can be used."""
        for _ in range(ANYONE_TRIES):
            contact = self._draw()
            if contact is None:
                return None
            try:
                reply = await self._ask(contact, request)
            except Malformed:
                continue
            if reply is not None:
                return reply
        return None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wait()
            contact = self._draw()
            if contact is None:
                continue
            try:
                async with asyncio.timeout(ROUND_SECONDS):
                    moved = await self.round_with(contact)
            except TimeoutError:
                moved = False
            quiet = not moved and self._pool.version == self._version
            self._quiet = min(2 * self._quiet, QUIET_FACTOR) if quiet else 1
            self._version = self._pool.version

    def news(self) -> None:
        """There is something to pass on: the next round comes after one period at most."""
        self._quiet = 1
        self._news.set()

    async def _wait(self) -> None:
        self._news.clear()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        wait = self._jittered(self._period * self._quiet)
        try:
            async with asyncio.timeout(wait):
                await self._news.wait()
        except TimeoutError:
            return
        soon = self._jittered(self._period)
        await asyncio.sleep(max(0.0, min(begun + wait, begun + soon) - loop.time()))

    def _draw(self) -> Contact | None:
        now = self._now()
        peers = [peer for peer in self._peers() if not self._shunned.has(peer.node_id, now)]
        return peers[uniform_below(len(peers), self._random)] if peers else None

    async def round_with(self, contact: Contact) -> bool:
        """One round. Returns: whether anything changed hands."""
        run, before, taken = Reconciliation(self._item_set()), self._pool.version, 0
        try:
            if await self._compare(run, contact):
                await self._fetch(self._wanted(run), contact)
                taken = await self._offer(run, contact)
        except Forged:
            self._shunned.add(contact.node_id, self._now())
        except Malformed:
            pass  # what was found so far stands
        return taken > 0 or self._pool.version != before

    async def _compare(self, run: Reconciliation, contact: Contact) -> bool:
        """Returns: whether the peer takes part. To one that does not know us yet we hand in our own descriptor."""
        while run.rounds < MAX_RECONCILES and (ranges := run.next_request()) is not None:
            reply = await self._ask(contact, Reconcile(ranges))
            if isinstance(reply, ReconcileReply):
                self.rounds += run.rounds == 1
                run.reply_untrusted(reply.ranges)
                continue
            own = self._own()
            if isinstance(reply, RefusedReply) and reply.code is Code.NOT_HERE and own is not None:
                await self._ask(contact, Publish(own.signed.encoded, own.stamp))
            return run.rounds > 1
        return True

    def _wanted(self, run: Reconciliation) -> list[NodeId]:
        """Nodes of which the peer has something newer than we, or something that contradicts what we or it have."""
        now, nodes = self._now(), set[NodeId]()
        items = [read_item(item) for item in run.wanted]
        times = Counter(node_id for node_id, _, _ in items)
        for node_id, published, mark in items:
            held = self._pool.newest_of(node_id)
            old = held is not None and published < held.descriptor.published and times[node_id] == 1
            if not (old or self._pool.is_convicted(node_id, now) or self._unwanted.has(mark, now)):
                nodes.add(node_id)
        return self._some(sorted(nodes), MAX_FETCHES * MAX_FETCHED)

    async def _fetch(self, nodes: list[NodeId], contact: Contact) -> None:
        """A peer that has nothing of what it named is left alone for a while."""
        for at in range(0, len(nodes), MAX_FETCHED):
            some = sorted(nodes[at : at + MAX_FETCHED])
            reply = await self._ask(contact, GetRecords(tuple(some)))
            if not isinstance(reply, Records):
                return
            if not reply.items:
                self._shunned.add(contact.node_id, self._now())
                return
            for digest in self._intake.take_all_untrusted(reply.items[: 2 * len(some)]):
                self._unwanted.add(digest[:MARK_BYTES], self._now())

    async def _offer(self, run: Reconciliation, contact: Contact) -> int:
        """What the peer lacks or has older, and evidence. Returns: how many it took."""
        now, theirs = self._now(), dict[NodeId, int]()
        for node_id, published, _ in map(read_item, run.wanted):
            theirs[node_id] = max(published, theirs.get(node_id, 0))
        nodes = {
            node_id
            for node_id, published, mark in map(read_item, run.offered)
            if (published >= theirs.get(node_id, 0) or self._pool.is_convicted(node_id, now))
            and not self._refused.has(contact.node_id + mark, now)
        }
        chosen = self._some(sorted(nodes), MAX_OFFERED)
        return await self._hand_in([one for node_id in chosen for one in self._pool.shared(node_id)], contact)

    async def _hand_in(self, records: list[Record], contact: Contact) -> int:
        taken = 0
        for record in records:
            reply = await self._ask(contact, Publish(record.signed.encoded, record.stamp))
            if reply is None or (isinstance(reply, RefusedReply) and reply.code is Code.BUSY):
                break
            if isinstance(reply, RefusedReply):
                self._refused.add(contact.node_id + record.signed.digest[:MARK_BYTES], self._now())
            taken += isinstance(reply, Accepted)
        return taken

    async def _ask(self, contact: Contact, request: Request) -> Reply | None:
        raw = encode_request(request)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await self._network.call(contact, raw)
        except (Refused, TimeoutError):
            return None
        self.bytes += len(raw) + len(answer)
        return decode_reply_untrusted(answer)

    def _some(self, nodes: list[NodeId], limit: int) -> list[NodeId]:
        """At most `limit` of them, at random: else those that nobody takes would stand in the way of others."""
        for at in range(min(limit, len(nodes))):
            other = at + uniform_below(len(nodes) - at, self._random)
            nodes[at], nodes[other] = nodes[other], nodes[at]
        return nodes[:limit]

    def _jittered(self, seconds: float) -> float:
        return seconds * (1 + uniform_below(1024, self._random) / 1024) / 2
