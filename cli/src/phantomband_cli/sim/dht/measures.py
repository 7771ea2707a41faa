"""What a run gives: success of searches with its interval, hops, seconds, bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

from phantomband.core.dht.operation import Finished

CELL_BYTES = 2048
Z = 1.96
"""Of a 95% interval."""


@dataclass(slots=True)
class Measures:
    """Counts of one run. `cells` are those that honest directories sent while it was measured."""

    searches: int = 0
    found: int = 0
    hops: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    by_victim: dict[bytes, list[float]] = field(default_factory=dict)
    """1 or 0 for each search, by what was searched or who searched: whatever the attack aims at."""
    captured: float = 0.0
    """Part of the victims' tables that was malicious at the end."""
    cells: int = 0
    bytes_a_minute: float = 0.0

    def searched(self, finished: Finished, right: bool, about: bytes) -> None:
        self.searches += 1
        self.by_victim.setdefault(about, []).append(float(right))
        self.found += right
        self.requests.append(finished.requests)
        if right:
            self.hops.append(finished.hops)
            self.seconds.append(finished.seconds)

    def end(self, seconds: float, honest: int, captured: float) -> None:
        self.captured = captured
        self.bytes_a_minute = self.cells * CELL_BYTES / honest / (seconds / 60)

    def figures(self) -> dict[str, float]:
        """Success with a Wilson interval of 95%; percentiles of searches that succeeded."""
        low, high = wilson(self.found, self.searches)
        return {
            "searches": self.searches,
            "success": self.found / max(1, self.searches),
            "success_low": low,
            "success_high": high,
            "hops_p50": percentile(self.hops, 0.5),
            "hops_p95": percentile(self.hops, 0.95),
            "requests_p50": percentile(self.requests, 0.5),
            "seconds_p50": percentile(self.seconds, 0.5),
            "seconds_p95": percentile(self.seconds, 0.95),
            "bytes_a_node_a_minute": self.bytes_a_minute,
            "captured": self.captured,
        }


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95% interval of a proportion (Wilson 1927)."""
    if not of:
        return 0.0, 1.0
    p, z2 = hits / of, Z * Z / of
    middle, half = p + z2 / 2, Z * sqrt(p * (1 - p) / of + z2 / of / 4)
    return (middle - half) / (1 + z2), min(1.0, (middle + half) / (1 + z2))


def percentile(values: list[int] | list[float], part: float) -> float:
    """The value that `part` of them do not exceed; 0 of none."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(part * len(ordered)))]) if ordered else 0.0
