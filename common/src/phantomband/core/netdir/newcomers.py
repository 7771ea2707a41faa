"""Nodes that nobody has reached yet and that are in no view: a small place of their own, shared by network.

Whoever has an identity made in a millisecond and no machine behind it can fill this place, and nothing else. When it is
full, the network with most bytes in it gives way, and of that the node known longest: an honest newcomer is reached
within seconds and leaves; one that stays is likely nowhere.

The network is that of whoever handed the descriptor in where that is known, since an address in a descriptor is but a
claim; what other directories pass on counts for the network that it claims.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from phantomband.core.ids import NodeId

MAX_NEWCOMER_BYTES = 8 * 1024 * 1024
"""Of encoded descriptors: some 1,400 of usual size, 650 of the largest."""


class Newcomers:
    """Bytes that each newcomer holds, by network.

    Args:
        proved: whether a node was reached or is in the view by now: then it is a newcomer no more.
    """

    def __init__(self, proved: Callable[[NodeId], bool], max_bytes: int = MAX_NEWCOMER_BYTES) -> None:
        self._proved, self._max_bytes = proved, max_bytes
        self._groups: dict[bytes, OrderedDict[NodeId, int]] = {}
        self._group_of: dict[NodeId, bytes] = {}
        self._bytes: dict[bytes, int] = {}
        self.bytes = 0
        """Held by all."""

    def __contains__(self, node_id: NodeId) -> bool:
        return node_id in self._group_of

    def __len__(self) -> int:
        return len(self._group_of)

    def add(self, node_id: NodeId, network: bytes, size: int) -> None:
        """A newcomer holds `size` bytes more; one that is known keeps its network and its place in line."""
        network = self._group_of.setdefault(node_id, network)
        group = self._groups.setdefault(network, OrderedDict())
        group[node_id] = group.get(node_id, 0) + size
        self._bytes[network] = self._bytes.get(network, 0) + size
        self.bytes += size

    def shrink(self, node_id: NodeId, size: int) -> None:
        """A descriptor of it is gone; ignored of others."""
        network = self._group_of.get(node_id)
        if network is None:
            return
        self._groups[network][node_id] -= size
        self._count(network, -size)

    def leave(self, node_id: NodeId) -> None:
        """It is a newcomer no more, or gone."""
        network = self._group_of.pop(node_id, None)
        if network is None:
            return
        group = self._groups[network]
        self._count(network, -group.pop(node_id))
        if not group:
            del self._groups[network]
            del self._bytes[network]

    def over(self) -> Iterator[NodeId]:
        """Who has to go until there is room again; the caller drops each and calls `leave`."""
        while self.bytes > self._max_bytes:
            network = max(self._bytes, key=self._bytes.__getitem__)
            node_id = next(iter(self._groups[network]))
            if self._proved(node_id):
                self.leave(node_id)
            else:
                yield node_id

    def _count(self, network: bytes, size: int) -> None:
        self._bytes[network] += size
        self.bytes += size
