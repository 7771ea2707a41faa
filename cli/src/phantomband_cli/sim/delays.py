"""How long messages take between two directories."""

from __future__ import annotations

import random

ACCESS_MEDIAN = 0.02
ACCESS_SIGMA = 0.6
"""Seconds from a directory to the middle of the net: lognormal. One way between two is the sum. Medians of
40 ms one way, 80 ms there and back, are of the order that
measurements between hosts of the Internet give (King data set, 2002)."""


def access(dice: random.Random) -> float:
    """Seconds from a new directory to the middle of the net."""
    return dice.lognormvariate(0.0, ACCESS_SIGMA) * ACCESS_MEDIAN


def one_way(here: float, there: float, dice: random.Random) -> float:
    """Seconds from one to the other, with some jitter."""
    return (here + there) * (0.9 + 0.2 * dice.random())
