"""From counted votes to the view: the same bytes at every honest directory. PROTOCOL.md section 7, points 2
and 7.

An entry is in if more than half of all directories (not of the votes) list its node; of its descriptors the
one that most list is taken, then the one published last; flags are those of a majority; the weight is the
median of the votes that list the node, and never more than the node declared. Then caps (caps.py): nodes of
the previous view stay, newcomers of a full network wait. Of a node's addresses those stand in the view that enough
directories have reached. And the view ends where the
limit of its readers is: who comes last in the order of the caps is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import MAX_ADDRESSES, NodeAddress
from phantomband.core.netdir.ballot import MAX_VOTE_ENTRIES, Vote, VoteEntry
from phantomband.core.netdir.caps import NO_CAPS, CapRule, Member, on_probation, within_caps, without_probationers
from phantomband.core.netdir.codec import Label
from phantomband.core.netdir.descriptor import Descriptor
from phantomband.core.netdir.exit_policy import cached_policy
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.view import (
    LENGTH_BYTES,
    MAX_ENTRIES_BYTES,
    MAX_WEIGHT,
    NO_DIGEST,
    WEIGHT_UNIT,
    Flags,
    View,
    ViewEntry,
)
from phantomband.core.work.difficulty import next_bits

FAST_WEIGHT = 256
"""From 256 KiB a second on a relay is FAST."""

UNMEASURED_WEIGHT = 1024
"""A node may weigh 1 MiB a second before it has carried anything; then twice what it has carried."""

GROWTH_SHARE = 32
"""A node's weight grows by at most one part in so many an epoch: it doubles in 23 epochs, about a day of hours."""

LEAST_GROWTH = 8


@dataclass(frozen=True, slots=True)
class Chosen:
    """One node that is in the view, before its descriptor is looked at."""

    node_id: NodeId
    descriptor: bytes
    flags: int
    weight: int
    since: int
    reached: int = 0xFF
    """Addresses of the descriptor that stand in the view: bit i for the i-th."""


@dataclass(frozen=True, slots=True)
class _Place:
    """One node that could be in the view."""

    chosen: Chosen
    descriptor: Descriptor
    addresses: tuple[NodeAddress, ...]
    """Where directories reached it: no other is listed, counted under caps, or kept apart in paths."""
    since: int
    rival: bool
    """Whether its predecessor named others too, and it is in no view yet."""


def opinion(
    descriptor: Descriptor, genesis: Genesis, quality: float = 1.0, on_probation: bool = False
) -> tuple[int, int]:
    """Flags and weight that a directory votes for.

    Measurements, probation and reputation go in here, and nowhere else.

    Args:
        quality: share of the loops through this node that came back, as this directory's node measured it.
        on_probation: whether the node is too new to be guard or exit.
    """
    weight = max(1, int(declared_weight(descriptor) * quality))
    flags = Flags.GUARD
    if cached_policy(descriptor.exit_policy).is_exit:
        flags |= Flags.EXIT
    if weight >= FAST_WEIGHT:
        flags |= Flags.FAST
    if genesis.index_of(descriptor.node_id) is not None:
        flags |= Flags.DIRECTORY
    return without_probationers(int(flags), on_probation), weight


def declared_weight(descriptor: Descriptor) -> int:
    """What the node is willing to carry, but no more than twice what it has carried; in units of weight, 1 at
    least."""
    proven = max(2 * descriptor.capacity // WEIGHT_UNIT, UNMEASURED_WEIGHT)
    return max(1, min(descriptor.bandwidth // WEIGHT_UNIT, proven, MAX_WEIGHT))


def agreed_pending(votes: Sequence[Vote], genesis: Genesis) -> bytes:
    """The change of the directory set that more than half of all directories announce, or zeros."""
    counts = Counter(vote.pending for vote in votes)
    pending, count = max(counts.items(), key=lambda item: (item[1], item[0]), default=(NO_DIGEST, 0))
    return pending if count >= genesis.majority else NO_DIGEST


def agreed_previous(votes: Sequence[Vote], genesis: Genesis) -> tuple[int, bytes] | None:
    """The (epoch, digest) that more than half of all directories would follow, or None."""
    if not votes:
        return None
    counts = Counter((vote.previous_epoch, vote.previous) for vote in votes)
    previous, count = counts.most_common(1)[0]
    return previous if count >= genesis.majority else None


def choose(votes: Sequence[Vote], genesis: Genesis) -> list[Chosen]:
    """Which nodes, with which descriptors; sorted by node id."""
    listed: dict[NodeId, list[VoteEntry]] = {}
    for vote in votes:
        for entry in vote.entries:
            listed.setdefault(entry.node_id, []).append(entry)
    chosen = (_choose_node(entries, genesis) for _, entries in sorted(listed.items()))
    return [one for one in chosen if one is not None]


def build_view(
    epoch: int,
    chosen: Sequence[Chosen],
    descriptors: Mapping[bytes, Descriptor],
    previous: View | None,
    previous_digest: bytes,
    genesis: Genesis,
    pending: bytes = NO_DIGEST,
) -> View:
    """The view that follows `previous`. Every chosen descriptor must be in `descriptors`.

    A descriptor that belongs to another node than the one it was listed for, or that has expired, leaves
    its node out. So does a cap, in networks that are not test networks. A predecessor goes when a successor is there;
    of several successors none takes its place: they are newcomers.
    """
    clock = genesis.clock
    start = clock.end(epoch)
    nodes = {one.node_id: descriptors[one.descriptor] for one in chosen}
    usable = {node: d for node, d in nodes.items() if d.node_id == node and d.expires > start}
    heirs = Counter(d.predecessor for d in usable.values() if d.predecessor is not None)
    for replaced in heirs:
        usable.pop(replaced, None)
    since = {one.node_id: min(one.since, epoch) or epoch for one in chosen}
    places: dict[NodeId, _Place] = {}
    for one in chosen:
        if (descriptor := usable.get(one.node_id)) is not None:
            before = previous.find(one.node_id) if previous is not None else None
            old = descriptor.predecessor
            rival = before is None and old is not None and heirs[old] > 1
            listed = tuple(a for at, a in enumerate(descriptor.addresses) if one.reached >> at & 1)
            places[one.node_id] = _Place(one, descriptor, listed, epoch if rival else since[one.node_id], rival)
    families = family_ids(usable)
    kept = _within_caps(places, families, _seniority(places, previous, genesis), previous_digest, genesis)
    entries = _fitting(_entry(places[node], families.get(node, b""), previous, epoch, genesis) for node in kept)
    return View(
        network_id=genesis.network_id,
        epoch=epoch,
        valid_after=start,
        fresh_until=clock.fresh_until(epoch),
        valid_until=clock.valid_until(epoch),
        previous=previous_digest if previous is not None else NO_DIGEST,
        set_id=genesis.set_id,
        entries=entries,
        pending=pending,
        bits=_bits(epoch, entries, previous, genesis),
    )


def _fitting(entries: Iterable[ViewEntry]) -> tuple[ViewEntry, ...]:
    """As many as readers take of one view, from the first; sorted by node id.

    Whoever is known longest stays, on every directory alike: the order is that of the caps.
    """
    room, taken = MAX_ENTRIES_BYTES, list[ViewEntry]()
    for entry in entries:
        room -= LENGTH_BYTES + len(entry.encode())
        if room < 0 or len(taken) == MAX_VOTE_ENTRIES:
            break
        taken.append(entry)
    return tuple(sorted(taken, key=lambda entry: entry.node_id))


def _bits(epoch: int, entries: Sequence[ViewEntry], previous: View | None, genesis: Genesis) -> int:
    """Difficulty of stamps for the view of `epoch`: it follows the joins of the last epochs, by this view."""
    rule = genesis.terms.difficulty
    if genesis.terms.work is None or previous is None:
        return rule.floor
    counts = Counter(entry.since for entry in entries)
    return next_bits(previous.bits, [counts[epoch - back] for back in reversed(range(rule.window))], rule)


def _within_caps(
    places: Mapping[NodeId, _Place],
    families: Mapping[NodeId, bytes],
    seniority: Mapping[NodeId, int],
    salt: bytes,
    genesis: Genesis,
) -> tuple[NodeId, ...]:
    members = [Member(node, p.addresses, families.get(node, b""), seniority[node]) for node, p in places.items()]
    return within_caps(members, NO_CAPS if genesis.test_network else CapRule(), salt)


def _seniority(places: Mapping[NodeId, _Place], previous: View | None, genesis: Genesis) -> dict[NodeId, int]:
    """Directories of the set come first, then the nodes of the previous view, then who was first in any."""
    there = {entry.node_id for entry in previous.entries} if previous is not None else set()
    directories = {directory.node_id for directory in genesis.directories}
    return {
        node: 0 if node in directories else 1 if node in there else 1 + place.since for node, place in places.items()
    }


def family_ids(descriptors: Mapping[NodeId, Descriptor]) -> dict[NodeId, bytes]:
    """One shared id for all nodes tied by naming each other; a family must be mutual, or anyone could
    push honest relays out of paths by claiming them."""
    found: dict[NodeId, bytes] = {}
    for root in sorted(descriptors):
        if root in found:
            continue
        members = _family_of(root, descriptors)
        if len(members) > 1:
            found.update(dict.fromkeys(members, Label.FAMILY.digest(root)))
    return found


def _family_of(root: NodeId, descriptors: Mapping[NodeId, Descriptor]) -> set[NodeId]:
    members, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        for other in descriptors[node].family:
            if other not in members and other in descriptors and node in descriptors[other].family:
                members.add(other)
                waiting.append(other)
    return members


def _choose_node(entries: Sequence[VoteEntry], genesis: Genesis) -> Chosen | None:
    if len(entries) < genesis.majority:
        return None
    counts = Counter((entry.descriptor, entry.published) for entry in entries)
    (descriptor, _), count = max(counts.items(), key=lambda item: (item[1], item[0][1], item[0][0]))
    if count < genesis.witnesses:
        return None  # perhaps nobody honest has it to give
    bits = (1 << bit for bit in range(16))
    flags = sum(bit for bit in bits if sum(bool(entry.flags & bit) for entry in entries) >= genesis.majority)
    weight, since = (lower_median(values) for values in zip(*((entry.weight, entry.since) for entry in entries)))
    reached = _proved([entry.reached for entry in entries if entry.descriptor == descriptor], genesis)
    return Chosen(entries[0].node_id, descriptor, flags, weight, since, reached) if reached else None


def _proved(masks: Sequence[int], genesis: Genesis) -> int:
    """Addresses that so many directories reached that one of them is honest: those without IPv6 reach fewer."""
    return sum(1 << at for at in range(MAX_ADDRESSES) if sum(mask >> at & 1 for mask in masks) >= genesis.witnesses)


def lower_median(values: Sequence[int]) -> int:
    """The middle value; of two middle ones the lower."""
    return sorted(values)[(len(values) - 1) // 2]


def _entry(place: _Place, family: bytes, previous: View | None, epoch: int, genesis: Genesis) -> ViewEntry:
    one, descriptor, flags = place.chosen, place.descriptor, place.chosen.flags
    before = previous.find(one.node_id) if previous is not None else None
    changed = before is not None and before.onion_key != descriptor.onion_key
    if before is None and previous is not None and descriptor.predecessor is not None and not place.rival:
        before = previous.find(descriptor.predecessor)
    if place.rival:
        flags = without_probationers(flags, on_probation(place.since, epoch, genesis.terms.probation_epochs))
    weight = min(one.weight, declared_weight(descriptor))
    return ViewEntry(
        node_id=one.node_id,
        link_key=descriptor.link_key,
        onion_key=descriptor.onion_key,
        previous_onion_key=before.onion_key if before is not None and changed else None,
        addresses=place.addresses,
        flags=flags,
        weight=_grown(weight, before, epoch, genesis),
        exit_policy=descriptor.exit_policy,
        family=family,
        mix=descriptor.mix,
        padding=descriptor.padding,
        nickname=descriptor.nickname,
        since=place.since,
    )


def _grown(weight: int, before: ViewEntry | None, epoch: int, genesis: Genesis) -> int:
    """No node becomes heavy at once, so that whoever buys or fakes capacity is seen coming.

    A network without probation, or one that is younger than its probation, knows nobody better than anybody else.
    """
    if epoch <= genesis.terms.probation_epochs or not genesis.terms.probation_epochs:
        return weight
    if before is None:
        return min(weight, UNMEASURED_WEIGHT)
    return min(weight, before.weight + max(before.weight // GROWTH_SHARE, LEAST_GROWTH))
