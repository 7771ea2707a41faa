"""Website fingerprinting: who sees one client's link guesses which of some known sites it loads.

Features as in CUMUL (Panchenko et al., 2016): the running sum of cells, those towards the client minus those from it,
at evenly spread points of the visit, and beside it totals and times. Classifiers: a random forest and k nearest
neighbours (scikit-learn), trained on half of the visits. A closed world, known beginnings, one page at a time: all
in the attacker's favour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from phantomband_cli.sim.adversaries.base import Floats, Ints
from phantomband_cli.sim.fast.world import Run

POINTS = 60
TREES = 100
NEIGHBOURS = 3


def features(up: Floats, down: Floats) -> Floats:
    """(visits, features) of cells by bin, (visits, bins)."""
    total = up.shape[1]
    at = np.linspace(0, total - 1, POINTS).astype(np.int64)
    sums = np.cumsum(down, axis=1), np.cumsum(up, axis=1)
    busy = (up + down) > 0
    first, last = busy.argmax(axis=1), total - 1 - busy[:, ::-1].argmax(axis=1)
    totals = [sums[0][:, -1], sums[1][:, -1], last - first, busy.sum(axis=1), down.max(axis=1)]
    # From the first cell on, so that the moment of the click does not matter.
    moved = np.minimum(first[:, None] + at[None, :], total - 1)
    curves = [np.take_along_axis(s, moved, axis=1) for s in sums]
    return np.concatenate([curves[0] - curves[1], *curves, np.stack(totals, axis=1)], axis=1)


def accuracy(run: Run, copy: int) -> tuple[float, float]:
    """Share of the visits of one copy that forest and neighbours name right; guessing gives 1 / sites."""
    world = run.world
    rows = slice(copy * world.flows, (copy + 1) * world.flows)
    table = features(run.client_up[rows].astype(np.float64), run.client_down[rows].astype(np.float64))
    visit = np.arange(world.flows)
    return judged(table, visit % world.sites, visit // world.sites % 2 == 0)


def judged(table: Floats, site: Ints, train: NDArray[np.bool_]) -> tuple[float, float]:
    """Args: train: visits to learn from; the others are judged."""
    forest = RandomForestClassifier(TREES, random_state=1).fit(table[train], site[train])
    scale = StandardScaler().fit(table[train])
    near = KNeighborsClassifier(NEIGHBOURS).fit(scale.transform(table[train]), site[train])
    return (
        float(forest.score(table[~train], site[~train])),
        float(near.score(scale.transform(table[~train]), site[~train])),
    )
