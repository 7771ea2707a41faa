"""A node's mixer in the simulator: a real strategy, driven as the mixer service drives it, on the node's own clock."""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Strategy

from phantomband_cli.sim.events import Events

Send = Callable[[LinkId, list[bytes]], None]


class Mixer:
    """Cells in by `add`, out by `send` when the strategy releases them."""

    def __init__(self, events: Events, strategy: Strategy, offset: float, send: Send) -> None:
        """Args: offset: seconds that this node's clock is ahead: intervals of different nodes must not be in step."""
        self.strategy = strategy
        self._events = events
        self._offset = offset
        self._send = send
        self._waiting_for: float | None = None

    def add(self, link: LinkId, cells: list[bytes]) -> None:
        """Cells for a link; what is due goes first."""
        if self.strategy.passes:
            self._send(link, cells)
            return
        now = self._events.now + self._offset
        self._release(now)
        self.strategy.add(link, cells, now)
        self._schedule()

    def _release(self, now: float) -> None:
        for link, cells in self.strategy.release(now):
            self._send(link, cells)

    def _schedule(self) -> None:
        due = self.strategy.deadline
        if due is not None and due != self._waiting_for:
            self._waiting_for = due
            self._events.at(due - self._offset, lambda: self._tick(due))

    def _tick(self, due: float) -> None:
        if due != self._waiting_for:
            return  # the strategy has set itself another time since
        self._waiting_for = None
        # A sum of floats can miss the deadline by its last bit, and would then be asked for ever.
        self._release(max(due, self._events.now + self._offset))
        self._schedule()
