"""A guard that delays: it holds what a client sends by a secret code, and looks for the code in requests at servers.

While the bit is "hold" nothing of the client's can come out at its server (but for what was under way), and in the
other half of the time what was held comes too. Every request in an open bit speaks for a pair, one in a held bit
against it. Pacing does not help: it delays dummies and requests alike.
"""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.adversaries.base import Floats, Observation, Scores
from phantomband_cli.sim.adversaries.ends import SHORTEST_LAG

FOR, AGAINST = 0.7, -2.3
"""Logarithms: a request is twice as likely in an open bit if the pair is right, ten times less likely in a held one."""


class Watermark:
    """Hold by a code, and look."""

    name = "guard that delays"

    def scores(self, seen: Observation, until: float) -> Scores:
        n = seen.bins(until)
        bits = (np.arange(n) * seen.bin / seen.code_period).astype(np.int64)
        held = seen.codes[:, np.minimum(bits, seen.codes.shape[1] - 1)]
        worth = np.where(held, AGAINST, FOR)
        events = (seen.server_up[:, :n] > 0).astype(np.float64)
        lags = round(max(SHORTEST_LAG, seen.lag) / seen.bin)
        return _best(worth, events, lags)


def _best(worth: Floats, events: Floats, lags: int) -> Scores:
    """The best sum over lags, each server's mean over clients taken off: busy servers must not win by being busy."""
    n = worth.shape[1]
    sums = np.stack([worth[:, : n - lag] @ events[:, lag:].T for lag in range(min(lags, n - 1) + 1)])
    out: Scores = sums.max(axis=0)
    return np.asarray(out - out.mean(axis=0))
