"""One direction of a link: rate, delay, jitter, loss, and the notes of whoever watches it.

Writes leave one after the other at the link's rate and arrive in order, as over TCP or TLS: what is lost is sent again
and comes a round trip later, and what is behind it waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from phantomband_cli.sim.events import Events

Trace = list[tuple[float, int]]
"""What a watcher notes: (when the last byte left, bytes) of each write."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a link is like, in each direction."""

    delay: float
    """Seconds from one end to the other."""
    jitter: float
    """Seconds: each packet takes up to this much longer, uniformly."""
    rate: float
    """Bytes a second."""
    loss: float = 0.0
    """Share of the writes that are lost the first time, and again each time that they are sent again; below 1."""

    def varied(self, spread: float, random: Random) -> Shape:
        """A link like this one, but with a delay that is longer or shorter by up to this share."""
        return replace(self, delay=self.delay * (1 + spread * random.uniform(-1, 1))) if spread else self


class Wire:
    """One direction of one link."""

    __slots__ = ("_deliver", "_events", "_free", "_last", "_random", "_shape", "trace")

    def __init__(self, events: Events, shape: Shape, random: Random, deliver: Callable[[bytes], None]) -> None:
        self.trace: Trace = []
        self._events = events
        self._shape = shape
        self._random = random
        self._deliver = deliver
        self._free = self._last = 0.0

    def send(self, data: bytes, size: int) -> None:
        """`data`, which takes `size` bytes on the link, arrives whole when its last byte does."""
        self._free = max(self._events.now, self._free) + size / self._shape.rate
        self.trace.append((self._free, size))
        late = self._shape.jitter * self._random.random()
        while self._shape.loss and self._random.random() < self._shape.loss:
            late += 2 * self._shape.delay + self._shape.jitter
        self._last = max(self._last, self._free + self._shape.delay + late)
        self._events.at(self._last, lambda: self._deliver(data))
