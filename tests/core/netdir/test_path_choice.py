"""Paths in a view of a thousand relays: as often as the weights say, spread widely, and never against the rules."""

from __future__ import annotations

import math
import random
import runpy
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.path import choose_path, weighted_draws
from phantomband.core.netdir.public_address import networks
from phantomband.core.netdir.view import Flags, View, ViewEntry

MAKE: Any = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["World"]()
TEST_NETWORK, PUBLIC = MAKE.genesis(4), MAKE.genesis(4, test_network=False)

RELAYS, GUARDS, EXITS = 1000, 550, 200
SIGMA = 1.2
"""Of the logarithm of the weights: a few are fifty times heavier than most, as in public onion networks."""

PATHS = 4000
DRAWS = 20_000

FLOORS = {"guard": 8.0, "middle": 8.75, "exit": 6.4}
"""Bits of entropy of each choice; alike among all would be 9.1, 10.0 and 7.6."""


@lru_cache
def view() -> View:
    """55% guards, 20% exits, both mixed over all weights; three relays in a /16; some families of up to eight."""
    order = random.Random(5)
    quantiles = [NormalDist(0, SIGMA).inv_cdf((i + 0.5) / RELAYS) for i in range(RELAYS)]
    order.shuffle(quantiles)
    policies = ["accept *:*", "accept *:80\naccept *:443", "reject 9.0.0.0/8:*\naccept *:443", "accept *:6667"]
    entries = []
    for i, quantile in enumerate(quantiles):
        is_exit = i % 5 == 0
        flags = (Flags.GUARD if i % 20 < 11 else Flags.NONE) | (Flags.EXIT if is_exit else Flags.NONE)
        entries.append(
            MAKE.entry(
                i,
                flags=int(flags),
                weight=round(5000 * math.exp(quantile)),
                addresses=(NodeAddress("tcp", f"{20 + i % 333 // 250}.{i % 333 % 250}.{i % 7}.1", 9001),),
                exit_policy=policies[i // 5 % 4] if is_exit else "",
                family=bytes((i % 100,)) * 32 if i % 100 < 50 and i < 800 else b"",
            )
        )
    made: View = MAKE.view(TEST_NETWORK, entries)
    return made


def critical(freedom: int) -> float:
    """The value that chi-square exceeds once in a thousand (Wilson and Hilferty, 1931)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + NormalDist().inv_cdf(0.999) * math.sqrt(part)) ** 3


def agrees(counts: Counter[NodeId], expected: Mapping[NodeId, float], draws: int) -> bool:
    """Pearson's test, with rare outcomes put together until five of each are expected."""
    assert set(counts) <= set(expected)
    statistic, bins, seen, wanted = 0.0, 0, 0.0, 0.0
    for node, chance in sorted(expected.items(), key=lambda item: item[1]):
        seen, wanted = seen + counts[node], wanted + chance * draws
        if wanted >= 5:
            statistic += (seen - wanted) ** 2 / wanted
            bins, seen, wanted = bins + 1, 0.0, 0.0
    assert bins > 50
    return statistic < critical(bins - 1)


def entropy(chances: Mapping[NodeId, float]) -> float:
    """Bits (Shannon)."""
    return -sum(p * math.log2(p) for p in chances.values() if p)


def shares(entries: Sequence[ViewEntry]) -> dict[NodeId, float]:
    total = sum(e.weight for e in entries)
    return {e.node_id: e.weight / total for e in entries}


@lru_cache
def expected() -> dict[str, dict[NodeId, float]]:
    """The exact chances of each place of a path to any exit: the exit by weight, then the guard from the others, then
    the middle from what is left."""
    entries = view().entries
    weight = {e.node_id: e.weight for e in entries}
    exits, guards = (shares([e for e in entries if e.has(flag)]) for flag in (Flags.EXIT, Flags.GUARD))
    total, guard_total = sum(weight.values()), sum(weight[g] for g in guards)
    guard = dict.fromkeys(guards, 0.0)
    both, in_guard, in_exit = 0.0, dict.fromkeys(weight, 0.0), dict.fromkeys(weight, 0.0)
    for e, chance in exits.items():
        left = guard_total - (weight[e] if e in guards else 0)
        for g in guards:
            if g == e:
                continue
            pair = chance * weight[g] / left
            guard[g] += pair
            part = pair / (total - weight[e] - weight[g])
            both += part
            in_guard[g] += part
            in_exit[e] += part
    middle = {m: w * (both - in_guard[m] - in_exit[m]) for m, w in weight.items()}
    return {"guard": guard, "middle": middle, "exit": exits}


@lru_cache
def chosen() -> dict[str, Counter[NodeId]]:
    """Who was where in many paths."""
    source = random.Random(11).randbytes
    paths = [choose_path(view(), TEST_NETWORK, 0, (), source) for _ in range(PATHS)]
    return {place: Counter(path[at].node_id for path in paths) for at, place in enumerate(("guard", "middle", "exit"))}


def test_the_view_is_what_it_should_be() -> None:
    entries = view().entries
    assert len(entries) == RELAYS
    assert sum(e.has(Flags.GUARD) for e in entries) == GUARDS
    assert sum(e.has(Flags.EXIT) for e in entries) == EXITS
    for chances in expected().values():
        assert abs(sum(chances.values()) - 1) < 1e-9


def test_draws_are_as_the_weights() -> None:
    source = random.Random(7).randbytes
    entries = view().entries
    counts = Counter(next(weighted_draws(entries, source)).node_id for _ in range(DRAWS))
    assert agrees(counts, shares(entries), DRAWS)


def test_the_test_itself_notices_a_third_more_for_the_heavy() -> None:
    source = random.Random(7).randbytes
    entries = view().entries
    heavy = sorted(e.weight for e in entries)[-RELAYS // 4]
    chances = {e.node_id: e.weight * (1.33 if e.weight >= heavy else 1.0) for e in entries}
    total = sum(chances.values())
    counts = Counter(next(weighted_draws(entries, source)).node_id for _ in range(DRAWS))
    assert not agrees(counts, {node: chance / total for node, chance in chances.items()}, DRAWS)


@pytest.mark.parametrize("place", FLOORS)
def test_each_place_of_a_path_is_as_the_weights(place: str) -> None:
    assert agrees(chosen()[place], expected()[place], PATHS)


@pytest.mark.parametrize(("place", "floor"), FLOORS.items())
def test_the_choice_is_wide(place: str, floor: float) -> None:
    chances = expected()[place]
    bits, most = entropy(chances), max(chances.values())
    print(f"{place}: {bits:.2f} bits of {math.log2(len(chances)):.2f}, the likeliest {most:.1%}")
    assert bits >= floor
    assert most < 0.12
    seen = {node: count / PATHS for node, count in chosen()[place].items()}
    assert entropy(seen) >= floor - 0.3, "what is seen of few draws is a little less"


@pytest.mark.parametrize(("hops", "paths"), [(2, 300), (3, 1500), (5, 300), (8, 200)])
def test_no_two_hops_share_a_family_or_network(hops: int, paths: int) -> None:
    source = random.Random(hops).randbytes
    for _ in range(paths):
        path = choose_path(view(), PUBLIC, 443, (), source, hops=hops)
        assert len(path) == hops
        assert path[0].has(Flags.GUARD)
        for one, other in combinations(path, 2):
            assert one.node_id != other.node_id
            assert not one.family or one.family != other.family
            assert {networks(a.ip)[-1] for a in one.addresses}.isdisjoint(networks(a.ip)[-1] for a in other.addresses)


@pytest.mark.parametrize("port", [80, 443, 6667, 22])
@pytest.mark.parametrize("address", [None, "9.9.9.9", "8.8.8.8"])
def test_the_exits_policy_is_obeyed(port: int, address: str | None) -> None:
    source = random.Random(port).randbytes
    used = set()
    for _ in range(150):
        path = choose_path(view(), PUBLIC, port, (), source, target_address=address)
        policy = path[-1].policy
        assert policy.allows(address, port) if address is not None else policy.might_allow_port(port)
        used.add(path[-1].exit_policy)
    may = {e.exit_policy for e in view().entries if e.exit_policy}
    allowed = {p for p in may if _allows(p, address, port)}
    assert used == allowed, "every kind of exit that may serve does"


def _allows(text: str, address: str | None, port: int) -> bool:
    entry = next(e for e in view().entries if e.exit_policy == text)
    return entry.policy.allows(address, port) if address is not None else entry.policy.might_allow_port(port)
