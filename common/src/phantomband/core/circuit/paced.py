"""The circuits of a relay that send at a fixed pace, and when the next slot of any is."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

from phantomband.core.shaping import ConstantPacer, Mode, Schedule, Shape

C = TypeVar("C")


class _Pace:
    """One circuit's slots."""

    __slots__ = ("pacer", "rate")

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.pacer = ConstantPacer(Shape(Mode.CONSTANT, Schedule.FIXED, rate), now, bytes)  # nothing is drawn

    def due(self, now: float) -> int:
        """Cells of all slots up to `now`."""
        cells = 0
        while taken := self.pacer.due(now, 0):
            cells += taken
        return cells


class PacedCircuits(Generic[C]):
    """At most `limit` cells a second together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._paces: dict[C, _Pace] = {}
        self._heap: list[tuple[float, int, C, _Pace]] = []
        self._order = count()
        self.rate = 0
        """Cells a second of all together."""

    def __contains__(self, circuit: C) -> bool:
        return circuit in self._paces

    def set(self, circuit: C, rate: int, now: float) -> bool:
        """Gives a circuit a pace of `rate` cells a second from now on; false, and none, where there is no room."""
        self.remove(circuit)
        if not rate or self.rate + rate > self._limit:
            return False
        pace = self._paces[circuit] = _Pace(rate, now)
        self.rate += rate
        heapq.heappush(self._heap, (pace.pacer.deadline, next(self._order), circuit, pace))
        return True

    def remove(self, circuit: C) -> None:
        """A circuit that has no pace, or is gone."""
        pace = self._paces.pop(circuit, None)
        if pace is not None:
            self.rate -= pace.rate

    @property
    def deadline(self) -> float | None:
        """When the next slot is; None when no circuit has a pace."""
        heap = self._heap
        while heap and self._paces.get(heap[0][2]) is not heap[0][3]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[tuple[C, int]]:
        """(circuit, cells to send) of all whose slots have come."""
        out: list[tuple[C, int]] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            _, _, circuit, pace = heapq.heappop(self._heap)
            out.append((circuit, pace.due(now)))
            heapq.heappush(self._heap, (pace.pacer.deadline, next(self._order), circuit, pace))
        return out
