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


def follows(world: Any, genesis: Any, epoch: int, previous: bytes, node: int = 2) -> CertifiedView:
    return world.certify(replace(world.view(genesis, [world.entry(node)], epoch=epoch), previous=previous), [1, 2, 3])  # type: ignore[no-any-return]


def test_a_successor_of_the_other_fork_is_proof_and_not_taken(
    world: Any, genesis: Any, certified: CertifiedView
) -> None:
    """Whoever holds one side of a fork must not be led to the other by waiting for an epoch."""
    other = follows(world, genesis, 6, b"5" * 32)
    crossing = follows(world, genesis, 7, other.digest)
    keeper = ViewKeeper(genesis)
    keeper.offer(certified.encode(), now_of(certified))
    with pytest.raises(Forked, match=r"epoch 6 has two .* the view of epoch 7 follows; directories 1") as caught:
        keeper.offer(crossing.encode(), now_of(crossing))
    assert (caught.value.first, caught.value.second) == (certified, crossing)
    for epoch in (8, 9):
        crossing = follows(world, genesis, epoch, crossing.digest)
        with pytest.raises(Forked):
            keeper.offer(crossing.encode(), now_of(crossing))
    assert keeper.current == certified
    true = follows(world, genesis, 7, certified.digest)
    assert keeper.offer(true.encode(), now_of(true)), "the side that is held goes on"


def test_what_follows_a_second_view_of_the_epoch_held_is_not_taken(
    world: Any, genesis: Any, certified: CertifiedView
) -> None:
    other = follows(world, genesis, 6, b"5" * 32)
    keeper = ViewKeeper(genesis)
    keeper.offer(certified.encode(), now_of(certified))
    with pytest.raises(Forked):
        keeper.offer(other.encode(), now_of(other))
    later = follows(world, genesis, 9, other.digest)
    with pytest.raises(Forked):
        keeper.offer(later.encode(), now_of(later))


def test_views_that_are_certified_late_and_gaps_are_no_forks(
    world: Any, genesis: Any, certified: CertifiedView
) -> None:
    """The view of epoch 7 came too late for most directories; they followed 6 again. Then somebody is away for long."""
    keeper = ViewKeeper(genesis)
    assert keeper.offer(certified.encode(), now_of(certified))
    late = follows(world, genesis, 7, certified.digest)
    assert keeper.offer(late.encode(), now_of(late))
    beside = follows(world, genesis, 8, certified.digest)
    assert keeper.offer(beside.encode(), now_of(beside))
    away = follows(world, genesis, 11, b"?" * 32)
    assert keeper.offer(away.encode(), now_of(away))
    anew = follows(world, genesis, 12, bytes(32))
    assert keeper.offer(anew.encode(), now_of(anew)), "directories that lost all they had begin with none"
