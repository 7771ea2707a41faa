"""The adversary: certain where it must be, at chance where nothing is to be known; its measures on paper."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest
from phantomband.runtime.settings import MixerSection
from phantomband_cli.sim.correlate import Correlator
from phantomband_cli.sim.metrics import mean, median, times_to_link, top1, true_positives
from phantomband_cli.sim.network import Scenario, Seen
from phantomband_cli.sim.plan import STEPS
from phantomband_cli.sim.run import attack, simulate

EASY = Scenario(flows=12, seconds=30.0)


def test_without_mixing_every_flow_is_linked() -> None:
    sample = attack(simulate(EASY, MixerSection(), 1), MixerSection(), EASY.seconds)
    assert sample.top1 == 1.0
    assert sample.true_positives[0.01] == 1.0
    assert max(sample.times_to_link) < EASY.seconds


def test_shuffled_labels_are_linked_by_chance() -> None:
    """A random permutation has one fixed point on average, with variance one."""
    outcome = simulate(EASY, MixerSection(), 1)
    scores = Correlator(0.1, 0.5).scores(outcome.clients, outcome.servers, EASY.seconds)
    random, draws = Random(3), 400
    got = fmean(top1(scores, random.sample(range(EASY.flows), EASY.flows)) for _ in range(draws))
    assert got == pytest.approx(1 / EASY.flows, abs=4 / EASY.flows / math.sqrt(draws))


def test_flows_that_look_alike_are_linked_by_chance() -> None:
    """Constant rates: every pair scores the same, and the credit is shared."""
    steady = Seen([(i / 10, 2048) for i in range(100)], [(i / 10, 2048) for i in range(100)])
    scores = Correlator(0.1, 0.5).scores([steady] * 8, [steady] * 8, 10.0)
    assert top1(scores, range(8)) == pytest.approx(1 / 8)
    assert true_positives(scores, range(8), 0.1) == 0.0


def test_the_lag_search_finds_a_delay() -> None:
    random = Random(1)
    up = [(random.uniform(0, 50), 2048) for _ in range(40)]
    late = [(when + 0.7, 500) for when, _ in up]
    client, server = Seen(sorted(up), []), Seen(sorted(late), [])
    assert Correlator(0.1, 1.0).scores([client], [server], 60.0)[0][0] == pytest.approx(0.5, abs=0.1)
    assert Correlator(0.1, 0.2).scores([client], [server], 60.0)[0][0] < 0.2


def test_the_correlator_fits_the_network() -> None:
    assert Correlator.tuned([]) == Correlator.tuned([0.1] * 10) == Correlator(0.1, 0.5)
    assert Correlator.tuned([2.0] * 8 + [4.0] * 2) == Correlator(1.0, 4.0)
    assert Correlator.tuned([2.0], 0.75) == Correlator(0.75, 2.0)
    assert Correlator.tuned([2.0], 0.04) == Correlator(pytest.approx(0.12), 2.0)


def test_what_was_not_watched_yet_is_not_used() -> None:
    client, server = Seen([(5.0, 2048)], []), Seen([(5.0, 100)], [])
    assert Correlator(0.1, 0.5).scores([client], [server], 4.0) == [[0.0]]


SCORES = [[0.9, 0.2, 0.1], [0.3, 0.5, 0.8], [0.4, 0.4, 0.4]]


def test_top1_shares_ties() -> None:
    assert top1(SCORES, range(3)) == pytest.approx((1 + 0 + 1 / 3) / 3)


def test_true_positives_at_a_rate() -> None:
    """Wrong pairs: 0.8 0.4 0.4 0.3 0.2 0.1. One of six let through: the threshold is 0.4, and 0.9 and 0.5 are above."""
    assert true_positives(SCORES, range(3), 1 / 6) == pytest.approx(2 / 3)
    assert true_positives(SCORES, range(3), 0.1) is None


def test_time_to_link_is_when_it_holds_from_then_on() -> None:
    good, bad = [[1.0, 0.0]], [[0.0, 1.0]]
    assert times_to_link([(1.0, good), (2.0, bad), (3.0, good), (4.0, good)], [0]) == [3.0]
    assert times_to_link([(1.0, good), (2.0, bad)], [0]) == [math.inf]


def test_estimates_over_seeds() -> None:
    same = mean([[0.5]] * 5)
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5)
    spread = mean([[x / 20] for x in range(21)])
    assert spread.low is not None
    assert spread.high is not None
    # The mean of 21 values that are uniform over 0..1 has a standard error of 0.066.
    assert 0.5 - spread.low == pytest.approx(1.96 * 0.066, rel=0.25)
    assert spread.high - 0.5 == pytest.approx(1.96 * 0.066, rel=0.25)
    never = median([[1.0, math.inf, math.inf]])
    assert never.value is None
    assert mean([[], []]).value is None


def test_steps_are_fine_enough_for_the_easy_case() -> None:
    assert EASY.seconds / STEPS < 5.0
