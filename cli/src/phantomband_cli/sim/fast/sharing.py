"""Exact shares: a number of cells for each link or node, divided among the circuits there (systematic sampling)."""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.fast.world import Ints


class Sharing:
    """Divides what a link, or a node, may send among the circuits that wait there, in proportion to their cells."""

    def __init__(self, owner_of: Ints, owners: int) -> None:
        """Args: owner_of: for each circuit the link or node where it waits."""
        self._order = np.argsort(owner_of, kind="stable")
        self._owner_of = owner_of
        self._owners = owners
        self._sorted = owner_of[self._order]
        self._starts = np.searchsorted(self._sorted, np.arange(owners))

    def waiting(self, cells: Ints) -> Ints:
        """Cells at each."""
        return np.bincount(self._owner_of, weights=cells, minlength=self._owners).astype(np.int32)

    def share(self, cells: Ints, waiting: Ints, budget: Ints, rng: np.random.Generator) -> Ints:
        """Cells of each circuit that go: at each link or node the smaller of `waiting` and `budget`, exactly."""
        part = np.minimum(1.0, budget / np.maximum(waiting, 1))
        queue = cells[self._order]
        after = np.cumsum(queue)
        base = np.concatenate(([0], after))[self._starts]
        offset = rng.random(self._owners)[self._sorted]
        scale = part[self._sorted]
        upto = np.floor((after - base[self._sorted]) * scale + offset + 1e-9)
        before = np.floor((after - queue - base[self._sorted]) * scale + offset + 1e-9)
        out = np.empty_like(cells)
        out[self._order] = upto - before
        return out
