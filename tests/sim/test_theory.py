"""Mixers against closed forms: the exponential mix's entropy, the pool's recursion and entropy; real and counted."""

from __future__ import annotations

import numpy as np
import pytest
from phantomband.runtime.settings import MixerSection
from phantomband_cli.sim.fast.mixers import mixers
from phantomband_cli.sim.fast.world import STEP
from phantomband_cli.sim.metrics import mean
from phantomband_cli.sim.theory import (
    exponential_entropy,
    exponential_formula,
    pool_entropy,
    pool_formula,
    pool_held,
    pool_recursion,
)

SEEDS = range(1, 21)


def close(drawn: list[float], formula: float) -> None:
    """Within four standard errors over the seeds: about one test in 10,000 fails by chance; and not far off besides."""
    error = np.std(drawn, ddof=1) / len(drawn) ** 0.5
    assert np.mean(drawn) == pytest.approx(formula, abs=4 * error + 1e-9)
    assert error < 0.01 * formula


def test_the_exponential_mix_has_the_entropy_of_a_poisson_number_of_cells() -> None:
    close([exponential_entropy(200.0, 0.1, seed, 3.0) for seed in SEEDS], exponential_formula(200.0, 0.1))


def test_the_formula_for_many_cells_is_their_logarithm() -> None:
    assert exponential_formula(1e4, 1.0) == pytest.approx(np.log2(1e4), abs=1e-3)
    assert exponential_formula(1e-6, 1.0) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(("minimum", "fraction", "arrivals"), [(32, 0.5, 21), (10, 0.3, 7)])
def test_the_pool_follows_its_recursion(minimum: int, fraction: float, arrivals: int) -> None:
    held = np.array([pool_held(minimum, fraction, arrivals, 25, seed) for seed in range(80)], dtype=float)
    want = pool_recursion(minimum, fraction, arrivals, 25)
    error = held.std(axis=0, ddof=1) / len(held) ** 0.5
    # Rounding at random is exact in the mean, but at the very first ticks above the minimum.
    assert np.all(np.abs(held.mean(axis=0) - want) <= 4 * error + 0.05)
    assert want[-1] == pytest.approx(minimum + arrivals / fraction, rel=0.01)


def test_the_pools_entropy_is_serjantovs_and_danezis() -> None:
    close([pool_entropy(32, 0.5, 20, seed, 200) for seed in SEEDS], pool_formula(32, 0.5, 20))


def test_the_pools_formula_is_that_of_the_paper() -> None:
    """N messages a round, n kept: (1 + n/N) log2(N + n) - (n/N) log2(n)."""
    arrivals, kept = 20, 32 + 20 / 0.5 - 20
    paper = (1 + kept / arrivals) * np.log2(arrivals + kept) - kept / arrivals * np.log2(kept)
    assert pool_formula(32, 0.5, arrivals) == pytest.approx(paper)


def test_the_vectorised_pool_holds_what_the_recursion_says() -> None:
    """40 nodes with one circuit each, one cell a step: the mean over nodes and time."""
    interval, minimum, fraction, nodes = 12 * STEP, 8, 0.5, 40
    section = MixerSection.model_validate(
        {"strategy": "pool", "interval": interval, "pool_minimum": minimum, "pool_fraction": fraction, "max_wait": 60.0}
    )
    pool = mixers(section, np.arange(nodes)[None, :], np.random.default_rng(1))
    one = np.ones((1, nodes), dtype=np.int32)
    held = []
    for step in range(600):
        pool.step(step, one)
        if step > 200:
            held.append(pool.held.mean())
    # Between two ticks it grows from m + a (1 / f - 1) to m + a / f; the phases of the nodes are spread evenly.
    assert np.mean(held) == pytest.approx(minimum + 12 / fraction - 6, rel=0.02)


def test_the_vectorised_exponential_mix_holds_littles_number() -> None:
    circuits, mean_delay, steps = 4000, 0.1, 400
    section = MixerSection.model_validate({"strategy": "poisson", "mean_delay": mean_delay})
    rng = np.random.default_rng(2)
    mix = mixers(section, np.zeros((1, circuits), dtype=np.int32), rng)
    held = []
    for step in range(steps):
        # So rarely that hardly any cell waits for one before it in its circuit.
        mix.step(step, (rng.random((1, circuits)) < 0.002).astype(np.int32))
        if step > 100:
            held.append(float(mix.held.sum()))
    estimate = mean([[x] for x in held[::20]])
    assert estimate.value == pytest.approx(circuits * 0.002 / STEP * mean_delay, rel=0.07)
