"""Gossip in virtual time: records come everywhere, liars hold nothing up for good, and what it costs is bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from phantomband.core.dht.messages import pieces
from phantomband.core.dht.reconcile import MAX_REPLY_BYTES, MAX_REQUEST_BYTES
from phantomband.core.ids import NodeId
from phantomband_cli.sim.dht.measures import CELL_BYTES
from phantomband_cli.sim.dht.stand_ins import RECORD_BYTES, Registry
from phantomband_cli.sim.gossip.member import Member, verified
from phantomband_cli.sim.gossip.scenario import Lie, Scenario
from phantomband_cli.sim.gossip.world import World

SMALL = Scenario(directories=24, renewed=300.0, warm_up=30.0, seconds=120.0, settle=150.0)


def figures(scenario: Scenario) -> dict[str, float]:
    return {key: value for key, value in World(scenario).run().figures().items() if not isinstance(value, list)}


def test_a_seed_gives_the_same_figures_each_time() -> None:
    attacked = replace(SMALL, malicious=0.25, seed=3)
    assert figures(attacked) == figures(attacked)
    assert figures(attacked) != figures(replace(attacked, seed=4))


def test_every_record_comes_to_every_honest_directory() -> None:
    measured = World(SMALL).run()
    assert len(measured.spreads) >= 5
    for spread in measured.spreads:
        assert spread.missing == set()
        assert spread.reached[0.5] <= spread.reached[0.99] <= spread.reached[1.0] <= 100.0


@pytest.mark.parametrize("lie", list(Lie))
def test_records_come_everywhere_whatever_a_quarter_says(lie: Lie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phantomband_cli.sim.gossip.world.LIES", (lie,))
    found = figures(replace(SMALL, malicious=0.25))
    assert found["records"] >= 3
    assert found["reached_100"] == 1.0
    assert (found["rejected_a_node_a_minute"] > 0) == (lie is Lie.JUNK)


def test_more_meetings_are_sooner_everywhere() -> None:
    often, seldom = figures(replace(SMALL, period=5.0)), figures(replace(SMALL, period=20.0))
    assert often["seconds_99_p50"] < seldom["seconds_99_p50"]


def test_a_meeting_costs_no_more_than_its_rounds_and_records() -> None:
    found = figures(replace(SMALL, malicious=0.25, median_session=600.0))
    records = 2 * pieces(SMALL.fetches * RECORD_BYTES)
    meeting = found["rounds_a_meeting"] * (pieces(MAX_REQUEST_BYTES) + pieces(MAX_REPLY_BYTES)) + records + 3
    assert 0 < found["bytes_a_node_a_minute"] <= 2 * found["meetings_a_node_a_minute"] * meeting * CELL_BYTES


def test_a_newcomer_gets_all_records() -> None:
    measured = World(replace(SMALL, median_session=120.0)).run()
    assert len(measured.joins) > 5
    assert measured.figures()["join_seconds_p50"] < 60.0


def test_who_gives_one_bad_record_is_left_and_what_came_before_stays() -> None:
    registry = Registry(signed=True)
    good = [registry.make(NodeId(bytes([at]) * 32), 1, 0.0) for at in range(3)]
    bad = registry.make_up(good[0].key, 9, 0.0)
    assert verified([good[0], bad, good[1]], registry) == ([good[0]], True)
    assert verified(good, registry) == (good, False)


def test_a_member_keeps_the_newest_and_gives_what_it_holds() -> None:
    registry = Registry(signed=True)
    old, new = (registry.make(NodeId(b"\x01" * 32), version, 0.0) for version in (1, 2))
    member = Member(b"\x02" * 32, 0.02, 0.0)
    assert member.take(new)
    assert not member.take(old)
    (held,) = member.items.within(bytes(56), b"\xff" * 56)
    assert member.give([held, b"\x05" * 56]) == [new]
