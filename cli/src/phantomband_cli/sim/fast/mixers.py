"""The mixing strategies on counts: the rules of `core.mixing`, for all circuits of all nodes at once.

A row is one of the five times that a flow's cells are mixed (`STAGES`), a column a flow: each is one circuit at one
mixer. Cells of a circuit keep their order, so a count is all there is to know. `tests/sim` compares each with the real
strategy. What is left out: the bound `max_cells`.

A strategy is asked once a step, with what arrived in that step; a cell comes at a random time within it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from phantomband.runtime.settings import MixerSection

from phantomband_cli.sim.fast.sharing import Sharing
from phantomband_cli.sim.fast.world import STEP, Floats, Ints

STAGES = ("guard up", "middle up", "exit down", "middle down", "guard down")
"""The mixers on a round trip: an exit hands data to its socket unmixed."""

LONGEST = 16.0
"""Times the mean that an exponential delay is cut at: one in ten million is longer."""


class Mixers(Protocol):
    """All mixers of one network."""

    held: Ints
    """(stages, flows)."""

    def step(self, step: int, arrived: Ints) -> Ints:
        """Takes what arrived in this step and gives what leaves in it; both (stages, flows)."""


def mixers(section: MixerSection, node_of: Ints, rng: np.random.Generator) -> Mixers:
    """Args: node_of: (stages, flows): the node that mixes there."""
    match section.strategy:
        case "none":
            return Through(node_of)
        case "threshold":
            return Threshold(section, node_of, rng)
        case "timed":
            return Timed(section.interval, node_of, rng)
        case "pool":
            return Pool(section, node_of, rng)
        case "poisson":
            return Poisson(section.mean_delay, node_of, rng)
        case "slots":
            return Slots(section.slot, node_of, rng)


class Through:
    """`none`."""

    def __init__(self, node_of: Ints) -> None:
        self.held: Ints = np.zeros(node_of.shape, dtype=np.int32)

    def step(self, step: int, arrived: Ints) -> Ints:
        return arrived


class _Clocks:
    """Each of some clocks ticks every `interval`, at a phase of its own."""

    def __init__(self, interval: float, count: int, rng: np.random.Generator) -> None:
        self._interval = interval / STEP
        self._phase: Floats = rng.random(count) * self._interval

    def ticks(self, step: int) -> tuple[Ints, Floats]:
        """How many ticks fall into this step, and where in it the last of them does, 0 to 1; 0 for none."""
        last = np.floor((step + 1 + self._phase) / self._interval)
        count = last - np.floor((step + self._phase) / self._interval)
        where = np.clip(last * self._interval - self._phase - step, 0.0, 1.0)
        return count.astype(np.int32), where * (count > 0)


class Timed:
    """At each tick all that came before it."""

    def __init__(self, interval: float, node_of: Ints, rng: np.random.Generator) -> None:
        self.held: Ints = np.zeros(node_of.shape, dtype=np.int32)
        self._clocks = _Clocks(interval, int(node_of.max()) + 1, rng)
        self._node_of, self._rng = node_of, rng

    def step(self, step: int, arrived: Ints) -> Ints:
        count, where = self._clocks.ticks(step)
        due = (count > 0)[self._node_of]
        early = _together(arrived, where[self._node_of], self._rng)
        out: Ints = np.where(due, self.held + early, 0).astype(np.int32)
        self.held += arrived - out
        return out


class Slots:
    """One cell of each circuit at each of its slots."""

    def __init__(self, slot: float, node_of: Ints, rng: np.random.Generator) -> None:
        self.held: Ints = np.zeros(node_of.shape, dtype=np.int32)
        self._clocks = _Clocks(slot, node_of.size, rng)
        self._rng = rng

    def step(self, step: int, arrived: Ints) -> Ints:
        count, where = self._clocks.ticks(step)
        shape = self.held.shape
        early = _together(arrived, where.reshape(shape), self._rng)
        out: Ints = np.minimum(count.reshape(shape), self.held + early).astype(np.int32)
        self.held += arrived - out
        return out


class Threshold:
    """Whole batches when there are enough; everything when the oldest has waited for `max_wait`."""

    def __init__(self, section: MixerSection, node_of: Ints, rng: np.random.Generator) -> None:
        self.held: Ints = np.zeros(node_of.shape, dtype=np.int32)
        self._count = section.threshold
        self._wait = section.max_wait / STEP
        nodes = int(node_of.max()) + 1
        self._oldest: Floats = np.full(nodes, np.inf)
        """When the oldest held cell of each node came, in steps."""
        self._sharing = Sharing(node_of.ravel(), nodes)
        self._node_of, self._rng = node_of, rng

    def step(self, step: int, arrived: Ints) -> Ints:
        old, new = self._sharing.waiting(self.held.ravel()), self._sharing.waiting(arrived.ravel())
        self._oldest[(new > 0) & np.isinf(self._oldest)] = step + 0.5
        full = (old + new) // self._count * self._count
        ready = full > 0
        # What a node has held is less than a batch, so the batches take it whole and the rest from what just came.
        fresh = self._sharing.share(arrived.ravel(), new, np.where(ready, full - old, 0), self._rng)
        out: Ints = self.held * ready[self._node_of] + fresh.reshape(arrived.shape)
        overdue = (step + 1 >= self._oldest + self._wait) & ~ready
        out += (self.held + arrived) * overdue[self._node_of]
        self.held += arrived - out
        left = (old + new - full) * ~overdue
        self._oldest[ready & (left > 0)] = step + 0.5
        self._oldest[left == 0] = np.inf
        return out


class Pool:
    """At each tick a share of what a node holds above its minimum; nothing is held for longer than `max_wait`."""

    def __init__(self, section: MixerSection, node_of: Ints, rng: np.random.Generator) -> None:
        self.held: Ints = np.zeros(node_of.shape, dtype=np.int32)
        self._minimum, self._fraction = section.pool_minimum, section.pool_fraction
        nodes = int(node_of.max()) + 1
        self._clocks = _Clocks(section.interval, nodes, rng)
        self._sharing = Sharing(node_of.ravel(), nodes)
        self._wait = max(1, round(section.max_wait / STEP))
        self._came = np.zeros((self._wait, *node_of.shape), dtype=np.int32)
        """What arrived in each of the last steps: younger than `max_wait`."""
        self._young = np.zeros(node_of.shape, dtype=np.int32)
        """Their sum."""
        self._node_of, self._rng = node_of, rng

    def step(self, step: int, arrived: Ints) -> Ints:
        self._young -= self._came[step % self._wait]
        count, where = self._clocks.ticks(step)
        waiting = self.held + _together(arrived, where[self._node_of], self._rng)
        total = self._sharing.waiting(waiting.ravel())
        leaving = self._leaving(total, count)
        shared = self._sharing.share(waiting.ravel(), total, leaving, self._rng).reshape(arrived.shape)
        # Its oldest leave first: a circuit holds no more than came within the last `max_wait`.
        out: Ints = np.maximum(shared, self.held - self._young).astype(np.int32)
        self._came[step % self._wait] = arrived
        self._young += arrived
        self.held += arrived - out
        return out

    def _leaving(self, total: Ints, ticks: Ints) -> Ints:
        """How many leave each node: the rule's number, rounded up or down at random so that the mean is exact."""
        left: Ints = total.copy()
        for tick in range(int(ticks.max(initial=0))):
            exact = self._fraction * np.maximum(0, left - self._minimum) * (ticks > tick)
            left -= np.floor(exact + self._rng.random(left.size)).astype(np.int32)
        out: Ints = total - left
        return out


class Poisson:
    """An exponential delay for each cell, none before the cells of its circuit that came first."""

    def __init__(self, mean: float, node_of: Ints, rng: np.random.Generator) -> None:
        self.held: Ints = np.zeros(node_of.shape, dtype=np.int32)
        self._mean = mean / STEP
        self._room = int(LONGEST * self._mean) + 3
        self._due = np.zeros((self._room, node_of.size), dtype=np.int32)
        self._last: Floats = np.zeros(node_of.size)
        """When the last cell of each circuit leaves, in steps."""
        self._rng = rng

    def step(self, step: int, arrived: Ints) -> Ints:
        flat = arrived.ravel()
        busy = np.flatnonzero(flat)
        if busy.size:
            self._schedule(step, busy, flat[busy])
        slot = self._due[step % self._room]
        out: Ints = slot.reshape(self.held.shape).copy()
        slot[:] = 0
        self.held += arrived - out
        return out

    def _schedule(self, step: int, busy: NDArray[np.int64], counts: Ints) -> None:
        groups = np.repeat(np.arange(busy.size), counts)
        came = self._rng.random(busy.size)[groups]
        delays = np.minimum(self._rng.exponential(self._mean, groups.size), LONGEST * self._mean)
        due = np.maximum(step + came + delays, self._last[busy][groups])
        # One running maximum for all groups: each is lifted above the one before.
        lift = groups * (self._room * 4.0)
        due = np.maximum.accumulate(due + lift) - lift
        ends = np.cumsum(counts) - 1
        self._last[busy] = due[ends]
        slots = np.minimum(due.astype(np.int64), step + self._room - 1) % self._room
        np.add.at(self._due, (slots, busy[groups]), 1)


def _together(cells: Ints, share: Floats, rng: np.random.Generator) -> Ints:
    """Those circuits' cells that came in the first `share` of the step: the cells of one circuit come together."""
    if not share.any():
        return np.zeros_like(cells)
    out: Ints = cells * (rng.random(cells.shape) < share)
    return out
