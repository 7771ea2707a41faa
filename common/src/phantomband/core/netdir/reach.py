"""Which nodes were reached where they say that they are: the last rung of admission. Sans-io.

A directory votes only for nodes that it has reached by a link handshake to a claimed address with the claimed link key
(PROTOCOL.md section 7, point 6). Newcomers are tried at once, members again each `again` seconds. A member is given up
after GIVE_UP_FAILURES in a row over `span` seconds, and only if some other node was reached since the first of them:
else it may be we who are cut off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.descriptor import Descriptor

FIRST_RETRY_SECONDS = 0.25
"""After a newcomer could not be reached; doubles up to `again`."""

GIVE_UP_FAILURES = 4
"""Tries in a row that must fail before a member is given up."""

Endpoint = tuple[bytes, tuple[NodeAddress, ...]]
"""Link key (32 bytes) and addresses: what is tried, and what a success is a proof of."""


@dataclass(frozen=True, slots=True)
class Try:
    """Somebody to be reached."""

    node_id: NodeId
    link_key: bytes
    addresses: tuple[NodeAddress, ...]


@dataclass(slots=True)
class _Node:
    wanted: Endpoint
    """Of its newest descriptor."""
    reached: Endpoint | None
    """Where it was reached last, and is not given up."""
    due: float
    delay: float = FIRST_RETRY_SECONDS
    failures: int = 0
    first_failure: float = 0.0
    trying: bool = False


class Reachability:
    """Of every node that a directory holds.

    Args:
        own: this directory's node, which needs no proof.
        again: seconds between two tries of a member.
        span: seconds that failures must last before a member is given up.
    """

    def __init__(self, own: NodeId, again: float, span: float) -> None:
        self._own, self._again, self._span = own, again, span
        self._nodes: dict[NodeId, _Node] = {}
        self._last_success = float("-inf")

    @property
    def reached(self) -> int:
        """Nodes that were, where their newest descriptor says."""
        return sum(node.reached == node.wanted for node in self._nodes.values())

    @property
    def unreached(self) -> int:
        return len(self._nodes) - self.reached

    def is_reached(self, descriptor: Descriptor) -> bool:
        """Whether the node was reached where this descriptor says."""
        if descriptor.node_id == self._own:
            return True
        node = self._nodes.get(descriptor.node_id)
        return node is not None and node.reached == (descriptor.link_key, descriptor.addresses)

    def assume(self, node_id: NodeId, link_key: bytes, addresses: tuple[NodeAddress, ...], due: float) -> None:
        """A member of the newest view, or of the genesis: it counts as reached until shown otherwise; tried at
        `due`."""
        endpoint = (link_key, addresses)
        if node_id != self._own and node_id not in self._nodes:
            self._nodes[node_id] = _Node(endpoint, endpoint, due)

    def note(self, descriptor: Descriptor, now: float) -> None:
        """The newest descriptor of a node: if it was not reached there, it is due now."""
        endpoint = (descriptor.link_key, descriptor.addresses)
        node = self._nodes.get(descriptor.node_id)
        if descriptor.node_id == self._own:
            return
        if node is None:
            self._nodes[descriptor.node_id] = _Node(endpoint, None, now)
        elif node.wanted != endpoint:
            node.wanted, node.delay, node.failures = endpoint, FIRST_RETRY_SECONDS, 0
            node.due = now

    def retain(self, nodes: Iterable[NodeId]) -> None:
        """Forgets all others, but those that are being tried."""
        kept = set(nodes)
        for node_id in [n for n, node in self._nodes.items() if n not in kept and not node.trying]:
            del self._nodes[node_id]

    def take_due(self, now: float, limit: int) -> list[Try]:
        """At most `limit` nodes to be tried now, newcomers first. Each must get a `succeeded` or `failed`."""
        due = [(node.reached is not None, node.due, node_id) for node_id, node in self._nodes.items() if
               not node.trying and node.due <= now]  # fmt: skip
        out = []
        for _, _, node_id in sorted(due)[:limit]:
            node = self._nodes[node_id]
            node.trying = True
            out.append(Try(node_id, *node.wanted))
        return out

    def deadline(self) -> float | None:
        """When somebody is due next."""
        return min((node.due for node in self._nodes.values() if not node.trying), default=None)

    def succeeded(self, tried: Try, now: float, jitter: float) -> bool:
        """`tried` was reached. `jitter`: 0 to 1, so that tries spread. Returns: whether that is news."""
        self._last_success = now
        node = self._nodes.get(tried.node_id)
        if node is None:
            return False
        endpoint = (tried.link_key, tried.addresses)
        news, node.reached, node.trying = node.reached != endpoint, endpoint, False
        if node.wanted == endpoint:
            node.failures, node.delay = 0, FIRST_RETRY_SECONDS
            node.due = now + self._again * (1 + jitter) / 2
        return news

    def failed(self, tried: Try, now: float, jitter: float) -> None:
        """`tried` was not reached."""
        node = self._nodes.get(tried.node_id)
        if node is None:
            return
        node.trying = False
        if node.wanted != (tried.link_key, tried.addresses):
            return  # it says something else by now, and is due
        node.failures += 1
        if node.failures == 1:
            node.first_failure = now
        if node.reached == node.wanted:
            node.due = now + self._span / GIVE_UP_FAILURES * (1 + jitter) / 2
            self._give_up(node, now)
        else:
            node.due = now + node.delay * (1 + jitter) / 2
            node.delay = min(2 * node.delay, self._again)

    def _give_up(self, node: _Node, now: float) -> None:
        lasted = now - node.first_failure >= self._span and node.failures >= GIVE_UP_FAILURES
        if lasted and self._last_success > node.first_failure:
            node.reached, node.delay = None, FIRST_RETRY_SECONDS
