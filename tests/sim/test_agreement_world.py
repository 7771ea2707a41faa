"""The voting machines in virtual time: as many liars as are tolerated neither fork an epoch nor stop it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from phantomband.core.errors import Malformed
from phantomband.core.netdir.ballot import (
    Echo,
    Vote,
    sign_echo,
    sign_vote,
    verify_echo_untrusted,
    verify_vote_untrusted,
)
from phantomband.core.netdir.voting_events import BallotKind
from phantomband_cli.sim.agreement.documents import genesis_of, key_of
from phantomband_cli.sim.agreement.liars import told
from phantomband_cli.sim.agreement.measures import Measures, together
from phantomband_cli.sim.agreement.scenario import Lie, Scenario
from phantomband_cli.sim.agreement.world import World

SEVEN = Scenario(directories=7, epochs=3, relays=3)


@pytest.mark.parametrize("lie", list(Lie))
def test_two_liars_of_seven_neither_fork_nor_stop_an_epoch(lie: Lie) -> None:
    measured = World(replace(SEVEN, liars=(lie, lie))).run()
    assert measured.forks == 0
    assert set(measured.certified) == {1, 2, 3}
    assert measured.accused <= {5, 6}
    assert all(len(times) == 5 for times in measured.certified.values())


def test_who_votes_twice_is_accused() -> None:
    assert World(replace(SEVEN, liars=(Lie.VOTE, Lie.VOTE))).run().accused == {5, 6}


def test_honest_directories_certify_within_seconds_and_wait_for_the_silent_until_the_deadline() -> None:
    honest, silent = World(SEVEN).run(), World(replace(SEVEN, liars=(Lie.SILENT,))).run()
    assert max(honest.last) < 5.0
    assert 599.0 < min(silent.first) <= max(silent.last) < 605.0


def test_a_directory_that_is_killed_before_it_sends_signs_nothing_else() -> None:
    measured = World(replace(SEVEN, killed=0.3, epochs=4)).run()
    assert measured.kills > 0
    assert measured.forks == 0
    assert all(len(digests) == 1 for digests in measured.signers.values())


def test_too_many_liars_stop_epochs_but_do_not_fork_them() -> None:
    measured = World(replace(SEVEN, liars=(Lie.SILENT,) * 3)).run()
    assert measured.certified == {}
    assert measured.forks == 0


def test_a_fork_would_be_seen() -> None:
    measured = Measures(quorum=2)
    measured.has(0, 1, b"a", 1.0)
    measured.has(1, 1, b"a", 1.0)
    assert measured.forks == 0
    measured.has(2, 1, b"b", 1.0)
    assert measured.forks == 1
    measured.signers[2] = {b"a": {0, 1}, b"b": {1}}
    assert measured.forks == 1
    measured.signers[2] = {b"a": {0, 1}, b"b": {1, 2}}
    assert measured.forks == 2


def test_a_seed_gives_the_same_figures_each_time() -> None:
    lossy = replace(SEVEN, loss=0.05, split=0.5, epochs=2)
    once, again = (together([World(lossy).run()], 7) for _ in range(2))
    assert once == again
    assert once["epochs"] == 2


def test_each_half_is_told_something_else_that_is_signed() -> None:
    genesis, key = genesis_of(4, 3600), key_of(3)
    vote = Vote(genesis.network_id, 1, 3, 0, bytes(32), 7, ())
    echo = Echo(genesis.network_id, 1, 3, ((0, bytes(32)), (1, bytes(32))))
    votes = [told(Lie.VOTE, half, BallotKind.VOTE, sign_vote(vote, key), key) for half in (0, 1)]
    assert [verify_vote_untrusted(data, genesis).time for data in votes] == [7, 8]
    echoes = [told(Lie.ECHO, half, BallotKind.ECHO, sign_echo(echo, key), key) for half in (0, 1)]
    assert [len(verify_echo_untrusted(data, genesis).held) for data in echoes] == [2, 1]
    with pytest.raises(Malformed):
        verify_vote_untrusted(told(Lie.VOTE, 1, BallotKind.VOTE, sign_vote(vote, key), key_of(2)), genesis)
