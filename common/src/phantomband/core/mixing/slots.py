"""Slots: each circuit sends one cell a slot of fixed length, at a random phase of its own.

Whatever rhythm cells come in, they leave in the slot's, so timing inside a flow is gone; a cell that finds an empty
queue waits half a slot on average. A circuit that gets more than one cell a slot queues up: slots are also a limit
of its rate.

**A slot in which nothing waits is empty, and that is seen.** The dummy for it must be sealed for the circuit by
someone who has its keys, and a mixer has none. So this strategy alone shapes flows and hides no activity, nor start
and end. The dummies belong to the client (DROP cells to a random hop) and to link padding: `next_slot` and
`idle_slots` say to whoever makes them when they are due, and a dummy is then added like any other cell. DESIGN.md
section 5.

A circuit's phase is remembered while it is among the last 131,072 that got cells, and drawn anew after. Overload:
see schedule.py; the circuits that wait longest then send more than one cell a slot, the others keep theirs.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.mixing.queues import Circuit
from phantomband.core.mixing.schedule import ScheduledMixing

MAX_PHASES = 131_072
"""Circuits: twice the 65,536 that a relay has, for two directions."""


class SlotMixing(ScheduledMixing):
    """One cell each `slot` seconds and circuit, at most `max_cells` cells."""

    def __init__(self, slot: float, max_cells: int, random: RandomSource) -> None:
        super().__init__(max_cells, random)
        self._slot = slot
        self._phases: OrderedDict[Circuit, float] = OrderedDict()

    def next_slot(self, circuit: Circuit, after: float) -> float:
        """The first slot of the circuit later than `after`, whether a cell has it or not."""
        phase = self._phase(circuit)
        number = math.floor((after - phase) / self._slot) + 1
        while (start := phase + number * self._slot) <= after:
            number += 1
        return start

    def idle_slots(self, circuits: Iterable[Circuit], since: float, until: float) -> list[tuple[float, Circuit]]:
        """Slots later than `since`, up to `until`, for which no cell waits: what a dummy could fill, in order of time.

        Args:
            circuits: those that are alive, which only who has their keys can know.
        """
        idle = []
        for circuit in circuits:
            dues = self._dues.get(circuit)
            start = self.next_slot(circuit, max(since, dues[-1]) if dues else since)
            while start <= until:
                idle.append((start, circuit))
                start = self.next_slot(circuit, start)
        return sorted(idle)

    def _due(self, circuit: Circuit, now: float, last: float | None) -> float:
        return self.next_slot(circuit, now if last is None else max(now, last))

    def _phase(self, circuit: Circuit) -> float:
        phase = self._phases.get(circuit)
        if phase is None:
            phase = self._phases[circuit] = self._draw.uniform() * self._slot
            if len(self._phases) > MAX_PHASES:
                self._phases.popitem(last=False)
        else:
            self._phases.move_to_end(circuit)
        return phase
