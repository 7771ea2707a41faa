"""Who is there when, and what corrupt guards do to circuits."""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.fast.world import STEP, STEPS_PER_SECOND, Floats, Ints, Mask, World

NEVER = np.inf


class Sessions:
    """When users come and go. A session's exit end lives until the circuit's DESTROY cell is there."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        n = world.total
        self._begin: Floats = np.zeros(n)
        self._end: Floats = np.full(n, NEVER)
        if world.sessions is not None:
            length = rng.exponential(world.sessions, n)
            self._begin = rng.uniform(0, world.seconds / 2, n) * STEPS_PER_SECOND
            self._end = self._begin + np.maximum(length, 1.0) * STEPS_PER_SECOND
        self.active: Mask = np.zeros(n, dtype=np.bool_)
        """The client is there."""
        self.open_exit: Mask = np.zeros(n, dtype=np.bool_)
        """The exit has the circuit."""
        self.closing: Mask = np.zeros(n, dtype=np.bool_)
        """The client is gone and the exit does not know."""
        self.opened: Floats = np.full(n, NEVER)
        self.closed: Floats = np.full(n, NEVER)
        self.changed = True

    @property
    def begins(self) -> Floats:
        """Seconds."""
        return self._begin * STEP

    @property
    def ends(self) -> Floats:
        """Seconds."""
        return self._end * STEP

    def changes(self, step: int, kills: Floats) -> tuple[Ints, Ints, Ints]:
        """Flows that begin, end, or are killed in this step."""
        now = (self._begin >= step) & (self._begin < step + 1)
        kill = self.active & (kills >= step) & (kills < step + 1)
        end = self.active & (self._end < step + 1) & ~kill
        if now.any() or end.any() or kill.any():
            self.active |= now
            self.open_exit |= now
            gone = end | kill
            self.active &= ~gone
            self.closing |= gone
            self._end[gone] = np.minimum(self._end[gone], step + 1)
            self.changed = True
        return _where(now), _where(end), _where(kill)

    def opens(self, step: int, asked: Mask) -> None:
        """These have a request at the exit, which connects if it has not yet."""
        first = asked & self.open_exit & ~self.closing & np.isinf(self.opened)
        self.opened[first] = (step + 0.5) * STEP

    def close(self, step: int, which: Mask) -> None:
        """The exit's ends of these are gone."""
        self.closed[which & np.isfinite(self.opened)] = (step + 0.5) * STEP
        self.open_exit &= ~which
        self.closing &= ~which
        self.changed = True


class Guards:
    """Corrupt guards: they hold what clients send by a code, or destroy circuits."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        n, attack = world.total, world.attack
        bits = int(np.ceil(world.seconds / attack.period)) if attack.period else 0
        self._period = attack.period * STEPS_PER_SECOND
        self.codes: Mask = rng.random((n, bits)) < 0.5
        self._held = np.zeros((2, n), dtype=np.int32)
        self.kill_steps: Floats = np.full(n, NEVER)
        if attack.kill:
            self.kill_steps = rng.uniform(world.seconds / 4, world.seconds * 3 / 4, n) * STEPS_PER_SECOND

    def hold(self, step: int, cells: Ints) -> Ints:
        """Takes what came from clients, (kinds, flows), and gives what the guards let on."""
        if not self._period:
            return cells
        now = min(int(step / self._period), self.codes.shape[1] - 1)
        self._held += cells
        out = self._held * ~self.codes[:, now]
        self._held -= out
        return out


def _where(mask: Mask) -> Ints:
    return np.flatnonzero(mask).astype(np.int32)
