"""Which nodes were reached, and at which of their addresses: the last rung of admission. Sans-io.

A directory votes only for nodes that it has reached by a link handshake to a claimed address with the claimed link key
(PROTOCOL.md section 7, point 6), and says in its vote at which addresses: no other stands in the view, so nobody can
name a stranger's address to have it counted under a cap or kept out of paths. Each IP address of a node is tried, by
the addresses that have it: a transport that directories do not dial is proved by one at the same IP that they do.

Newcomers are tried at once, members again each `again` seconds. A member is given up after GIVE_UP_FAILURES in a row
over `span` seconds, and only if some other node was reached since the first of them: else it may be we who are cut
off.

Tries are a scarce thing: an address that accepts and says nothing holds one for seconds. So networks take turns: the
/16 (IPv6 /32) with the fewest tries under way comes first, then the one served longest ago; inside it its /24 (/48)
likewise; inside those, first tries before the others. Retries of silent addresses become rare four times as fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.descriptor import Descriptor
from phantomband.core.netdir.public_address import networks

FIRST_RETRY_SECONDS = 0.25
"""After a newcomer could not be reached; doubles up to `again`."""

SILENT_RETRY_SECONDS = 5.0
"""The same after one whose address accepted and said nothing in time; then four times as much each time."""

GIVE_UP_FAILURES = 4
"""Tries in a row that must fail before a member, or one of its addresses, is given up."""

AT_ONCE_OF_NETWORK = 4
"""Tries under way in one /16 (IPv6 /32)."""

Endpoint = tuple[bytes, tuple[NodeAddress, ...]]
"""Link key (32 bytes) and addresses: what is tried, and what a success is a proof of."""

NOWHERE: frozenset[NodeAddress] = frozenset()


@dataclass(frozen=True, slots=True)
class Try:
    """Somebody to be reached."""

    node_id: NodeId
    link_key: bytes
    addresses: tuple[NodeAddress, ...]
    first: bool = field(default=True, compare=False)
    """Whether it is the first at this endpoint: then little patience is due."""


@dataclass(slots=True)
class _Node:
    wanted: Endpoint
    """Of its newest descriptor."""
    networks: tuple[bytes, bytes]
    """/16 and /24 that its tries count for."""
    link_key: bytes
    reached: frozenset[NodeAddress]
    """Where it was reached last with this link key, and is not given up; empty: nowhere."""
    due: float
    delay: float = FIRST_RETRY_SECONDS
    failures: int = 0
    first_failure: float = 0.0
    missed: int = 0
    """Tries in a row in which some of `reached` did not answer, and others did."""
    trying: tuple[bytes, bytes] | None = None
    """Networks that the try under way counts for; None: there is none."""
    new: bool = True
    """Whether it was never tried at this endpoint."""

    @property
    def is_there(self) -> bool:
        """Whether it was reached where its newest descriptor says, at one address at least."""
        link_key, addresses = self.wanted
        return self.link_key == link_key and not self.reached.isdisjoint(addresses)


class Reachability:
    """Of every node that a directory holds.

    Args:
        own: this directory's node, which needs no proof.
        again: seconds between two tries of a member.
        span: seconds that failures must last before a member is given up.
        at_once_of_network: tries under way in one /16.
    """

    def __init__(self, own: NodeId, again: float, span: float, at_once_of_network: int = AT_ONCE_OF_NETWORK) -> None:
        self._own, self._again, self._span, self._at_once = own, again, span, at_once_of_network
        self._nodes: dict[NodeId, _Node] = {}
        self._under_way: Counter[bytes] = Counter()
        """Tries by /16 and /24."""
        self._served: dict[bytes, int] = {}
        """When each of these networks had its last try, counted in tries; of nodes held only."""
        self._tries = 0
        self._last_success = float("-inf")

    @property
    def reached(self) -> int:
        """Nodes that were, where their newest descriptor says."""
        return sum(node.is_there for node in self._nodes.values())

    @property
    def unreached(self) -> int:
        return len(self._nodes) - self.reached

    def is_reached(self, descriptor: Descriptor) -> bool:
        """Whether the node was reached where this descriptor says."""
        return bool(self.mask(descriptor))

    def mask(self, descriptor: Descriptor) -> int:
        """At which addresses: bit i for the i-th of this descriptor."""
        if descriptor.node_id == self._own:
            return all_addresses(descriptor)
        node = self._nodes.get(descriptor.node_id)
        if node is None or node.link_key != descriptor.link_key:
            return 0
        return sum(1 << at for at, address in enumerate(descriptor.addresses) if address in node.reached)

    def assume(self, node_id: NodeId, link_key: bytes, addresses: tuple[NodeAddress, ...], due: float) -> None:
        """A member of a view, or a directory: reached before we asked."""
        if node_id != self._own:
            endpoint = (link_key, addresses)
            self._nodes[node_id] = _Node(endpoint, _networks(addresses), link_key, frozenset(addresses), due, new=False)

    def note(self, descriptor: Descriptor, now: float) -> None:
        """The newest descriptor of a node: if it was not reached there, it is due now."""
        endpoint = (descriptor.link_key, descriptor.addresses)
        node = self._nodes.get(descriptor.node_id)
        if descriptor.node_id == self._own:
            return
        if node is None:
            where = _networks(descriptor.addresses)
            self._nodes[descriptor.node_id] = _Node(endpoint, where, descriptor.link_key, NOWHERE, now)
        elif node.wanted != endpoint:
            known = node.link_key == descriptor.link_key and node.reached.issuperset(descriptor.addresses)
            node.wanted, node.networks, node.new = endpoint, _networks(descriptor.addresses), not known
            if not known:
                node.delay, node.failures, node.due = FIRST_RETRY_SECONDS, 0, now

    def retain(self, nodes: Iterable[NodeId]) -> None:
        """Forgets all others, but those that are being tried."""
        kept = set(nodes)
        for node_id in [n for n, node in self._nodes.items() if n not in kept and not node.trying]:
            del self._nodes[node_id]
        present = {network for node in self._nodes.values() for network in node.networks}
        for network in self._served.keys() - present:
            del self._served[network]

    def take_due(self, now: float, limit: int) -> list[Try]:
        """At most `limit` nodes to be tried now. Each must get a `succeeded` or `failed`."""
        waiting = self._waiting(now)
        out: list[Try] = []
        while len(out) < limit and (node_id := self._next(waiting)) is not None:
            node = self._nodes[node_id]
            self._begin(node)
            out.append(Try(node_id, *node.wanted, first=node.new))
        return out

    def deadline(self) -> float | None:
        """When somebody is due next; networks with as many tries under way as they may have are not waited for."""
        return min(
            (node.due for node in self._nodes.values() if not node.trying and self._has_room(node)), default=None
        )

    def succeeded(self, tried: Try, now: float, jitter: float, at: frozenset[NodeAddress] | None = None) -> bool:
        """`tried` was reached `at` these of its addresses; None: at all. `jitter`: 0 to 1, so that tries spread.
        Returns: whether that is news."""
        self._last_success = now
        node = self._nodes.get(tried.node_id)
        if node is None:
            return False
        self._end(node)
        before = (node.link_key, node.reached)
        self._take(node, tried, frozenset(tried.addresses) if at is None else at)
        if node.wanted == (tried.link_key, tried.addresses):
            node.failures, node.delay, node.new = 0, FIRST_RETRY_SECONDS, False
            node.due = now + self._again * (1 + jitter) / 2
        return before != (node.link_key, node.reached)

    def failed(self, tried: Try, now: float, jitter: float, *, silent: bool = False) -> None:
        """`tried` was not reached. `silent`: it took all the time that it was given."""
        node = self._nodes.get(tried.node_id)
        if node is None:
            return
        self._end(node)
        if node.wanted != (tried.link_key, tried.addresses):
            return  # it says something else by now, and is due
        node.failures, node.new = node.failures + 1, False
        if node.failures == 1:
            node.first_failure = now
        if node.is_there:
            node.due = now + self._span / GIVE_UP_FAILURES * (1 + jitter) / 2
            self._give_up(node, now)
        else:
            delay = max(node.delay, SILENT_RETRY_SECONDS) if silent else node.delay
            node.due = now + min(delay, self._again) * (1 + jitter) / 2
            node.delay = min((4 if silent else 2) * delay, self._again)

    # --- turns

    def _waiting(self, now: float) -> dict[bytes, dict[bytes, list[NodeId]]]:
        """Who is due, by /16 and /24; in each the last is next."""
        found: dict[bytes, dict[bytes, list[NodeId]]] = {}
        due = [(not node.new, node.is_there, node.due, node_id) for node_id, node in self._nodes.items()
               if not node.trying and node.due <= now]  # fmt: skip
        for *_, node_id in sorted(due, reverse=True):
            far, near = self._nodes[node_id].networks
            found.setdefault(far, {}).setdefault(near, []).append(node_id)
        return found

    def _next(self, waiting: dict[bytes, dict[bytes, list[NodeId]]]) -> NodeId | None:
        fars = [far for far in waiting if self._under_way[far] < self._at_once]
        if not fars:
            return None
        far = min(fars, key=lambda one: self._turn(one, waiting[one]))
        near = min(waiting[far], key=lambda one: self._turn(one, {one: waiting[far][one]}))
        node_id = waiting[far][near].pop()
        if not waiting[far][near]:
            del waiting[far][near]
        if not waiting[far]:
            del waiting[far]
        return node_id

    def _turn(self, network: bytes, nears: dict[bytes, list[NodeId]]) -> tuple[int, int, bool, float]:
        """Whose turn it is: the least of these."""
        heads = (self._nodes[ids[-1]] for ids in nears.values())
        first = min((not node.new, node.due) for node in heads)
        return self._under_way[network], self._served.get(network, -1), *first

    def _has_room(self, node: _Node) -> bool:
        return self._under_way[node.networks[0]] < self._at_once

    def _begin(self, node: _Node) -> None:
        node.trying = node.networks
        self._tries += 1
        for network in node.trying:
            self._served[network] = self._tries
            self._under_way[network] += 1

    def _end(self, node: _Node) -> None:
        counted, node.trying = node.trying or (), None
        for network in counted:
            self._under_way[network] -= 1
            if self._under_way[network] <= 0:
                del self._under_way[network]

    # --- what a try proves

    def _take(self, node: _Node, tried: Try, at: frozenset[NodeAddress]) -> None:
        """Addresses that answered before and not this time are believed for some more tries."""
        before = node.reached & set(tried.addresses) if node.link_key == tried.link_key else NOWHERE
        node.missed = node.missed + 1 if before - at else 0
        if node.missed >= GIVE_UP_FAILURES:
            before, node.missed = NOWHERE, 0
        node.link_key, node.reached = tried.link_key, before | at

    def _give_up(self, node: _Node, now: float) -> None:
        lasted = now - node.first_failure >= self._span and node.failures >= GIVE_UP_FAILURES
        if lasted and self._last_success > node.first_failure:
            node.reached, node.delay = NOWHERE, FIRST_RETRY_SECONDS


def _networks(addresses: tuple[NodeAddress, ...]) -> tuple[bytes, bytes]:
    """/16 and /24 of the first address."""
    if not addresses:
        return b"", b""
    _, near, far = networks(addresses[0].ip)
    return far, near


def all_addresses(descriptor: Descriptor) -> int:
    """The mask of a node that was reached everywhere."""
    return (1 << len(descriptor.addresses)) - 1
