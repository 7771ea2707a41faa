"""The virtual clock: a queue of calls, run in the order of their times, first come first served at the same time."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Call = Callable[[], None]


class Events:
    """Calls that wait for their time. `now` is in seconds and never runs backwards."""

    __slots__ = ("_count", "_heap", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Call]] = []
        self._count = 0

    def at(self, when: float, call: Call) -> None:
        """`call` at `when`, or now if that is past."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, call))

    def after(self, seconds: float, call: Call) -> None:
        """`call` in so many seconds."""
        self.at(self.now + seconds, call)

    def run(self, until: float, done: Callable[[], bool]) -> None:
        """Runs calls until `done`, or none is left before `until`."""
        while self._heap and self._heap[0][0] <= until and not done():
            self.now, _, call = heapq.heappop(self._heap)
            call()
