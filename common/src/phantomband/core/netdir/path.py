"""Choosing relays for a circuit: random, weighted, from the whole view; never "the best". DESIGN.md section
6.

The exit is drawn first (few relays can be one), then the guard, then the middle from the exit's end. No
relay stands twice; no two of one family or one /16 (IPv6 /32) stand together, unless the genesis is a test
network's, where all nodes share an address. Each draw is by weight among those that fit, from an unbiased
source.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Bug, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.public_address import networks
from phantomband.core.netdir.view import Flags, View, ViewEntry

DEFAULT_HOPS = 3
MAX_HOPS = 8
"""PROTOCOL.md section 2: the limit that relays enforce."""

MAX_DRAWS = 2_000
"""Draws before a search for a path gives up: bounds the time in a view with very few fitting relays."""

_GUARD, _EXIT = int(Flags.GUARD), int(Flags.EXIT)
"""As plain numbers: enumerations take most of the time of a choice from thousands."""


class NoExitAllows(Refused):
    """The view has exits, and none that may stand in this path allows the target: another attempt cannot help."""


@dataclass(slots=True)
class _Search:
    """One search: what must not be exceeded or repeated."""

    genesis: Genesis
    random: RandomSource
    draws_left: int = MAX_DRAWS


def choose_path(
    view: View,
    genesis: Genesis,
    target_port: int | None,
    guards: Collection[NodeId],
    random: RandomSource,
    *,
    hops: int = DEFAULT_HOPS,
    target_address: str | None = None,
    exclude: Collection[NodeId] = frozenset(),
) -> tuple[ViewEntry, ...]:
    """Draws a path, guard first.

    Args:
        target_port: the last hop's policy must allow it; 0 for any exit (a name to resolve); None when the
            last hop need not be an exit.
        guards: the client's own guards, the only first hops allowed; empty for any relay with the GUARD flag.
        target_address: an IP literal that the user gave, so that the policy can be asked exactly.
        exclude: relays to leave out, for example because they do not answer.

    Raises:
        NoExitAllows: no exit's policy allows the target.
        Refused: no path; says which part is lacking.
    """
    if not 1 <= hops <= MAX_HOPS:
        raise Bug(f"a path has 1 to {MAX_HOPS} hops, not {hops}")
    usable = [entry for entry in view.entries if entry.node_id not in exclude]
    first = _first_hops(usable, guards)
    last = _last_hops(usable, target_port, target_address)
    if hops == 1:
        both = {entry.node_id for entry in first}
        last = _required([e for e in last if e.node_id in both], "no relay is both a guard and a fitting exit")
        return (_first_drawn(last, random),)
    if last == first and len(first) == 1:
        raise NoExitAllows("the only exit that allows this target is the guard itself")
    places = [last, first, *[usable] * (hops - 2)]
    found = _search(places, [], _Search(genesis, random))
    if found is None:
        raise Refused(f"the view has no path of {hops} relays that do not share a family or subnet")
    exit_, guard, *middles = found
    return (guard, *middles, exit_)


def weighted_draws(entries: Sequence[ViewEntry], random: RandomSource) -> Iterator[ViewEntry]:
    """All of `entries`, each drawn by weight from those that are left (weight 0 counts as 1)."""
    left = list(entries)
    weights = [max(1, entry.weight) for entry in left]
    while left:
        sums = list(accumulate(weights))
        at = bisect_right(sums, uniform_below(sums[-1], random))
        weights.pop(at)
        yield left.pop(at)


def uniform_below(bound: int, random: RandomSource) -> int:
    """A number from 0 to bound - 1, each equally likely: draws outside the range are thrown away, never
    folded."""
    bits = (bound - 1).bit_length()
    size = max(1, (bits + 7) // 8)
    while True:
        value = int.from_bytes(random(size), "big") & ((1 << bits) - 1)
        if value < bound:
            return value


def conflict(one: ViewEntry, other: ViewEntry, genesis: Genesis) -> bool:
    """Whether two relays must not stand in one path."""
    if one.node_id == other.node_id:
        return True
    if genesis.test_network:
        return False
    if one.family and one.family == other.family:
        return True
    return not _subnets(one.addresses).isdisjoint(_subnets(other.addresses))


@lru_cache(maxsize=32_768)
def _subnets(addresses: tuple[NodeAddress, ...]) -> frozenset[bytes]:
    """The /16 (IPv6 /32) of each address."""
    return frozenset(networks(address.ip)[-1] for address in addresses)


def _first_hops(usable: Sequence[ViewEntry], guards: Collection[NodeId]) -> list[ViewEntry]:
    if guards:
        chosen = [entry for entry in usable if entry.node_id in guards]
        return _required(chosen, "none of this client's guards is in the view")
    return _required([entry for entry in usable if entry.flags & _GUARD], "no guard in the view")


def _last_hops(usable: Sequence[ViewEntry], port: int | None, address: str | None) -> list[ViewEntry]:
    if port is None:
        return _required(list(usable), "no relay in the view")
    exits = [entry for entry in usable if entry.flags & _EXIT]
    _required(exits, "no exit in the view")
    if port == 0:
        return exits
    if address is None:
        named = [e for e in exits if e.policy.might_allow_port(port)]
        return _allowed(named, f"no exit in the view allows port {port}")
    allows = [e for e in exits if e.policy.allows(address, port)]
    return _allowed(allows, f"no exit in the view allows this address and port {port}")


def _allowed(exits: list[ViewEntry], problem: str) -> list[ViewEntry]:
    if not exits:
        raise NoExitAllows(problem)
    return exits


def _required(entries: list[ViewEntry], problem: str) -> list[ViewEntry]:
    if not entries:
        raise Refused(problem)
    return entries


def _first_drawn(entries: Sequence[ViewEntry], random: RandomSource) -> ViewEntry:
    return next(weighted_draws(entries, random))


def _search(places: list[list[ViewEntry]], taken: list[ViewEntry], search: _Search) -> list[ViewEntry] | None:
    """Fills one place after the other; goes back when a choice leaves none for the next."""
    if len(taken) == len(places):
        return taken
    for entry in weighted_draws(places[len(taken)], search.random):
        search.draws_left -= 1
        if search.draws_left < 0:
            return None
        if any(conflict(entry, other, search.genesis) for other in taken):
            continue
        found = _search(places, [*taken, entry], search)
        if found is not None:
            return found
    return None
