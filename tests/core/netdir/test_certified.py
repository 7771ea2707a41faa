"""Certified views: quorum, times, rollback, forks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from phantomband.core.errors import Forged, Malformed
from phantomband.core.netdir.certified import (
    CertifiedView,
    Expired,
    Forked,
    Freshness,
    NotYetValid,
    RolledBack,
    TooFewSignatures,
    ViewKeeper,
    freshness,
    verify_untrusted,
)


@pytest.fixture(scope="module")
def genesis(world: Any) -> Any:
    return world.genesis(4)


@pytest.fixture(scope="module")
def certified(world: Any, genesis: Any) -> CertifiedView:
    return world.certify(world.view(genesis, [world.entry(i) for i in range(3)], epoch=6), [0, 1, 3])


def now_of(certified: CertifiedView) -> float:
    return certified.view.valid_after + 1.0


def test_a_quorum_verifies(certified: CertifiedView, genesis: Any) -> None:
    assert verify_untrusted(certified.encode(), genesis, now_of(certified), 6) == certified


def test_too_few(world: Any, certified: CertifiedView, genesis: Any) -> None:
    with pytest.raises(TooFewSignatures):
        verify_untrusted(world.certify(certified.view, [0, 1]).encode(), genesis, now_of(certified), 0)


def test_signatures_of_strangers_or_moved_ones(world: Any, certified: CertifiedView, genesis: Any) -> None:
    with pytest.raises(Malformed, match="no directory 7"):
        verify_untrusted(world.certify(certified.view, [0, 1, 7]).encode(), genesis, now_of(certified), 0)
    (a, x), (b, y), (_, z) = certified.signatures
    with pytest.raises(Forged):
        moved = replace(certified, signatures=((a, x), (b, y), (2, z)))
        verify_untrusted(moved.encode(), genesis, now_of(certified), 0)
    with pytest.raises(Malformed, match="sorted"):
        twice = replace(certified, signatures=((a, x), (a, x), (b, y)))
        verify_untrusted(twice.encode(), genesis, now_of(certified), 0)


def test_other_networks_and_changed_times(world: Any, certified: CertifiedView, genesis: Any) -> None:
    with pytest.raises(Malformed, match="another network"):
        verify_untrusted(certified.encode(), world.genesis(4, min_relays=9), now_of(certified), 0)
    longer = replace(certified.view, valid_until=certified.view.valid_until + 1)
    with pytest.raises(Malformed, match="times"):
        verify_untrusted(world.certify(longer, [0, 1, 2]).encode(), genesis, now_of(certified), 0)


def test_times(certified: CertifiedView, genesis: Any) -> None:
    view, clock = certified.view, genesis.clock
    assert freshness(view, clock, view.valid_after) is Freshness.FRESH
    assert freshness(view, clock, view.fresh_until) is Freshness.VALID
    assert freshness(view, clock, view.valid_until) is Freshness.STALE
    verify_untrusted(certified.encode(), genesis, clock.stale_until(6) - 1, 0)
    with pytest.raises(Expired):
        verify_untrusted(certified.encode(), genesis, clock.stale_until(6), 0)
    with pytest.raises(NotYetValid):
        verify_untrusted(certified.encode(), genesis, view.valid_after - 61, 0)


def test_no_rollback(world: Any, certified: CertifiedView, genesis: Any) -> None:
    keeper = ViewKeeper(genesis)
    assert keeper.offer(certified.encode(), now_of(certified))
    assert not keeper.offer(certified.encode(), now_of(certified))
    older = world.certify(world.view(genesis, [world.entry(1)], epoch=5), [0, 1, 2])
    with pytest.raises(RolledBack):
        keeper.offer(older.encode(), now_of(certified))
    assert keeper.current == certified
    with pytest.raises(RolledBack):
        ViewKeeper(genesis, 7).offer(certified.encode(), now_of(certified))


def test_a_fork_is_proof(world: Any, certified: CertifiedView, genesis: Any) -> None:
    other = world.certify(world.view(genesis, [world.entry(9)], epoch=6), [1, 2, 3])
    keeper = ViewKeeper(genesis)
    keeper.offer(certified.encode(), now_of(certified))
    with pytest.raises(Forked, match="directories 1, 3") as caught:
        keeper.offer(other.encode(), now_of(certified))
    assert (caught.value.first, caught.value.second, caught.value.culprits) == (certified, other, [1, 3])
    assert keeper.current == certified
