"""The descriptors that one directory holds: a few of each node, the newest first in line, all within
bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.ballot import MAX_VOTE_ENTRIES
from phantomband.core.netdir.certified import CLOCK_SKEW_SECONDS
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor

KEPT_PER_NODE = 3
"""Votes that are under way may still name the one before the newest."""

MAX_NODES = MAX_VOTE_ENTRIES
"""More could not be voted for."""


class DescriptorPool:
    """Verified descriptors by digest and by node."""

    def __init__(self, max_nodes: int = MAX_NODES) -> None:
        self._max_nodes = max_nodes
        self._by_digest: dict[bytes, SignedDescriptor] = {}
        self._by_node: dict[NodeId, list[SignedDescriptor]] = {}

    def __len__(self) -> int:
        """Nodes known."""
        return len(self._by_node)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._by_digest

    def get(self, digest: bytes) -> SignedDescriptor | None:
        return self._by_digest.get(digest)

    def descriptors(self, digests: list[bytes]) -> Mapping[bytes, Descriptor]:
        """Those of `digests` that are held."""
        return {digest: self._by_digest[digest].descriptor for digest in digests if digest in self._by_digest}

    def newest(self) -> Iterator[SignedDescriptor]:
        """The newest of each node, sorted by node id."""
        return (self._by_node[node_id][-1] for node_id in sorted(self._by_node))

    def check(self, descriptor: Descriptor, now: float) -> None:
        """The cheap part of admission, before any signature is looked at.

        Raises:
            Malformed: it is from the future or has expired.
            Refused: the pool is full.
        """
        if descriptor.published > now + CLOCK_SKEW_SECONDS:
            raise Malformed("the descriptor is from the future: check the node's clock")
        if descriptor.expires <= now:
            raise Malformed("the descriptor has expired: check the node's clock")
        if descriptor.node_id not in self._by_node and len(self._by_node) >= self._max_nodes:
            raise Refused(f"this directory holds {self._max_nodes} nodes and takes no new ones")

    def add(self, signed: SignedDescriptor, now: float) -> bool:
        """Takes a verified descriptor.

        Returns: whether it was new.

        Raises:
            Malformed, Refused: as `check`.
        """
        self.check(signed.descriptor, now)
        if signed.digest in self._by_digest:
            return False
        held = self._by_node.setdefault(signed.node_id, [])
        held.append(signed)
        held.sort(key=lambda one: (one.descriptor.published, one.digest))
        self._by_digest[signed.digest] = signed
        for old in held[:-KEPT_PER_NODE]:
            del self._by_digest[old.digest]
        del held[:-KEPT_PER_NODE]
        return signed.digest in self._by_digest

    def prune(self, now: float) -> bool:
        """Forgets what has expired. Returns: whether there was any."""
        expired = [one for one in self._by_digest.values() if one.descriptor.expires <= now]
        for one in expired:
            del self._by_digest[one.digest]
            held = self._by_node[one.node_id]
            held.remove(one)
            if not held:
                del self._by_node[one.node_id]
        return bool(expired)
