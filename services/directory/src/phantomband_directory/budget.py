"""How much a peer may be given: token buckets of requests or bytes, in bounded memory."""

from __future__ import annotations

MAX_PEERS = 4096
"""Buckets kept; beyond it the one least recently used is forgotten, and then full again."""


class Budget:
    """One bucket for each peer key, and one for all together.

    Args:
        each: (tokens a second, tokens at once) of one peer.
        total: of all.
    """

    def __init__(self, each: tuple[float, float], total: tuple[float, float]) -> None:
        self._each, self._total = each, total
        self._buckets: dict[bytes, tuple[float, float]] = {}
        self._all: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, peer: bytes, now: float) -> bool:
        """Whether both buckets have anything left."""
        return self._left(self._buckets.get(peer), self._each, now) > 0 and self._left(self._all, self._total, now) > 0

    def spend(self, peer: bytes, amount: float, now: float) -> None:
        """Takes `amount` out of both; they may go below zero, and then refill first."""
        left = self._left(self._buckets.pop(peer, None), self._each, now) - amount
        self._buckets[peer] = (left, now)  # at the end again: the first is the least recently used
        if len(self._buckets) > MAX_PEERS:
            del self._buckets[next(iter(self._buckets))]
        self._all = (self._left(self._all, self._total, now) - amount, now)

    @staticmethod
    def _left(bucket: tuple[float, float] | None, rule: tuple[float, float], now: float) -> float:
        rate, burst = rule
        if bucket is None:
            return burst
        tokens, at = bucket
        return min(burst, tokens + max(0.0, now - at) * rate)
