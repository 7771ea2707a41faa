"""Links as rings of counts: what is put in at a step comes out one link's delay later."""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.fast.world import STEP, Ints

ROOM = 8
"""Steps that a ring holds: the longest delay plus one."""

KINDS = 2
"""Real cells and dummies."""


class Lines:
    """Several links' directions at once: `put` on a line, `take` all that arrives.

    A delay that is no whole number of steps is rounded up or down at random, so that its mean is exact. Jitter is part
    of the mean; cells of one flow are counts and keep their order by nature.
    """

    def __init__(self, flows: int, delays: list[float], rng: np.random.Generator) -> None:
        """Args: delays: mean seconds of each line."""
        self._ring = np.zeros((ROOM, KINDS, len(delays), flows), dtype=np.int32)
        self._steps = [delay / STEP for delay in delays]
        self._rng = rng
        if max(self._steps) > ROOM - 2:
            raise ValueError(f"a link's delay is longer than {(ROOM - 2) * STEP:g} s, which this model cannot hold")

    def take(self, step: int) -> Ints:
        """(kinds, lines, flows): what arrives."""
        slot = self._ring[step % ROOM]
        out: Ints = slot.copy()
        slot[:] = 0
        return out

    def put(self, step: int, line: int, real: Ints, dummies: Ints | None = None) -> None:
        """Cells of each flow leave now."""
        whole, part = divmod(self._steps[line], 1.0)
        later = self._rng.random(real.size) < part
        for kind, cells in enumerate((real, dummies)):
            if cells is None:
                continue
            late = cells * later
            self._ring[(step + max(1, int(whole))) % ROOM, kind, line] += cells - late
            self._ring[(step + int(whole) + 1) % ROOM, kind, line] += late
