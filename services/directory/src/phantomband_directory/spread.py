"""What every directory does to hold every descriptor, beside voting: table, gossip, tries, and saving it all.

Who certifies nothing takes part like who does. Clients use none of it: they take the certified view whole.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import Signer
from phantomband.core.dht.descriptor_record import verify_record_untrusted
from phantomband.core.dht.record import SignedRecord
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.admission import VOUCHED, Source
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.descriptor import SignedDescriptor
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.path import uniform_below
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.pool_records import Record
from phantomband.core.netdir.replies import Code, RefusedReply, Reply, TableReply
from phantomband.core.netdir.requests import GetRecords, Reconcile, Request, Table
from phantomband.runtime.contained import Contained

from phantomband_directory.gossip import Gossip
from phantomband_directory.intake import Intake
from phantomband_directory.limits import share_of
from phantomband_directory.parts import Contact, PeerNetwork
from phantomband_directory.reach import Reach, is_public_network
from phantomband_directory.status import SpreadStatus
from phantomband_directory.storage import Storage
from phantomband_directory.table_driver import TableDriver

GOSSIP_SECONDS = 10.0
"""Between two rounds while there is news; a twelfth of a short epoch, a second at least."""

LEAST_GOSSIP_SECONDS = 1.0
PARTS_OF_EPOCH = 12

PATIENCE_SECONDS = 3.0
"""A node that has no view by then begins with table and gossip."""

NEW_NETWORK_SECONDS = 15.0
"""The same in a network's first epochs: many nodes start at once, and the first view comes before all else."""

UPKEEP_SECONDS = 2.0
"""Between two looks at what has expired and what is to be saved."""

JUMP_SECONDS = 60.0
"""So long after the clock was set nothing is forgotten as expired: it may be set back, and then all would be gone."""

CONTACTS_SECONDS = 60.0
"""Between two times that the table's contacts are saved, and that missing records are searched."""

SEARCHES = 2
"""Records searched at a time."""

_BUSY = RefusedReply(Code.BUSY, "too many requests: ask later or elsewhere")
_NOT_FOR_YOU = RefusedReply(Code.NOT_HERE, "gossip is between nodes of the view")


class Spread:
    """One directory's.

    Args:
        remembered: contacts of an earlier run, encoded.
        work: whether descriptors need stamps.
        listed: whether this node is to be known; one that is not takes no part.
    """

    def __init__(
        self,
        genesis: Genesis,
        key: Signer,
        pool: DescriptorPool,
        intake: Intake,
        storage: Storage,
        network: PeerNetwork,
        remembered: list[bytes],
        now: Callable[[], float],
        random: RandomSource,
        contained: Contained,
        *,
        work: bool,
        listed: bool = True,
    ) -> None:
        self._listed, self._contained = listed, contained
        self._pool, self._intake, self._storage = pool, intake, storage
        self._now, self._random = now, random
        self._node_id = key.node_id
        self._regular_start = genesis.clock.regular_start
        self._own: Record | None = None
        self._source: Source = VOUCHED
        self._view = asyncio.Event()
        self.take_set(genesis, None)
        self._members: dict[NodeId, Contact] = {}
        self._member_keys: frozenset[bytes] = frozenset()
        period = max(LEAST_GOSSIP_SECONDS, min(GOSSIP_SECONDS, genesis.clock.epoch_seconds / PARTS_OF_EPOCH))
        self._gossip = Gossip(
            pool, intake, network, lambda: self._own, self._peers, now, random, period, work=work
        )  # fmt: skip
        self._table = TableDriver(
            key, network, self._verify_untrusted, self._addresses, self._start, remembered, self._lacking, now, random,
            contained, test_network=genesis.test_network, public=is_public_network(genesis),
        )  # fmt: skip

    def take_set(self, genesis: Genesis, reach: Reach | None) -> None:
        """From now on these directories certify. `reach`: who tries whether nodes can be reached; None where nothing is
        voted."""
        self._reach = reach
        self._directories = {one.node_id: Contact.of(one) for one in genesis.directories}
        self._directories.pop(self._node_id, None)

    def status(self) -> SpreadStatus:
        machine = None if self._reach is None else self._reach.machine
        return SpreadStatus(
            contacts=len(self._table.contacts),
            records=self._table.records,
            rounds=self._gossip.rounds,
            bytes=self._gossip.bytes,
            reached=0 if machine is None else machine.reached,
            unreached=0 if machine is None else machine.unreached,
            convicted=len(self._pool.convictions),
        )

    async def run(self) -> None:
        """Until cancelled; what is unsaved is saved then."""
        keep = self._contained.keep
        if not self._listed:
            await keep(self._upkeep)
        try:
            async with asyncio.TaskGroup() as group:
                if self._reach is not None:
                    group.create_task(keep(self._reach.run))
                group.create_task(keep(self._upkeep))
                group.create_task(keep(self._table.run))
                await self._settle()
                self._table.begin()
                group.create_task(keep(self._gossip.run))
        finally:
            self._storage.flush(self._table.saved())

    # --- what is told to it

    def own_changed(self, signed: SignedDescriptor, stamp: bytes = b"") -> None:
        """This node has a new descriptor."""
        if not self._listed:
            return
        self._own = Record(signed, stamp)
        self._table.own_changed(self._own)
        self._gossip.news()

    def added(self, signed: SignedDescriptor) -> None:
        """The pool has a new descriptor."""
        if self._reach is not None:
            newest = self._pool.newest_of(signed.node_id)
            self._reach.note(signed if newest is None else newest)
        self._gossip.news()

    def view_changed(self, certified: CertifiedView) -> None:
        """There is a newer view."""
        entries = [entry for entry in certified.view.entries if entry.node_id != self._node_id]
        self._members = {entry.node_id: Contact(entry.node_id, entry.link_key, entry.addresses) for entry in entries}
        self._member_keys = frozenset(entry.link_key for entry in entries)
        self._pool.members = frozenset(self._members)
        self._view.set()

    # --- what it answers

    def knows(self, peer: bytes) -> bool:
        """Whether a link key belongs to a node of the genesis set, the newest view or the table."""
        return bool(peer) and (
            peer in self._member_keys
            or any(peer == one.link_key for one in self._directories.values())
            or any(peer == place.link_key for place in self._table.contacts)
        )

    def is_member(self, peer: bytes) -> bool:
        """Whether a link key belongs to a node of the newest view: then it has shares of its own. A place in the table
        is no such thing, since ids there cost nothing."""
        return peer in self._member_keys

    def source(self, peer: bytes, ip: bytes) -> Source:
        """Whose rate a descriptor that `peer` hands in counts for: nobody's if it is a directory or in the view, whose
        requests are counted by its key; else its network's, or that of all without an address."""
        if peer and (peer in self._member_keys or any(peer == one.link_key for one in self._directories.values())):
            return VOUCHED
        return ipaddress.ip_address(ip) if ip else None

    def _share(self, peer: bytes, ip: bytes) -> bytes:
        """What a peer's gossip counts for."""
        return peer if self.source(peer, ip) is VOUCHED else b"".join(share_of(ip))

    def answer_untrusted(self, request: Table | Reconcile | GetRecords, peer: bytes, ip: bytes) -> Reply:
        """Serves table and gossip.

        Raises:
            Malformed: what is in the request is wrong.
        """
        if not self._listed:
            return _NOT_FOR_YOU
        if isinstance(request, Table):
            self._source = self.source(peer, ip)
            answer = self._table.answer_untrusted(request.message, peer, ip)
            return _BUSY if answer is None else TableReply(answer)
        if not self.knows(peer):
            return _NOT_FOR_YOU
        if isinstance(request, Reconcile):
            return self._gossip.answer_untrusted(request.ranges, self._share(peer, ip))
        return self._gossip.records(request.nodes, self._share(peer, ip))

    async def ask_anyone(self, request: Request) -> Reply | None:
        """One request to a peer drawn at random; None if it gives no reply."""
        return await self._gossip.ask_anyone(request)

    # --- for table and gossip

    def _verify_untrusted(self, encoded: bytes) -> SignedRecord:
        """Each record that comes by the table goes into the pool, or is not taken."""
        source, self._source = self._source, VOUCHED
        return verify_record_untrusted(encoded, lambda stamp, raw: self._intake.take_untrusted(stamp, raw, source))

    def _addresses(self, node_id: NodeId, link_key: bytes) -> tuple[NodeAddress, ...]:
        held = self._pool.newest_of(node_id)
        return held.descriptor.addresses if held is not None and held.descriptor.link_key == link_key else ()

    def _start(self) -> list[Contact]:
        """Whom the table begins with: the genesis set, and some members of the view."""
        return [*self._directories.values(), *self._some_members(16)]

    def _some_members(self, count: int) -> list[Contact]:
        members = list(self._members.values())
        return [members[uniform_below(len(members), self._random)] for _ in range(min(count, len(members)))]

    def _peers(self) -> list[Contact]:
        """Whom gossip may ask."""
        known = {place.node_id: self._table.contact(place) for place in self._table.contacts}
        known |= self._directories | self._members
        known.pop(self._node_id, None)
        return list(known.values())

    def _lacking(self) -> list[NodeId]:
        """A few nodes of the view whose descriptors are not held."""
        missing = [node_id for node_id in self._members if self._pool.newest_of(node_id) is None]
        first = uniform_below(len(missing), self._random) if missing else 0
        return missing[first : first + SEARCHES]

    # --- upkeep

    def _ahead(self) -> float:
        """Wall time less monotonic time."""
        return self._now() - asyncio.get_running_loop().time()

    async def _settle(self) -> None:
        """Leaves the first seconds of a new network to its first view."""
        try:
            async with asyncio.timeout(NEW_NETWORK_SECONDS if self._now() < self._regular_start else PATIENCE_SECONDS):
                await self._view.wait()
        except TimeoutError:
            return
        await asyncio.sleep(PATIENCE_SECONDS * uniform_below(1024, self._random) / 1024)

    async def _upkeep(self) -> None:
        saved_contacts = asyncio.get_running_loop().time()
        ahead, settled = self._ahead(), 0.0
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            now, monotonic = self._now(), asyncio.get_running_loop().time()
            if abs(self._ahead() - ahead) > UPKEEP_SECONDS:
                ahead, settled = self._ahead(), monotonic + JUMP_SECONDS
            if monotonic >= settled:
                self._pool.prune(now)
            if self._reach is not None:
                held = {one.node_id for one in self._pool.newest()}
                self._reach.machine.retain(held | self._members.keys() | self._directories.keys())
            due = monotonic >= saved_contacts + CONTACTS_SECONDS
            if due:
                saved_contacts = monotonic
                self._table.search()
            self._storage.flush(self._table.saved() if due else None)
