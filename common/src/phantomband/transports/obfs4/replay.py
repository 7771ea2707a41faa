"""Client handshakes that were answered, so that a recorded one gets no second answer.

**Limit**: 102,400 entries (obfs4proxy), some 15 MB. At the bound the oldest goes. Only who has the certificate can
make entries, and what a recording can be replayed for, at most three hours, passes in the end: older ones go first.
"""

from __future__ import annotations

from phantomband.core.errors import Forged

LIMIT = 100 * 1024
TTL = 3 * 3600.0
"""Seconds: the hour of a handshake may be off by one either way."""


class ReplayFilter:
    """MACs seen, by the time of the first."""

    __slots__ = ("_limit", "_seen")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._seen: dict[bytes, float] = {}

    def add_untrusted(self, mac: bytes, now: float) -> None:
        """Remembers `mac`. Raises: Forged: it was there."""
        self._forget(now)
        if mac in self._seen:
            raise Forged("a handshake was replayed")
        self._seen[mac] = now

    def _forget(self, now: float) -> None:
        """Drops what is too old, or, at the bound, the oldest. A clock that was set back drops nothing early."""
        while self._seen:
            oldest = next(iter(self._seen))
            if len(self._seen) < self._limit and now - self._seen[oldest] < TTL:
                return
            del self._seen[oldest]

    def __len__(self) -> int:
        return len(self._seen)
