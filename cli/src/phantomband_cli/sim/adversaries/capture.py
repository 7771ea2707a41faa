"""Path capture: the adversary runs a fraction of the nodes, and links a circuit when guard and exit are its own."""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.network import HOPS


def one_circuit(nodes: int, corrupt: int) -> float:
    """Chance that guard and exit of a random path of different nodes are both corrupt: about the fraction squared."""
    return corrupt * (corrupt - 1) / (nodes * (nodes - 1))


def ever(nodes: int, corrupt: int, circuits: int) -> float:
    """Chance that one of so many circuits behind one lasting guard is caught: by a corrupt guard and an exit."""
    return corrupt / nodes * (1 - (1 - (corrupt - 1) / (nodes - 1)) ** circuits)


def simulated(nodes: int, corrupt: int, circuits: int, users: int, seed: int) -> tuple[float, float]:
    """Shares of users whose first circuit, and of whom any circuit, is caught."""
    rng = np.random.default_rng(seed)
    guard = rng.integers(0, nodes, users)
    draw = rng.random((users, circuits, nodes))
    np.put_along_axis(draw, guard[:, None, None], 2.0, axis=2)
    rest = np.argpartition(draw, HOPS - 1, axis=2)[:, :, : HOPS - 1]
    caught = (guard < corrupt)[:, None] & (rest[:, :, 0] < corrupt)
    return float(caught[:, 0].mean()), float(caught.any(axis=1).mean())
