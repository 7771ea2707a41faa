"""Path selection: constraints, weights, unbiased draws, clear refusals."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.netdir.path import choose_path, conflict, uniform_below, weighted_draws


def test_three_different_relays_the_last_an_exit(world: Any) -> None:
    genesis = world.genesis()
    view = world.view(genesis, [world.entry(i) for i in range(5)])
    random = world.random("path")
    for _ in range(50):
        path = choose_path(view, genesis, 443, (), random)
        assert len({entry.node_id for entry in path}) == 3
        assert path[2].policy.might_allow_port(443)


@pytest.mark.parametrize("hops", range(1, 9))
def test_any_number_of_hops(world: Any, hops: int) -> None:
    genesis = world.genesis()
    view = world.view(genesis, [world.entry(i) for i in range(8)])
    path = choose_path(view, genesis, 80, (), world.random("hops"), hops=hops)
    assert len({entry.node_id for entry in path}) == hops


def test_no_two_of_a_subnet_or_family_in_public_networks(world: Any) -> None:
    public = world.genesis(test_network=False)
    same = [world.entry(i, addresses=(world.address(i % 2),), flags=7) for i in range(6)]
    with pytest.raises(Refused, match="no path of 3 relays"):
        choose_path(world.view(public, same), public, None, (), world.random("x"))
    assert len(choose_path(world.view(public, same), public, None, (), world.random("x"), hops=2)) == 2
    assert len(choose_path(world.view(public, same), world.genesis(), None, (), world.random("x"))) == 3
    a, b = world.entry(1, family=b"f" * 32), world.entry(2, family=b"f" * 32)
    assert conflict(a, b, public)
    assert not conflict(a, b, world.genesis())


def test_the_search_goes_back_when_the_only_exit_shares_with_the_only_guard(world: Any) -> None:
    public = world.genesis(test_network=False)
    entries = [
        world.entry(1, flags=6, weight=10**6, addresses=(world.address(2),)),  # the likely exit: near the guard
        world.entry(3, flags=6, weight=1),
        world.entry(2, flags=1),
        world.entry(4, flags=0),
    ]
    path = choose_path(world.view(public, entries), public, 80, (), world.random("back"))
    assert [entry.nickname for entry in path] == ["node2", "node4", "node3"]


def test_guards_and_excluded(world: Any) -> None:
    genesis = world.genesis()
    view = world.view(genesis, [world.entry(i) for i in range(6)])
    guard = world.entry(4).node_id
    for _ in range(20):
        path = choose_path(view, genesis, 80, [guard], world.random("g"), exclude={world.entry(3).node_id})
        assert path[0].node_id == guard
        assert all(entry.nickname != "node3" for entry in path)
    with pytest.raises(Refused, match="none of this client's guards"):
        choose_path(view, genesis, 80, [bytes(32)], world.random("g"))


@pytest.mark.parametrize(
    ("port", "address", "message"),
    [(25, None, "no exit in the view allows port 25"), (25, "8.8.8.8", "this address and port 25")],
)
def test_refusals_say_why(world: Any, port: int, address: str | None, message: str) -> None:
    genesis = world.genesis()
    view = world.view(genesis, [world.entry(i) for i in range(5)])
    with pytest.raises(Refused, match=message):
        choose_path(view, genesis, port, (), world.random("r"), target_address=address)
    with pytest.raises(Refused, match="no exit in the view"):
        choose_path(world.view(genesis, [world.entry(0)]), genesis, port, (), world.random("r"))


def test_weights(world: Any) -> None:
    entries = [world.entry(0, weight=1), world.entry(1, weight=3), world.entry(2, weight=0)]
    random = world.random("weights")
    counts = Counter(next(weighted_draws(entries, random)).nickname for _ in range(5000))
    assert abs(counts["node1"] / 5000 - 0.6) < 0.03
    assert len(list(weighted_draws(entries, random))) == 3


def test_uniform_below() -> None:
    counts = Counter(uniform_below(5, os.urandom) for _ in range(5000))
    assert set(counts) == set(range(5))
    assert all(800 < count < 1200 for count in counts.values())
    assert uniform_below(1, os.urandom) == 0
