"""The machines in a simulated network: the same for each seed, found by all, and worse without their defences."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from phantomband_cli.sim.dht.measures import Measures, percentile, wilson
from phantomband_cli.sim.dht.population import Addresses, Directory
from phantomband_cli.sim.dht.scenario import DEFENCES, Scenario, without
from phantomband_cli.sim.dht.world import World

SMALL = Scenario(directories=80, warm_up=120.0, seconds=60.0, searches=60)


def run(scenario: Scenario) -> Measures:
    return World(scenario).run()


def test_a_seed_gives_the_same_figures_each_time() -> None:
    attacked = replace(SMALL, malicious=0.2, sybils=2.0, seed=5)
    once, again, other = run(attacked), run(attacked), run(replace(attacked, seed=6))
    assert once.figures() == again.figures()
    assert once.cells != other.cells


def test_honest_directories_find_what_others_published() -> None:
    measured = run(SMALL)
    assert measured.searches == SMALL.searches
    assert measured.found == SMALL.searches


def test_liars_and_sybils_do_less_against_the_defences() -> None:
    attacked = replace(SMALL, malicious=0.2, sybils=10.0, sybil_networks=4)
    with_all, with_none = run(attacked), run(without(attacked, "all"))
    assert wilson(with_all.found, with_all.searches)[0] > wilson(with_none.found, with_none.searches)[1]
    assert with_all.found / with_all.searches > 0.85


@pytest.mark.parametrize("name", DEFENCES)
def test_a_defence_is_switched_off_alone(name: str) -> None:
    off = without(SMALL, name)
    assert off != SMALL
    changed = [each for each in DEFENCES if without(off, each) == off]
    assert changed == [name]


def test_the_closest_of_a_directory_are_the_closest() -> None:
    dice = random.Random(1)
    people = [Addresses(dice, 1).anywhere() for _ in range(300)]
    everyone = Directory(people)
    for _ in range(50):
        target = dice.getrandbits(256)
        assert everyone.closest(target, 9) == sorted(people, key=lambda one: one.number ^ target)[:9]
    everyone.remove(people[0])
    assert len(everyone) == 299
    assert people[0] not in everyone.closest(people[0].number, 299)


def test_intervals_hold_their_proportion() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(95, 100)
    assert low == pytest.approx(0.8883, abs=1e-3)
    assert high == pytest.approx(0.9785, abs=1e-3)
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([], 0.5) == 0
