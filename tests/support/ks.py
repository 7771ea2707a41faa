"""Kolmogorov-Smirnov tests: the largest distance between two distributions, and how likely it is by chance.

Asymptotic: Smirnov, Table for estimating the goodness of fit, 1948; good from some dozens of samples on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def distance_between(one: Sequence[float], other: Sequence[float]) -> float:
    """The two-sample statistic."""
    a, b = sorted(one), sorted(other)
    i = j = 0
    found = 0.0
    while i < len(a) and j < len(b):
        value = min(a[i], b[j])
        while i < len(a) and a[i] == value:
            i += 1
        while j < len(b) and b[j] == value:
            j += 1
        found = max(found, abs(i / len(a) - j / len(b)))
    return found


def distance_from(sample: Sequence[float], distribution: Callable[[float], float]) -> float:
    """The one-sample statistic: how far a sample is from a distribution function."""
    n = len(sample)
    found = 0.0
    for i, x in enumerate(sorted(sample)):
        wanted = distribution(x)
        found = max(found, (i + 1) / n - wanted, wanted - i / n)
    return found


def chance(distance: float, effective: float) -> float:
    """The probability of such a distance or a larger one. Args: effective: n, or n m / (n + m) of two samples."""
    scaled = distance * math.sqrt(effective)
    if scaled < 0.2:
        return 1.0
    terms = ((-1) ** (j - 1) * math.exp(-2 * (j * scaled) ** 2) for j in range(1, 101))
    return min(1.0, max(0.0, 2 * sum(terms)))


def two_samples(one: Sequence[float], other: Sequence[float]) -> float:
    """The probability of what was seen if both samples are of one distribution."""
    return chance(distance_between(one, other), len(one) * len(other) / (len(one) + len(other)))
