"""How many nodes of a view may share an address, a network or a family, and what newcomers may not do yet.
PROTOCOL.md section 7, point 7.

An address costs little and a network more, so a Sybil pays by the network. Every directory gets the same answer from
the same nodes: those known longest stay, and newcomers of one epoch are ordered by a hash that nobody knew before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.public_address import networks
from phantomband.core.netdir.view import Flags, View

FORGET_EPOCHS = 720
"""A node that was in no view for so long (a month of hours) is a newcomer when it comes again."""


@dataclass(frozen=True, slots=True)
class CapRule:
    """Nodes at most of one address, IPv4 /24 and /16, IPv6 /48 and /32, and family; 0: no cap."""

    address: int = 2
    v4_24: int = 4
    v4_16: int = 16
    v6_48: int = 4
    v6_32: int = 16
    family: int = 32

    def __post_init__(self) -> None:
        if min(self.address, self.v4_24, self.v4_16, self.v6_48, self.v6_32, self.family) < 0:
            raise UserError("A cap is a number of nodes, or 0 for none.")

    def groups(self, addresses: Iterable[NodeAddress], family: bytes) -> set[tuple[bytes, int]]:
        """What a node is counted under, each with its cap: prefixes of all its addresses, each once, and its family."""
        found = set[tuple[bytes, int]]()
        for address in addresses:
            one, near, far = networks(address.ip)
            caps = (self.v4_24, self.v4_16) if one[0] == 4 else (self.v6_48, self.v6_32)
            found.update(zip((one, near, far), (self.address, *caps)))
        if family:
            found.add((b"f" + family, self.family))
        return {(group, cap) for group, cap in found if cap}


NO_CAPS = CapRule(0, 0, 0, 0, 0, 0)
"""Test networks live on one address."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node that could be in a view. `since` is the epoch that first had it; `family` empty or 32 bytes (view.py)."""

    node_id: NodeId
    addresses: tuple[NodeAddress, ...]
    family: bytes
    since: int


def members_of(view: View) -> tuple[Member, ...]:
    """The nodes of a view, to be counted."""
    return tuple(Member(entry.node_id, entry.addresses, entry.family, entry.since) for entry in view.entries)


class CapCounter:
    """Counts of what is in already; memory grows with the nodes added, at most 25 groups each."""

    def __init__(self, rule: CapRule, members: Iterable[Member] = ()) -> None:
        self._rule = rule
        self._counts: Counter[bytes] = Counter()
        for member in members:
            self.add(member.addresses, member.family)

    def has_room(self, addresses: Iterable[NodeAddress], family: bytes = b"") -> bool:
        """Whether one more such node is within all caps."""
        return all(self._counts[group] < cap for group, cap in self._rule.groups(addresses, family))

    def add(self, addresses: Iterable[NodeAddress], family: bytes = b"") -> None:
        """Counts one node, whether there was room or not."""
        self._counts.update(group for group, _ in self._rule.groups(addresses, family))


def within_caps(members: Iterable[Member], rule: CapRule, salt: bytes) -> tuple[NodeId, ...]:
    """The nodes that a view takes, in the order in which they are taken; nobody over a cap.

    Args:
        members: in any order.
        salt: the previous view's digest: it settles ties among newcomers, and cannot be known when ids are made.
    """
    counter, kept = CapCounter(rule), list[NodeId]()
    for member in sorted(members, key=lambda one: (one.since, sha3_256(salt + one.node_id))):
        if counter.has_room(member.addresses, member.family):
            counter.add(member.addresses, member.family)
            kept.append(member.node_id)
    return tuple(kept)


class FirstSeen:
    """Since which epoch each node has been in certified views, as far as one directory remembers: probation goes by it.

    A view says of its own nodes since when; this remembers the absent ones too, so that a node that was off for a day
    does not begin anew.

    Args:
        max_nodes: of those not in the newest view, so many are remembered; the longest absent are forgotten first.
    """

    def __init__(self, max_nodes: int = 65_536) -> None:
        self._max_nodes = max_nodes
        self._seen: dict[NodeId, tuple[int, int]] = {}

    def note(self, epoch: int, nodes: Iterable[tuple[NodeId, int]]) -> None:
        """A view was certified; it has these nodes, each since an epoch."""
        for node, since in nodes:
            self._seen.pop(node, None)
            self._seen[node] = (since, epoch)  # at the end again: the first is the longest absent
        present = sum(last == epoch for _, last in self._seen.values())
        for node, (_, last) in list(self._seen.items()):
            if last == epoch or (len(self._seen) <= self._max_nodes + present and last + FORGET_EPOCHS > epoch):
                break
            del self._seen[node]

    def succeeded(self, old: NodeId) -> None:
        """Another identity has taken this one's place: what it was counts for that one only."""
        self._seen.pop(old, None)

    def since(self, node: NodeId, epoch: int, predecessor: NodeId | None = None) -> int:
        """The epoch that first had the node, or the identity it comes after; `epoch` for a newcomer."""
        found = self._seen.get(node)
        if found is None and predecessor is not None:
            found = self._seen.get(predecessor)
        since, last = found or (epoch, epoch)
        return since if last + FORGET_EPOCHS > epoch else epoch

    def __len__(self) -> int:
        return len(self._seen)


def on_probation(since: int, epoch: int, epochs: int) -> bool:
    """Whether a node of `since` is too new in `epoch`. Nobody is whom the network's first `epochs` epochs had: a new
    network would have neither guards nor exits."""
    return since > epochs and epoch - since < epochs


def without_probationers(flags: int, on_probation: bool) -> int:
    """Flags to vote for: no GUARD and no EXIT for a node on probation."""
    return flags & ~int(Flags.GUARD | Flags.EXIT) if on_probation else flags
