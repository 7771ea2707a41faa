"""How well an adversary links: measures of a score matrix, and confidence intervals over seeds.

Intervals are 95% percentile bootstrap intervals over whole seeds (flows of one run share a network and are not
independent): seeds are drawn with replacement `RESAMPLES` times. Below about ten seeds they are too narrow; where every
seed gave the same value they have no width, which says that nothing varied, not that nothing can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, median_low
from typing import TypeVar

from phantomband_cli.sim.correlate import Scores

RESAMPLES = 1000
T = TypeVar("T")


def top1(scores: Scores, truth: Sequence[int]) -> float:
    """Share of clients whose own server has the best score; k servers at the top count as 1/k.

    Args: truth: truth[client] is the client's server.
    """
    return fmean(_first(row, truth[i]) for i, row in enumerate(scores))


def _first(row: Sequence[float], own: int) -> float:
    best = max(row)
    return 1.0 / row.count(best) if row[own] == best else 0.0


def true_positives(scores: Scores, truth: Sequence[int], false_positives: float) -> float | None:
    """Share of true pairs above the threshold that lets through at most this share of the wrong pairs.

    Returns: None if there are too few wrong pairs to know (less than one expected false positive).
    """
    wrong = sorted((s for i, row in enumerate(scores) for j, s in enumerate(row) if j != truth[i]), reverse=True)
    allowed = int(len(wrong) * false_positives + 1e-9)
    if not allowed:
        return None
    threshold = wrong[allowed]
    return fmean(float(row[truth[i]] > threshold) for i, row in enumerate(scores))


def times_to_link(by_time: Sequence[tuple[float, Scores]], truth: Sequence[int]) -> list[float]:
    """For each client the first time from which on its server is, alone, at the top; infinity for never.

    Args: by_time: (seconds watched, scores then), shortest first.
    """
    out = [math.inf] * len(truth)
    for i, own in enumerate(truth):
        for seconds, scores in reversed(by_time):
            if _first(scores[i], own) < 1.0:
                break
            out[i] = seconds
    return out


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95% interval; None stands for infinity (never), or for no sample."""

    value: float | None
    low: float | None
    high: float | None


def estimate(by_seed: Sequence[Sequence[float]], statistic: Callable[[Sequence[float]], float]) -> Estimate:
    """`statistic` of all samples, with a bootstrap interval over seeds."""
    used = [samples for samples in by_seed if samples]
    if not used:
        return Estimate(None, None, None)
    random = Random(1)
    drawn = sorted(statistic(_pooled(random.choices(used, k=len(used)))) for _ in range(RESAMPLES))
    tail = RESAMPLES // 40
    return Estimate(_finite(statistic(_pooled(used))), _finite(drawn[tail]), _finite(drawn[-tail - 1]))


def _pooled(by_seed: Sequence[Sequence[float]]) -> list[float]:
    return [x for samples in by_seed for x in samples]


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def mean(by_seed: Sequence[Sequence[float]]) -> Estimate:
    return estimate(by_seed, fmean)


def median(by_seed: Sequence[Sequence[float]]) -> Estimate:
    return estimate(by_seed, median_low)
