"""Intersection over days: each time the server is used, who of all users was there? Those not there are ruled out.

Needs no look into the network at all. It works against users who come and go as they please, whatever mixing does, and
gets nowhere against those who are always there.
"""

from __future__ import annotations

import math

import numpy as np

from phantomband_cli.sim.adversaries.base import Floats


def expected(users: int, online: float, visits: int) -> float:
    """Users left after so many visits, on average, if each is there by chance with probability `online`."""
    return 1 + (users - 1) * online**visits


def visits_needed(users: int, online: float) -> float:
    """Visits after which on average one other user is left; infinity if all are always there."""
    return math.inf if online >= 1 else max(0.0, math.log(users - 1) / -math.log(online))


def simulated(users: int, online: float, visits: int, seed: int) -> Floats:
    """Users left after each visit, the one who visits included."""
    rng = np.random.default_rng(seed)
    left = np.ones(users, dtype=np.bool_)
    out = np.zeros(visits)
    for visit in range(visits):
        left[1:] &= rng.random(users - 1) < online
        out[visit] = left.sum()
    return out


def visits_to_link(left: Floats) -> float:
    """The first visit after which nobody else is left; infinity: not among these."""
    alone = np.flatnonzero(left == 1)
    return float(alone[0] + 1) if alone.size else math.inf
