"""How many DATA cells of a circuit may be under way: delay-based congestion control (TCP Vegas, Tor proposal 324).

The window grows until the cells that wait in queues, window x (1 - base / rtt), reach a band, then stays in it. The
base is the smallest round trip seen of late plus what the profile's mixing adds on purpose, so that mixing delay is
not mistaken for congestion.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CongestionParameters:
    """All windows in cells."""

    initial: int = 256
    """Window of a new circuit: 512 KiB."""
    minimum: int = 96
    """Never below: three credit intervals, so that credits keep coming."""
    maximum: int = 2048
    """Never above: 4 MiB; the receiver kills a circuit that exceeds it."""
    queue_low: int = 320
    """Fewer cells than this in queues: grow."""
    queue_high: int = 576
    """More cells than this in queues: shrink. 0.6 to 1.2 MB keep batches full on this kind of machine (DESIGN.md 8)."""
    step: int = 32
    """Change for each window's worth of credits."""
    base_memory: float = 10.0
    """Seconds that the smallest round trip is remembered."""


class Congestion:
    """The congestion window of one direction between a client and one hop."""

    __slots__ = (
        "_acked",
        "_base",
        "_base_since",
        "_next_base",
        "_parameters",
        "_slow_start",
        "_smooth",
        "mixing",
        "window",
    )

    def __init__(self, parameters: CongestionParameters, mixing: float = 0.0) -> None:
        """Args: mixing: seconds that mixing adds to a round trip beyond its smallest value."""
        self._parameters = parameters
        self.window = parameters.initial
        self.mixing = mixing
        self._base = self._next_base = float("inf")
        self._base_since = 0.0
        self._smooth = 0.0
        self._acked = 0
        self._slow_start = True

    @property
    def round_trip(self) -> float:
        """Smoothed round trip in seconds; 0 before the first sample."""
        return self._smooth

    def sample(self, round_trip: float, cells: int, now: float) -> None:
        """`cells` were credited `round_trip` seconds after the last of them left."""
        self._remember(round_trip, now)
        self._smooth += (round_trip - self._smooth) * (0.25 if self._smooth else 1.0)
        base = min(self._base, self._next_base) + self.mixing
        queued = self.window * max(0.0, 1.0 - base / self._smooth) if self._smooth > 0 else 0.0
        self._acked += cells
        if self._slow_start:
            self._grow_fast(queued, cells)
        elif self._acked >= self.window:
            self._acked = 0
            self._steer(queued)

    def _remember(self, round_trip: float, now: float) -> None:
        if now - self._base_since > self._parameters.base_memory:
            self._base, self._next_base, self._base_since = self._next_base, float("inf"), now
        self._next_base = min(self._next_base, round_trip)

    def _grow_fast(self, queued: float, cells: int) -> None:
        limit = self._parameters
        self.window = min(self.window + cells, limit.maximum)
        if queued > limit.queue_low:
            self._slow_start = False
            self._acked = 0

    def _steer(self, queued: float) -> None:
        limit = self._parameters
        if queued < limit.queue_low:
            self.window = min(self.window + limit.step, limit.maximum)
        elif queued > limit.queue_high:
            self.window = max(self.window - limit.step, limit.minimum)
