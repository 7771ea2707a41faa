"""The passive adversary at both ends: binned cosine similarity with lag search.

The watcher sees each client's link to its guard and each connection from an exit to a server, and asks which client
belongs to which server. Bytes are counted in bins of time. What a client sends comes out at the exit a little later,
what a server sends comes to the client a little later; how much later is not known, so the best lag counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from phantomband_cli.sim.network import Seen
from phantomband_cli.sim.wire import Trace

SHORTEST_BIN = 0.1
"""Seconds."""

SHORTEST_LAG = 0.5
"""Seconds: beyond what three hops take without mixing."""

Bins = dict[int, float]
"""Root of the bytes in each bin that has any, by its number, scaled to length 1."""

Scores = list[list[float]]
"""scores[client][server], 0 to 1."""


@dataclass(frozen=True, slots=True)
class Correlator:
    """Both in seconds."""

    width: float
    """Length of a bin."""
    lag: float
    """The longest delay from one end to the other that is tried."""

    @classmethod
    def tuned(cls, first_bytes: Sequence[float], tick: float | None = None) -> Correlator:
        """Suited to a network in which pages take so many seconds to their first byte.

        The watcher browses too and so knows the delays, whatever the strategy. One way takes no longer than a round
        trip; nine of ten of these are covered, in four bins. If nodes release at every `tick` seconds, bins are as long
        or a multiple: with others batches fall into bins unevenly (top-1 at 3 s: 51%, not 80%).
        """
        slow = sorted(first_bytes)[len(first_bytes) * 9 // 10] if first_bytes else 0.0
        width = max(SHORTEST_BIN, slow / 4) if tick is None else tick * math.ceil(SHORTEST_BIN / tick)
        return cls(width, max(SHORTEST_LAG, slow))

    def scores(self, clients: list[Seen], servers: list[Seen], until: float) -> Scores:
        """How alike each client and each server look in the first `until` seconds."""
        ends = [(self._bins(s.up, until), self._bins(s.down, until)) for s in servers]
        out = []
        for client in clients:
            up, down = self._bins(client.up, until), self._bins(client.down, until)
            out.append([(self._best(up, there) + self._best(back, down)) / 2 for there, back in ends])
        return out

    def _best(self, before: Bins, after: Bins) -> float:
        """The best similarity of `after` with `before` shifted by any lag."""
        lags = range(math.ceil(self.lag / self.width) + 1)
        return max(sum(v * after.get(i + lag, 0.0) for i, v in before.items()) for lag in lags)

    def _bins(self, trace: Trace, until: float) -> Bins:
        counts: dict[int, int] = {}
        for when, size in trace:
            if when < until:
                i = int(when / self.width)
                counts[i] = counts.get(i, 0) + size
        # The root keeps one large page from drowning all others: no worse than plain bytes where tried.
        length = math.sqrt(sum(counts.values()))
        return {i: math.sqrt(n) / length for i, n in counts.items()}
