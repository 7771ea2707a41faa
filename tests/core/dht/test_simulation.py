"""The machines in a simulated network: the same for each seed, found by all, and worse without their defences."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from phantomband.core.ids import NodeId
from phantomband_cli.sim.dht.aim import closest_distances, sybils
from phantomband_cli.sim.dht.measures import Measures, percentile, wilson
from phantomband_cli.sim.dht.population import Addresses, Directory
from phantomband_cli.sim.dht.scenario import DEFENCES, Aim, Lie, Scenario, without
from phantomband_cli.sim.dht.stand_ins import Registry
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


def test_chosen_ids_are_as_close_as_so_many_keys_give() -> None:
    dice = random.Random(2)
    near = [closest_distances(8, 1 << 20, dice) for _ in range(200)]
    assert all(each == sorted(each) for each in near)
    assert sum(each[0] for each in near) / 200 / (1 << 236) == pytest.approx(1.0, rel=0.3)
    assert sum(each[7] for each in near) / 200 / (1 << 236) == pytest.approx(8.0, rel=0.1)


def test_sybils_surround_a_directory_from_the_networks_they_have() -> None:
    scenario = replace(SMALL, aim=Aim.DIRECTORY, sybil_networks=5)
    target = random.Random(3).getrandbits(256)
    made = sybils(target, scenario, Addresses(random.Random(3), 5), random.Random(4))
    assert len({contact.far for contact in made}) == 5
    bits = {(contact.number ^ target).bit_length() for contact in made}
    assert {256, 255, 250, 245} <= bits
    assert sum((contact.number ^ target) < 1 << 244 for contact in made) >= 64


def test_a_key_is_hidden_by_those_who_have_networks_enough() -> None:
    at_key = replace(SMALL, aim=Aim.KEY, victims=4, sybil_networks=4)
    few, no_limits = run(at_key), run(without(at_key, "prefixes"))
    assert few.found / few.searches > 0.9
    assert wilson(no_limits.found, no_limits.searches)[1] < 0.7
    assert len(few.by_victim) <= 4
    assert sum(map(len, few.by_victim.values())) == few.searches


def test_live_contacts_that_stay_keep_sybils_out_of_a_table() -> None:
    surrounded = replace(SMALL, aim=Aim.DIRECTORY, victims=4, sybil_networks=16)
    kept, replaced = run(surrounded), run(without(surrounded, "keeping"))
    assert kept.captured < replaced.captured


def test_impostors_need_directories_that_ask_for_no_proof() -> None:
    impostors = replace(SMALL, malicious=0.3, lies=(Lie.IMPERSONATE,), searches=200)
    proved, unproved = run(impostors), run(without(impostors, "proofs"))
    assert proved.found > unproved.found


def test_replayed_records_are_genuine_and_older() -> None:
    registry = Registry(signed=True)
    assert registry.old(bytes(32), 5.0) is None
    record = registry.make(NodeId(b"\x07" * 32), 1, 5.0)
    old = registry.old(record.key, 6.0)
    assert old is not None
    assert (old.key, old.version) == (record.key, 0)
    assert registry.verify(old.encoded) == old
