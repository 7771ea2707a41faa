"""Exponential delays: each cell is given one of its own, independent of all others.

Sources: Kesdogan, Egner and Bueschkes, Stop-and-Go-MIXes, 1998; Loopix, 2017.

**This is Loopix for single cells only.** Circuits need their order, so a cell leaves when its own delay and those
of all cells before it in its circuit are over: release times are a running maximum. For a circuit that sends one
cell in many mean delays that changes nothing: its delays are Exp(mean), and the memoryless property holds. For a
flow it does: n cells that come together leave the first after Exp(mean), the last after mean (1 + 1/2 + ... + 1/n)
on average, and in bursts, each as long as a slow cell held the ones behind it up. Delay then depends on the flow's
own rate and says so to who sees both sides. Flows need rates that do not depend on payload instead (`slots`, link
padding); DESIGN.md section 5.

Ties and late releases leave in the order of release times. Overload: see schedule.py.
"""

from __future__ import annotations

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.mixing.queues import Circuit
from phantomband.core.mixing.schedule import ScheduledMixing


class PoissonMixing(ScheduledMixing):
    """Delays of `mean` seconds on average, at most `max_cells` cells."""

    def __init__(self, mean: float, max_cells: int, random: RandomSource) -> None:
        super().__init__(max_cells, random)
        self._mean = mean

    def _due(self, circuit: Circuit, now: float, last: float | None) -> float:
        due = now + self._draw.exponential(self._mean)
        return due if last is None else max(due, last)
