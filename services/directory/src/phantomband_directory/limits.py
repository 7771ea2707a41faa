"""How often a peer may ask: token buckets, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PEERS = 4096
"""Buckets kept; beyond it the one least recently used is forgotten."""

PEER_RATE, PEER_BURST = 10.0, 60.0
"""Requests a second, and at once, of one link key."""

DIRECTORY_RATE, DIRECTORY_BURST = 100.0, 1000.0
"""... of a directory of the genesis set."""

ANONYMOUS_RATE, ANONYMOUS_BURST = 100.0, 400.0
"""... of all clients together: they have no key to tell them apart by."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limits:
    """One bucket for each peer key, one for all without a key."""

    def __init__(self, directories: frozenset[bytes]) -> None:
        self._directories = directories
        self._buckets: dict[bytes, _Bucket] = {}

    def allow(self, peer: bytes, now: float) -> bool:
        """Takes one token of the peer's bucket. `peer` is its link key, or empty for a client."""
        rate, burst = self._size(peer)
        bucket = self._buckets.pop(peer, None) or _Bucket(burst, now)
        bucket.tokens = min(burst, bucket.tokens + max(0.0, now - bucket.at) * rate)
        bucket.at = now
        self._buckets[peer] = bucket  # at the end again: the first is the least recently used
        if len(self._buckets) > MAX_PEERS:
            del self._buckets[next(iter(self._buckets))]
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _size(self, peer: bytes) -> tuple[float, float]:
        if not peer:
            return ANONYMOUS_RATE, ANONYMOUS_BURST
        return (DIRECTORY_RATE, DIRECTORY_BURST) if peer in self._directories else (PEER_RATE, PEER_BURST)
