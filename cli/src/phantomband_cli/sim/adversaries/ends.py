"""Passive at guard and exit: how alike a client's link and a server's connection are, bin by bin, at the best lag.

The correlator of `correlate.py` on arrays. Where links carry dummies, series are compared around their means: what
does not vary says nothing, and a large constant part would hide what does.
"""

from __future__ import annotations

import math

import numpy as np

from phantomband_cli.sim.adversaries.base import Floats, Observation, Scores

SHORTEST_LAG = 0.5
"""Seconds: beyond what three hops take without mixing."""

MOST_LAGS = 40
"""Bins: what is slower is compared in longer bins."""


class Ends:
    """Binned cosine with lag search, upwards and downwards."""

    name = "guard and exit"

    def scores(self, seen: Observation, until: float) -> Scores:
        k, lags = tuned(seen)
        n = seen.bins(until)
        series = (seen.client_up, seen.server_up, seen.server_down, seen.client_down)
        up, at_server, from_server, down = (unit(s[:, :n], k, centred=seen.covered) for s in series)
        return (best(up, at_server, lags) + best(from_server, down, lags).T) / 2


def tuned(seen: Observation) -> tuple[int, int]:
    """Bins to join, and lags in joined bins to try: fitted to the network's delays and to the nodes' interval."""
    lag = max(SHORTEST_LAG, seen.lag)
    k = max(1, round((lag / 4 if seen.tick is None else seen.tick) / seen.bin))
    while math.ceil(lag / (k * seen.bin)) > MOST_LAGS:
        k *= 2
    return k, math.ceil(lag / (k * seen.bin))


def unit(series: Floats, k: int, *, centred: bool) -> Floats:
    """Rows of length 1: roots of the sums of k columns each. The root keeps one page from drowning all others."""
    n = series.shape[1] // k * k
    out = np.sqrt(series[:, :n].reshape(len(series), -1, k).sum(axis=2))
    if centred and out.shape[1]:
        out -= out.mean(axis=1, keepdims=True)
    length = np.sqrt((out**2).sum(axis=1, keepdims=True))
    # A row that never varies has no shape; rounding must not give it one.
    return np.where(length > 1e-6 * math.sqrt(max(1, out.shape[1])), out / np.maximum(length, 1e-12), 0.0)


def best(before: Floats, after: Floats, lags: int) -> Scores:
    """(rows of before, rows of after): the best product of `after` with `before` shifted by 0 to `lags` columns."""
    columns = before.shape[1]
    out = before @ after.T
    for lag in range(1, min(lags, columns - 1) + 1):
        np.maximum(out, before[:, : columns - lag] @ after[:, lag:].T, out=out)
    return out
