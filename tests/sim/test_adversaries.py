"""Each adversary: right where there is something to find, at chance where there is nothing; forms beside draws."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.timed import TimedMixing
from phantomband_cli.sim import measures
from phantomband_cli.sim.adversaries import capture, flooding, intersection
from phantomband_cli.sim.adversaries.base import Adversary, Observation, of_run
from phantomband_cli.sim.adversaries.edges import Edges
from phantomband_cli.sim.adversaries.ends import Ends, best, unit
from phantomband_cli.sim.adversaries.everywhere import IMPOSSIBLE, Everywhere
from phantomband_cli.sim.adversaries.fingerprint import accuracy, judged
from phantomband_cli.sim.adversaries.kill import Kill
from phantomband_cli.sim.adversaries.ladder import CELL_BYTES, Ladder, rungs
from phantomband_cli.sim.adversaries.learned import Learned
from phantomband_cli.sim.adversaries.watermark import Watermark
from phantomband_cli.sim.experiments import passive
from phantomband_cli.sim.fast.model import Model
from phantomband_cli.sim.fast.world import Attack, World
from phantomband_cli.sim.profiles import Profile, balanced, fast, mixing, strong

SECONDS = 30.0
FLOWS = 24


def seen(profile: Profile, copies: int = 2, **changes: object) -> list[Observation]:
    world = replace(World(profile, flows=FLOWS, nodes=6, copies=copies, seconds=SECONDS), **changes)
    run = Model(world, 1).run()
    return [of_run(run, copy) for copy in range(copies)]


def found(adversary: Adversary, watched: list[Observation]) -> float:
    return float(np.mean([measures.top1(adversary.scores(one, SECONDS)) for one in watched]))


FIXED_RATE = pytest.param(strong(), marks=pytest.mark.slow)


def test_the_watchers_link_everything_without_mixing() -> None:
    watched = seen(fast(), 2)
    assert found(Ends(), watched) > 0.95
    assert found(Everywhere(), watched) > 0.95


def test_the_watchers_link_nothing_when_links_never_vary() -> None:
    """Two networks of 24: by chance 2 of 48 are right, with a deviation of 1.4."""
    assert found(Ends(), seen(strong(), 2)) < 8 / 48


@pytest.mark.slow
def test_who_learns_links_everything_without_mixing_and_nothing_when_links_never_vary() -> None:
    for profile, low, high in ((fast(), 0.95, 1.0), (strong(), 0.0, 12 / 96)):
        watched = seen(profile, 6)
        assert low <= found(Learned(watched[:2], SECONDS), watched[2:]) <= high


def test_a_ladder_that_follows_the_load_tells_what_the_load_was() -> None:
    """The plain correlator finds little against dummies; replaying the public rules finds most in half a minute."""
    watched = seen(balanced(), 2)
    assert found(Ends(), watched) < 0.5
    assert found(Ladder(), watched) > 0.7


def test_the_ladder_finds_nothing_where_rates_never_vary() -> None:
    watched = seen(strong(), 2)
    assert found(Ladder(), watched) < 8 / 48


def test_a_link_climbs_when_the_replayed_queue_says_so() -> None:
    """By hand: 40 cells' worth at 1 s are over the mark of the lowest step (one cell), so the link climbs then."""
    one = seen(fast(), 1)[0]
    bins, at = 40, round(1.0 / one.bin)
    down = np.full((2, bins), 8 * one.bin)
    down[0, at + 1 :], down[1, 2 * at + 1 :] = 32 * one.bin, 32 * one.bin
    sent = np.zeros((2, bins))
    sent[0, at], sent[1, 2 * at] = 40 * CELL_BYTES, 40 * CELL_BYTES
    by_hand = replace(one, client_down=down, server_down=sent, client_up=down, server_up=sent)
    scores = Ladder().scores(by_hand, bins * one.bin)
    assert (scores[0, 0], scores[1, 1]) == (pytest.approx(1.0, abs=0.35), pytest.approx(1.0, abs=0.35))
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]
    assert rungs(np.array([[1.0, 4.0, 16.0, 64.0, 0.0]]) * 8 * one.bin, one.bin).tolist() == [[0, 1, 2, 3, 0]]


@pytest.mark.parametrize("profile", [fast(), FIXED_RATE])
def test_a_guard_that_delays_links_even_at_a_fixed_rate(profile: Profile) -> None:
    """Two networks of 24, a minute: by chance 2 of 48."""
    run = Model(delaying(profile), 1).run()
    watched = [of_run(run, copy) for copy in range(2)]
    assert np.mean([measures.top1(Watermark().scores(one, 60.0)) for one in watched]) > 0.25
    others = [replace(one, codes=np.roll(one.codes, 1, axis=0)) for one in watched]
    assert np.mean([measures.top1(Watermark().scores(one, 60.0)) for one in others]) < 8 / 48


def delaying(profile: Profile) -> World:
    attack = Attack(period=2.0)
    return World(profile, flows=FLOWS, nodes=6, copies=2, seconds=60.0, attack=attack, watch_nodes=False)


@pytest.mark.parametrize("profile", [fast(), FIXED_RATE])
def test_a_guard_that_kills_links_even_at_a_fixed_rate(profile: Profile) -> None:
    watched = seen(profile, attack=Attack(kill=True))
    assert found(Kill(), watched) > 0.7
    assert found(Kill(), [replace(one, kills=one.kills[::-1]) for one in watched]) < 0.25


@pytest.mark.slow
def test_start_and_end_link_even_at_a_fixed_rate() -> None:
    assert found(Edges(), seen(strong(), sessions=SECONDS / 4)) > 0.4


def test_who_watches_all_links_rules_out_the_clients_own_guard() -> None:
    one = seen(fast(), 1)[0]
    scores = Everywhere().scores(one, SECONDS)
    assert (scores[one.guards[:, None] == one.exits[None, :]] <= IMPOSSIBLE).all()


def test_the_best_lag_is_found_and_no_shape_gives_no_score() -> None:
    rng = np.random.default_rng(1)
    before = rng.poisson(2.0, (3, 200)).astype(float)
    after = np.roll(before, 4, axis=1)
    a, b = unit(before, 1, centred=True), unit(after, 1, centred=True)
    assert np.diagonal(best(a, b, 5)).min() > 0.9
    assert best(a, b, 2).max() < 0.5
    assert (unit(np.full((2, 50), 7.0), 1, centred=True) == 0).all()


def test_fingerprinting_names_sites_and_is_at_chance_on_a_fixed_rate() -> None:
    world = World(mixing("none"), flows=100, nodes=12, copies=1, seconds=10.0, sites=5, bin_steps=2, watch_nodes=False)
    assert min(accuracy(Model(world, 1).run(), 0)) > 0.6
    rates = accuracy(Model(replace(world, profile=strong()), 1).run(), 0)
    # 50 visits are judged; by chance ten are right, with a deviation of 2.8.
    assert max(rates) < (10 + 4 * 2.9) / 50


def test_the_classifiers_find_nothing_in_noise() -> None:
    rng = np.random.default_rng(1)
    site = np.arange(400) % 4
    rates = judged(rng.random((400, 20)), site, np.arange(400) // 4 % 2 == 0)
    assert max(rates) < 0.25 + 4 * (0.25 * 0.75 / 200) ** 0.5


def test_path_capture_is_as_its_formula_says() -> None:
    drawn = np.array([capture.simulated(40, 8, 10, 500, seed) for seed in range(10)])
    for measured, formula in zip(drawn.T, (capture.one_circuit(40, 8), capture.ever(40, 8, 10))):
        assert measured.mean() == pytest.approx(formula, abs=4 * (formula * (1 - formula) / 5000) ** 0.5)


def test_intersection_is_as_its_formula_says() -> None:
    left = np.array([intersection.simulated(1000, 0.5, 12, seed) for seed in range(50)])
    for visit in (1, 4, 8):
        want = intersection.expected(1000, 0.5, visit)
        assert left[:, visit - 1].mean() == pytest.approx(want, abs=4 * (want / 50) ** 0.5)
    assert intersection.visits_to_link(intersection.simulated(1000, 1.0, 50, 1)) == math.inf
    assert intersection.visits_needed(1000, 1.0) == math.inf
    assert intersection.visits_to_link(np.array([5.0, 2.0, 1.0])) == 3.0


def test_n_minus_1_finds_the_cell_that_the_batch_holds() -> None:
    def tried(make: object, honest: float, *, block: bool) -> float:
        trials = [flooding.trial(make, honest, 500.0 * block, str(i), block=block) for i in range(25)]
        return flooding.success(trials, block=block)

    assert tried(lambda random: NoMixing(), 100.0, block=True) == 1.0
    # A batch of 50 ms at 400 cells/s holds up to 20 others when the target comes, 10 on average.
    timed = tried(lambda random: TimedMixing(0.05, 1 << 17, random), 400.0, block=True)
    assert 0.05 < timed < 0.45
    # About Poisson(20) others are held, each as likely: E[1 / (n + 1)] = (1 - exp(-20)) / 20.
    exponential = tried(lambda random: PoissonMixing(0.05, 1 << 17, random), 400.0, block=True)
    assert exponential == pytest.approx(0.05, abs=0.015)


def test_measures_on_paper() -> None:
    scores = np.array([[0.9, 0.2, 0.1], [0.3, 0.5, 0.8], [0.4, 0.4, 0.4]])
    assert measures.top1(scores) == pytest.approx((1 + 0 + 1 / 3) / 3)
    assert measures.true_positives(scores, 1 / 6) == pytest.approx(2 / 3)
    assert measures.true_positives(scores, 0.1) is None
    assert measures.top1(scores[:1]) == 1.0
    good, bad = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    assert measures.times_to_link([(1.0, good), (2.0, bad), (3.0, good), (4.0, good)]) == [3.0]
    assert measures.times_to_link([(1.0, good), (2.0, bad)]) == [math.inf]


def test_entropy_is_all_for_who_knows_nothing_and_none_for_who_knows() -> None:
    rng = np.random.default_rng(1)
    noise = [rng.random((32, 32)) for _ in range(6)]
    shannon, least = measures.entropies(noise)
    assert np.mean(shannon) == pytest.approx(5.0, abs=0.1)
    assert np.mean(least) > 4.0
    certain = [x + 50 * np.eye(32) for x in noise]
    assert max(measures.entropies(certain)[0]) < 0.01


def test_an_experiment_gives_rows_with_intervals() -> None:
    world = World(fast(), flows=12, nodes=5, copies=3, seconds=10.0)
    rows = passive(world, 1, (5.0, 10.0), learn=False)
    assert [(row["adversary"], row["watched"]) for row in rows] == [
        ("guard and exit", 5.0),
        ("all links", 5.0),
        ("guard and exit", 10.0),
        ("all links", 10.0),
    ]
    for row in rows:
        top1 = row["top1"]
        assert 0 <= top1["low"] <= top1["value"] <= top1["high"] <= 1
        assert row["tpr_0.0001"]["value"] is None
        assert row["first_byte"]["value"] > 0.1
