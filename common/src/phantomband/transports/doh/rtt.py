"""Round-trip time and how long to wait for an answer (RFC 6298), in seconds."""

from __future__ import annotations

ALPHA, BETA = 1 / 8, 1 / 4
"""RFC 6298, section 2."""
LEAST_SLACK = 0.1
"""Seconds over the usual time, and half of that at least: on an even way the variance goes to nothing, and the next
query that is a little late would count as lost."""


class Rtt:
    """Args: first: what is assumed before the first sample; least, most: bounds of `timeout`."""

    __slots__ = ("_backoff", "_first", "_least", "_most", "least_seen", "smooth", "variance")

    def __init__(self, first: float, least: float, most: float) -> None:
        self._first, self._least, self._most = first, least, most
        self.smooth = self.variance = self.least_seen = 0.0
        self._backoff = 1

    def sample(self, seconds: float) -> None:
        if not self.smooth:
            self.smooth, self.variance, self.least_seen = seconds, seconds / 2, seconds
        else:
            self.variance += BETA * (abs(self.smooth - seconds) - self.variance)
            self.smooth += ALPHA * (seconds - self.smooth)
            self.least_seen = min(self.least_seen, seconds)

    @property
    def timeout(self) -> float:
        slack = max(4 * self.variance, self.smooth / 2, LEAST_SLACK)
        base = self.smooth + slack if self.smooth else self._first
        return min(max(base, self._least) * self._backoff, self._most)

    def progress(self) -> None:
        self._backoff = 1

    def timed_out(self) -> None:
        """The next wait is twice as long."""
        self._backoff = min(self._backoff * 2, 64)
