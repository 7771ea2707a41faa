"""Slots: each circuit sends one cell a slot of fixed length, at a random phase of its own.

Whatever rhythm cells come in, they leave in the slot's, so timing inside a flow is gone; a cell that finds an empty
queue waits half a slot on average. A circuit that gets more than one cell a slot queues up: slots are also a limit
of its rate.

**Dummies.** A slot in which nothing waits would be empty, and whoever watches the link would see it. With `dummies` a
link PAD cell (circuit 0) takes its place while the circuit is live, so a link's rate tells how many circuits are
live and not what they do. A circuit is live from its first cell until its DESTROY has left, until it got no cell
for 60 s, or until more than `dummies` others got one since. Live time, so start and end, stays visible. **A PAD hides
nothing from the node at the other end of the link**: a dummy that it cannot tell must be sealed for the circuit by who
has its keys, so is the client's to make (DROP cells to a random hop); DESIGN.md section 5.

A release sends at most one cell of a circuit: slots that were missed are gone, and a mixer that was held up sends no
burst. A circuit's phase is remembered while it is among the last 131,072 that got cells, and drawn anew after.
Overload: see queues.py.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from heapq import heapify, heappop, heappush, heapreplace

from phantomband.core.cell import CIRCUIT_ID_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit
from phantomband.core.mixing.queues import QueuedMixing, by_link
from phantomband.core.mixing.shuffle import interleave

MAX_PHASES = 131_072
"""Circuits: twice the 65,536 that a relay has, for two directions."""

LIVE_SECONDS = 60.0
"""A circuit that got no cell for so long gets no dummies. Six times the interval in which circuits with streams get
a DROP from both ends (KEEPALIVE_SECONDS, core/circuit/relay.py), so those stay live."""

PAD = encode(LINK_CIRCUIT, Command.PAD)


class SlotMixing(QueuedMixing[bytes]):
    """One cell each `slot` seconds and circuit, at most `max_cells` cells; dummies for at most `dummies` circuits."""

    def __init__(self, slot: float, max_cells: int, random: RandomSource, dummies: int = 0) -> None:
        """Args: dummies: circuits at once whose empty slots are filled; 0: none."""
        super().__init__(max_cells, random)
        self._slot = slot
        self._dummies = dummies
        self._phases: OrderedDict[Circuit, float] = OrderedDict()
        self._live: OrderedDict[Circuit, float] = OrderedDict()
        """When each live circuit got its last cell, the longest ago first."""
        self._heap: list[tuple[float, Circuit]] = []
        """The next slot of each circuit that has cells or is live."""
        self._scheduled: set[Circuit] = set()
        """Circuits in the heap, each once."""
        self.dummies_sent = 0

    @property
    def deadline(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    @property
    def live(self) -> int:
        """Circuits whose empty slots are filled."""
        return len(self._live)

    def next_slot(self, circuit: Circuit, after: float) -> float:
        """The first slot of the circuit later than `after`, whether a cell has it or not."""
        phase = self._phase(circuit)
        number = math.floor((after - phase) / self._slot) + 1
        while (start := phase + number * self._slot) <= after:
            number += 1
        return start

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        for circuit, run in self._runs(link, cells):
            self._queues.setdefault(circuit, []).extend(run)
            self.held += len(run)
            if self._dummies:
                self._got_cell(circuit, now)
            if circuit not in self._scheduled:
                self._scheduled.add(circuit)
                heappush(self._heap, (self.next_slot(circuit, now), circuit))
            self._bound(circuit)

    def release(self, now: float) -> Batch:
        if now == math.inf:
            return self._everything()
        out: list[tuple[Circuit, bytes]] = []
        heap = self._heap
        while heap and heap[0][0] <= now:
            circuit = heap[0][1]
            cell = self._cell_for_slot(circuit, now)
            if cell is not None:
                out.append((circuit, cell))
            if circuit in self._queues or circuit in self._live:
                heapreplace(heap, (self.next_slot(circuit, now), circuit))
            else:
                heappop(heap)
                self._scheduled.discard(circuit)
        return by_link(out)

    def drop_link(self, link: LinkId) -> None:
        for circuit in [circuit for circuit in self._live if circuit[0] == link]:
            del self._live[circuit]
        super().drop_link(link)

    def _cell_for_slot(self, circuit: Circuit, now: float) -> bytes | None:
        """The circuit's oldest cell, else a dummy while it is live, else nothing."""
        queue = self._queues.get(circuit)
        if queue is None:
            if now - self._live.get(circuit, -math.inf) >= LIVE_SECONDS:
                self._live.pop(circuit, None)
                return None
            self.dummies_sent += 1
            return PAD
        cell = queue.pop(0)
        self.held -= 1
        if not queue:
            del self._queues[circuit]
        if cell[CIRCUIT_ID_BYTES] == Command.DESTROY:
            self._live.pop(circuit, None)
        return cell

    def _got_cell(self, circuit: Circuit, now: float) -> None:
        self._live[circuit] = now
        self._live.move_to_end(circuit)
        if len(self._live) > self._dummies:
            self._live.popitem(last=False)

    def _everything(self) -> Batch:
        queues, self._queues = self._queues, {}
        self._live.clear()
        self._reschedule()
        self.held = 0
        return by_link(interleave(queues, self._draw))

    def _removed(self, queues: list[list[bytes]]) -> None:
        self._reschedule()

    def _drop(self, circuits: list[Circuit]) -> None:
        for circuit in circuits:
            self._live.pop(circuit, None)
        super()._drop(circuits)

    def _reschedule(self) -> None:
        """Takes out of the heap what is neither live nor has cells."""
        self._heap = [entry for entry in self._heap if entry[1] in self._queues or entry[1] in self._live]
        self._scheduled = {circuit for _, circuit in self._heap}
        heapify(self._heap)

    def _phase(self, circuit: Circuit) -> float:
        phase = self._phases.get(circuit)
        if phase is None:
            phase = self._phases[circuit] = self._draw.uniform() * self._slot
            if len(self._phases) > MAX_PHASES:
                self._phases.popitem(last=False)
        else:
            self._phases.move_to_end(circuit)
        return phase
