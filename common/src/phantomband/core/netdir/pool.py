"""The descriptors that one directory holds: a few of each node, the newest first in line, all within bounds.

A node that signed two different descriptors with one time of publication is convicted: both are kept as evidence,
nothing of it is voted for, and nothing newer taken, until a time that every directory computes alike from the two.
So is an identity that named two others as its successor, by a descriptor of each: its standing goes to neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.ballot import MAX_VOTE_ENTRIES
from phantomband.core.netdir.certified import CLOCK_SKEW_SECONDS
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor
from phantomband.core.netdir.newcomers import MAX_NEWCOMER_BYTES, Newcomers
from phantomband.core.netdir.pool_records import Changes, Conviction, Record, accused
from phantomband.core.netdir.public_address import networks
from phantomband.core.netdir.reach import all_addresses

KEPT_PER_NODE = 3
"""Votes that are under way may still name the one before the newest."""

MAX_NODES = MAX_VOTE_ENTRIES
"""More could not be voted for."""

MAX_POOL_BYTES = 48 * 1024 * 1024
"""Of encoded descriptors of nodes that were reached, are in the view or are named in votes: 8,800 of usual size. In
memory they take twice as much. When it is full older descriptors go first, then nodes that are in no view."""

MAX_CONVICTED = 256
"""Nodes whose evidence is kept; that of more is not, and their second descriptor is not taken."""

PUNISHED_EPOCHS = 24
"""Regular epochs that a convicted node is left out, after both its descriptors have expired."""


class DescriptorPool:
    """Verified descriptors by digest and by node.

    Args:
        punished_seconds: how long a convicted node is left out after its descriptors have expired.
        reached: at which of this descriptor's addresses its node was reached, one bit each; of nodes that were at none
            nothing is voted for.
    """

    def __init__(
        self,
        max_nodes: int = MAX_NODES,
        punished_seconds: float = PUNISHED_EPOCHS * 3600.0,
        reached: Callable[[Descriptor], int] = all_addresses,
        max_bytes: int = MAX_POOL_BYTES,
        newcomer_bytes: int = MAX_NEWCOMER_BYTES,
    ) -> None:
        self._max_nodes, self._punished_seconds, self.reached = max_nodes, punished_seconds, reached
        self._by_digest: dict[bytes, Record] = {}
        self._by_node: dict[NodeId, list[SignedDescriptor]] = {}
        self._convicted: dict[NodeId, Conviction] = {}
        self._heirs: dict[NodeId, dict[NodeId, bytes]] = {}
        """By identity that was replaced: who names it as predecessor, and in which descriptor that is held."""
        self._changes = Changes()
        self._max_bytes = max_bytes
        self._newcomers = Newcomers(self._is_proved, newcomer_bytes)
        self.bytes = 0
        """Of all encoded descriptors held."""
        self.members: frozenset[NodeId] = frozenset()
        """Nodes of the newest view: they never make room for others."""
        self.version = 0
        """Changes whenever what is held does."""

    def __len__(self) -> int:
        """Nodes known."""
        return len(self._by_node)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._by_digest

    def get(self, digest: bytes) -> SignedDescriptor | None:
        record = self._by_digest.get(digest)
        return None if record is None else record.signed

    def record(self, digest: bytes) -> Record | None:
        """A descriptor with its stamp."""
        return self._by_digest.get(digest)

    def descriptors(self, digests: list[bytes]) -> Mapping[bytes, Descriptor]:
        """Those of `digests` that are held."""
        return {digest: self._by_digest[digest].signed.descriptor for digest in digests if digest in self._by_digest}

    def newest(self) -> Iterator[SignedDescriptor]:
        """The newest of each node, sorted by node id."""
        return (self._by_node[node_id][-1] for node_id in sorted(self._by_node))

    def newest_of(self, node_id: NodeId) -> SignedDescriptor | None:
        """The newest of one node, convicted or not."""
        held = self._by_node.get(node_id)
        return None if held is None else held[-1]

    def votable(self, now: float) -> Iterator[SignedDescriptor]:
        """The newest usable one of each node that is not convicted, sorted by node id: what to vote for. One from the
        future came while our clock was ahead, and nobody else has it."""
        for node_id in sorted(self._by_node):
            if self.is_convicted(node_id, now):
                continue
            held = (one for one in self._by_node[node_id] if one.descriptor.published <= now + CLOCK_SKEW_SECONDS)
            usable = [one for one in held if self.reached(one.descriptor)]
            if usable:
                yield usable[-1]

    def shared(self, node_id: NodeId) -> list[Record]:
        """What others should have of a node: its newest descriptor, or the evidence against it. (Descriptors of rival
        successors go round anyhow: each is the newest of its own node.)"""
        conviction = self._convicted.get(node_id)
        if conviction is not None and conviction.first.signed.node_id == node_id:
            return [conviction.first, conviction.second]
        held = self._by_node.get(node_id)
        return [] if held is None else [self._by_digest[held[-1].digest]]

    def all_shared(self, now: float) -> Iterator[Record]:
        """The same of all nodes, without what has expired."""
        for node_id in self._by_node.keys() | self._convicted.keys():
            for record in self.shared(node_id):
                if record.signed.descriptor.expires > now:
                    yield record

    @property
    def convictions(self) -> tuple[Conviction, ...]:
        return tuple(self._convicted.values())

    def is_convicted(self, node_id: NodeId, now: float) -> bool:
        conviction = self._convicted.get(node_id)
        return conviction is not None and now < conviction.until

    def heir_of(self, descriptor: Descriptor, now: float) -> NodeId | None:
        """The identity whose standing a node takes over; None too when that one named several."""
        old = descriptor.predecessor
        if old is None or self.is_convicted(old, now) or len(self._heirs.get(old, ())) > 1:
            return None
        return old

    def check(self, descriptor: Descriptor, now: float, *, named: bool = False) -> None:
        """The cheap part of admission, before any signature is looked at.

        Args:
            named: a vote names it. Then it is taken of convicted nodes too, or who knows the evidence could not build
                the view that those who do not know it vote for.

        Raises:
            Malformed: it is from the future or has expired.
            Refused: the pool is full of members, or the node was convicted.
        """
        if descriptor.published > now + CLOCK_SKEW_SECONDS:
            raise Malformed("the descriptor is from the future: check the node's clock")
        if descriptor.expires <= now:
            raise Malformed("the descriptor has expired: check the node's clock")
        if not named and self.is_convicted(descriptor.node_id, now):
            raise Refused("the node signed two different descriptors for one time, and is left out for a while")
        held = self._by_node.get(descriptor.node_id)
        if held is None and len(self.members) >= self._max_nodes and len(self._by_node) >= self._max_nodes:
            raise self._no_room()
        full = held is not None and len(held) >= KEPT_PER_NODE
        if full and held is not None and descriptor.published < held[0].descriptor.published:
            raise Refused("newer descriptors of the node are held")

    def add(
        self, signed: SignedDescriptor, now: float, stamp: bytes = b"", *, named: bool = False, network: bytes = b""
    ) -> bool:
        """Takes a verified descriptor. One that contradicts another of its node convicts the node.

        Args: network: /16 (IPv6 /32) of whoever handed it in; empty: not known, then the one that it claims.

        Returns: whether it was new.

        Raises:
            Malformed, Refused: as `check`; Refused too if nobody can make room.
        """
        self.check(signed.descriptor, now, named=named)
        if signed.digest in self._by_digest:
            return False
        if signed.node_id not in self._by_node and len(self._by_node) >= self._max_nodes:
            self._make_room()
        record = Record(signed, stamp)
        for one in self._by_node.get(signed.node_id, ()):
            if one.descriptor.published == signed.descriptor.published and one.digest != signed.digest:
                self.convict(self._by_digest[one.digest], record)
        self._check_heirs(record)
        held = self._by_node.setdefault(signed.node_id, [])
        held.append(signed)
        held.sort(key=lambda one: (one.descriptor.published, one.digest))
        self._put(record)
        self._settle(signed, network, named=named)
        for old in held[:-KEPT_PER_NODE] if signed.node_id in self._by_node else ():
            self._drop(old.digest)
        del held[:-KEPT_PER_NODE]
        return signed.digest in self._by_digest

    def restamp(self, digest: bytes, stamp: bytes) -> None:
        """A verified stamp for a descriptor that came without one."""
        record = self._by_digest.get(digest)
        if record is not None and not record.stamp and stamp:
            self._put(Record(record.signed, stamp))

    def convict(self, one: Record, other: Record) -> None:
        """Keeps two verified, contradicting descriptors of one node as evidence, and leaves it out.

        Raises:
            Refused: so many are convicted already; what was held stays.
        """
        node_id = accused(one, other)
        if node_id in self._convicted:
            return
        if len(self._convicted) >= MAX_CONVICTED:
            raise Refused("too many nodes contradict themselves")
        first, second = sorted((one, other), key=lambda record: record.signed.digest)
        ends = max(first.signed.descriptor.expires, second.signed.descriptor.expires)
        self._convicted[node_id] = Conviction(first, second, ends + self._punished_seconds)
        self._changes.convicted.add(node_id)
        self._changes.acquitted.discard(node_id)
        self.version += 1

    def prune(self, now: float) -> bool:
        """Forgets what has expired, and whose time is served. Returns: whether there was any."""
        expired = [one.signed for one in self._by_digest.values() if one.signed.descriptor.expires <= now]
        for one in expired:
            self._drop(one.digest)
            held = self._by_node[one.node_id]
            held.remove(one)
            if not held:
                del self._by_node[one.node_id]
                self._newcomers.leave(one.node_id)
        served = [node_id for node_id, conviction in self._convicted.items() if conviction.until <= now]
        for node_id in served:
            del self._convicted[node_id]
            self._changes.convicted.discard(node_id)
            self._changes.acquitted.add(node_id)
            self.version += 1
        return bool(expired or served)

    def take_changes(self) -> Changes:
        """What has changed since the last call; the caller keeps it if it could not be written."""
        changes, self._changes = self._changes, Changes()
        return changes

    def conviction(self, node_id: NodeId) -> Conviction | None:
        return self._convicted.get(node_id)

    def digests(self) -> Iterable[bytes]:
        """Of all descriptors held."""
        return self._by_digest.keys()

    def _make_room(self) -> None:
        """Forgets the node known longest that is in no view and was not reached: whoever sends a thousand nodes that
        are nowhere must not keep out one that is there."""
        for node_id in self._by_node:
            if not self._is_proved(node_id):
                self._forget(node_id)
                return
        raise self._no_room()

    def _is_proved(self, node_id: NodeId) -> bool:
        """Whether a node is in the view, or was reached."""
        return node_id in self.members or any(self.reached(one.descriptor) for one in self._by_node.get(node_id, ()))

    def _settle(self, signed: SignedDescriptor, network: bytes, *, named: bool) -> None:
        """Counts what was added where it belongs, and makes room there.

        Raises:
            Refused: there is none; then it was not added.
        """
        node_id, size = signed.node_id, len(signed.encoded)
        known = node_id in self._newcomers or len(self._by_node[node_id]) == 1
        if named or self._is_proved(node_id) or not known:
            self._newcomers.leave(node_id)
        elif signed.digest in self._by_digest:
            self._newcomers.add(node_id, network or _claimed(signed.descriptor), size)
        for gone in self._newcomers.over():
            self._forget(gone)
        if self.bytes - self._newcomers.bytes > self._max_bytes:
            self._make_bytes(node_id)
        if self.bytes - self._newcomers.bytes > self._max_bytes:
            self._forget(node_id)
            raise self._no_room()

    def _make_bytes(self, kept: NodeId) -> None:
        """Forgets the older descriptors of all nodes but `kept`, and then nodes that are in no view."""
        for node_id, held in self._by_node.items():
            if node_id != kept and node_id not in self._newcomers:
                for old in held[:-1]:
                    self._drop(old.digest)
                del held[:-1]
                if self.bytes - self._newcomers.bytes <= self._max_bytes:
                    return
        strangers = [node_id for node_id in self._by_node if node_id != kept and node_id not in self.members]
        for node_id in strangers:
            if self.bytes - self._newcomers.bytes <= self._max_bytes:
                return
            if node_id not in self._newcomers:
                self._forget(node_id)

    def _forget(self, node_id: NodeId) -> None:
        for one in self._by_node.pop(node_id, ()):
            self._drop(one.digest)
        self._newcomers.leave(node_id)

    def _check_heirs(self, record: Record) -> None:
        """Convicts an identity that named another successor too.

        Raises:
            Refused: so many are convicted already.
        """
        old = record.signed.descriptor.predecessor
        if old is None:
            return
        for node_id, digest in self._heirs.get(old, {}).items():
            if node_id != record.signed.node_id and old not in self._convicted:
                self.convict(self._by_digest[digest], record)

    def _no_room(self) -> Refused:
        return Refused(f"this directory holds {self._max_nodes} nodes and takes no new ones")

    def _put(self, record: Record) -> None:
        digest = record.signed.digest
        if digest not in self._by_digest:
            self.bytes += len(record.signed.encoded)
        self._by_digest[digest] = record
        if (old := record.signed.descriptor.predecessor) is not None:
            self._heirs.setdefault(old, {})[record.signed.node_id] = digest
        self._changes.added.add(digest)
        self._changes.removed.discard(digest)
        self.version += 1

    def _drop(self, digest: bytes) -> None:
        gone = self._by_digest.pop(digest).signed
        self.bytes -= len(gone.encoded)
        self._newcomers.shrink(gone.node_id, len(gone.encoded))
        self._forget_heir(gone)
        if digest in self._changes.added:
            self._changes.added.discard(digest)  # it is on no disk
        else:
            self._changes.removed.add(digest)
        self.version += 1

    def _forget_heir(self, gone: SignedDescriptor) -> None:
        old = gone.descriptor.predecessor
        if old is None or self._heirs.get(old, {}).get(gone.node_id) != gone.digest:
            return
        del self._heirs[old][gone.node_id]
        if not self._heirs[old]:
            del self._heirs[old]


def _claimed(descriptor: Descriptor) -> bytes:
    """The /16 that a descriptor says its node is in."""
    return networks(descriptor.addresses[0].ip)[-1] if descriptor.addresses else b""
