"""Pacing of links on counts: how many cells each link sends in a step, whether real ones wait or not."""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.fast.world import STEP, STEPS_PER_SECOND, Floats, Ints, Mask
from phantomband_cli.sim.profiles import Pacing


class Pacer:
    """Directions of links that are paced alike, each at a phase of its own. Only for a `kind` that is not `off`.

    The rules of `adaptive` are those of core/shaping/pacer.py; but that every slot of it is `slot` seconds long, and
    that the lowest rung never falls silent while the link has circuits.
    """

    def __init__(self, pacing: Pacing, count: int, rng: np.random.Generator) -> None:
        self._pacing, self._rng = pacing, rng
        self._slot = max(1, round(pacing.slot * STEPS_PER_SECOND))
        self._rates = np.array(pacing.ladder)
        self._rung = np.zeros(count, dtype=np.int32)
        self._phase: Floats = rng.random(count)
        self._credit: Floats = rng.random(count)
        """Parts of a cell that a rung with less than one cell a slot has saved."""
        self._below: Floats = np.zeros(count)
        """Cells that would wait on the rung below."""
        self._down_at: Floats = np.full(count, np.inf)
        """When the rung is left, in steps; infinity: it is needed."""

    def budget(self, step: int, waiting: Ints, active: Mask) -> Ints:
        """Cells that each link sends now, dummies for those that are not there; 0 for links that are not `active`."""
        rate = self._pacing.rate * STEP
        if self._pacing.kind == "poisson":
            return self._rng.poisson(rate, active.size).astype(np.int32) * active
        if self._pacing.kind == "constant":
            due = np.floor((step + 1) * rate + self._phase) - np.floor(step * rate + self._phase)
            return due.astype(np.int32) * active
        slot = ((step + (self._phase * self._slot).astype(np.int32)) % self._slot == 0) & active
        self._credit += np.where(slot, np.minimum(self._rates[self._rung] * self._pacing.slot, 1.0), 0.0)
        due = np.flatnonzero(slot & (self._credit >= 1.0))
        out = np.zeros_like(waiting)
        if due.size:
            self._credit[due] -= 1.0
            out[due] = self._adapt(due, waiting[due], step)
        return out

    def _adapt(self, due: Ints, waiting: Ints, step: int) -> Ints:
        """Moves these links' rungs. Returns: cells of their slots."""
        rung, backlog = self._rung[due], self._pacing.backlog
        climb = (waiting > self._rates[rung] * backlog) & (rung < self._rates.size - 1)
        rung = rung + climb
        cells = np.maximum(1.0, self._rates[rung] * self._pacing.slot)
        lower = self._rates[np.maximum(rung - 1, 0)]
        below = np.where(climb, 0.0, self._below[due]) + np.minimum(waiting, cells) - lower * cells / self._rates[rung]
        below = np.clip(below, 0.0, lower)
        needed = (below > lower * backlog) | (rung == 0)
        down_at = np.where(climb | needed, np.inf, self._down_at[due])
        start = ~needed & np.isinf(down_at)
        down_at[start] = step + self._stay(int(start.sum()))
        fall = ~needed & (step >= down_at)
        self._down_at[due] = np.where(fall, np.inf, down_at)
        self._below[due] = np.where(fall, 0.0, below)
        self._rung[due] = rung - fall
        out: Ints = cells.astype(np.int32)
        return out

    def _stay(self, count: int) -> Floats:
        return self._rng.exponential(self._pacing.mean_stay * STEPS_PER_SECOND, count)
