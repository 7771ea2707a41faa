"""A clock that steps: nothing is voted or signed twice, and nothing that is to come is lost."""

from __future__ import annotations

from typing import Any

import pytest
from phantomband.core.netdir.clocks import ClockWatch
from phantomband.core.netdir.descriptor import sign_descriptor
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.voting import Voting
from phantomband.core.netdir.voting_events import KEPT_EPOCHS, Broadcast, Memory, Remember


def votes(voting: Voting, now: float) -> bool:
    return any(isinstance(effect, Broadcast) for effect in voting.tick(now))


@pytest.mark.parametrize("jump", [3600.0, 86400.0, 365 * 86400.0])
def test_one_vote_by_a_wrong_time_keeps_no_epoch_before_it_from_being_voted(world: Any, jump: float) -> None:
    genesis = world.genesis(4, startup=0)
    clock, pool = genesis.clock, DescriptorPool()
    voting = Voting(genesis, world.key(1), 1, Memory(), None, pool)
    epoch = 5
    pool.add(_own(world, genesis), clock.start(epoch))
    assert votes(voting, clock.cutoff(epoch) + 0.1)
    wrong = clock.epoch_at(clock.cutoff(epoch) + jump)
    voting.tick(clock.cutoff(wrong) + 0.1)
    assert all(votes(voting, clock.cutoff(epoch + later) + 0.1) for later in range(1, 6))
    again = Voting(genesis, world.key(1), 1, voting.memory, None, pool)
    assert not votes(again, clock.cutoff(epoch + 5) + 0.1), "nor is one voted in twice, after a restart too"
    assert votes(again, clock.cutoff(epoch + 6) + 0.1)
    if wrong in voting.memory.voted:
        assert not votes(again, clock.cutoff(wrong) + 0.1), "when it comes"


def test_a_jump_is_voted_by_when_it_is_undone_confirmed_or_has_lasted(world: Any) -> None:
    genesis = world.genesis(4, startup=0)
    voting = Voting(genesis, world.key(1), 1, Memory(), None, DescriptorPool())
    now = float(genesis.clock.start(5))
    assert not voting.clock_doubt(now)
    voting.clock_jumped(5000.0, now + 5000.0)
    assert "jumped 5000 s ahead" in voting.clock_doubt(now + 5000.0)
    assert voting.tick(genesis.clock.cutoff(genesis.clock.epoch_at(now + 5000.0)) + 1.0) == []
    voting.clock_jumped(-5000.0, now + 3.0)
    assert not voting.clock_doubt(now + 3.0), "undone"
    voting.clock_jumped(5000.0, now + 5003.0)
    assert voting.clock_doubt(now + 5003.0 + genesis.clock.epoch_seconds - 1)
    assert not voting.clock_doubt(now + 5003.0 + genesis.clock.epoch_seconds), "it has lasted: a machine that slept"

    watch = ClockWatch(genesis, 1)
    watch.jumped(-500.0, now)
    assert "jumped 500 s back" in watch.doubt(now)
    watch.note(0, now + 1, now)
    assert watch.doubt(now), "one of three others"
    watch.note(2, now - 1, now)
    assert not watch.doubt(now)
    watch.jumped(700.0, now + 700.0)
    assert "jumped 700 s ahead" in watch.doubt(now + 700.0), "the one before was believed"


def test_who_is_off_by_most_others_does_not_vote_until_they_were_silent_for_two_epochs(world: Any) -> None:
    """If all directories once heard all others late, nobody may wait for the others for good."""
    genesis = world.genesis(4, startup=0)
    watch, now, length = ClockWatch(genesis, 1), 1000.0, genesis.clock.epoch_seconds
    for other in (0, 2, 3):
        watch.note(other, now - 100, now)
    assert "100 s ahead of those of most directories" in watch.doubt(now + length)
    assert not watch.doubt(now + 2 * length)
    assert watch.trouble(now + 2 * length), "it is still told"


def test_a_clock_behind_a_certified_view_is_not_voted_by(world: Any) -> None:
    genesis = world.genesis(4, startup=0)
    certified = world.certify(world.view(genesis, [world.entry(1)], epoch=9), [0, 1, 2])
    voting = Voting(genesis, world.key(1), 1, Memory(), certified, DescriptorPool())
    assert "behind the newest certified view" in voting.clock_trouble(genesis.clock.start(7))
    assert voting.tick(genesis.clock.cutoff(7) + 0.1) == []
    assert not voting.clock_trouble(genesis.clock.start(9))


def test_memory_is_bounded_and_what_it_forgot_is_never_voted_or_signed() -> None:
    memory = Memory()
    for epoch in range(1, 2 * KEPT_EPOCHS):
        assert memory.may_vote(epoch)
        assert memory.may_sign(epoch, bytes([epoch]) * 32)
        memory = memory.with_vote(epoch).with_signature(epoch, bytes([epoch]) * 32)
        assert not memory.may_vote(epoch)
    assert (len(memory.voted), len(memory.signed)) == (KEPT_EPOCHS, KEPT_EPOCHS)
    for epoch in range(1, 2 * KEPT_EPOCHS):
        assert not memory.may_vote(epoch)
        assert not memory.may_sign(epoch, b"?" * 32)
    last = 2 * KEPT_EPOCHS - 1
    assert memory.may_sign(last, bytes([last]) * 32), "the same one may be signed again"
    assert (memory.voted_epoch, memory.signed_epoch, memory.signed_digest) == (last, last, bytes([last]) * 32)
    assert (Memory().voted_epoch, Memory().signed_epoch) == (0, 0)


def _own(world: Any, genesis: Any) -> Any:
    made = world.descriptor(
        genesis, 1, published=genesis.clock.start(5) - 1, expires=genesis.clock.start(5) + 86400 * 6
    )
    return sign_descriptor(made, world.key(1))


def test_effects_of_a_vote_remember_it_first(world: Any) -> None:
    genesis = world.genesis(4, startup=0)
    pool = DescriptorPool()
    pool.add(_own(world, genesis), genesis.clock.start(5))
    effects = Voting(genesis, world.key(1), 1, Memory(), None, pool).tick(genesis.clock.cutoff(5) + 0.1)
    assert isinstance(effects[0], Remember)
    assert 5 in effects[0].memory.voted
