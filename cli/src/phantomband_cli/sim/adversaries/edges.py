"""Passive at both ends, looking only at when sessions begin and end: what no rate hides, however constant.

A server is connected to soon after a session begins and closed when it ends. Guesses about how soon: the first request
comes an exponential time after (the users' pause), the close one path's delay after the session's end, give or take.
"""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.adversaries.base import Floats, Observation, Scores

PAUSE = 5.0
"""Seconds from the beginning of a session to its first request, on average, in the adversary's guess."""

BLUR = 0.1
"""Seconds by which its guess of the close's delay is off, on average."""

UNLIKELY = -30.0


class Edges:
    """Beginnings and ends of sessions."""

    name = "start and end"

    def scores(self, seen: Observation, until: float) -> Scores:
        opened = np.where(seen.opened < until, seen.opened, np.inf)
        closed = np.where(seen.closed < until, seen.closed, np.inf)
        ends = np.where(seen.ends < until, seen.ends, np.inf)
        after = opened[None, :] - seen.begins[:, None]
        begin = np.where(np.isfinite(after) & (after >= 0), -np.clip(after, 0, 100) / PAUSE, UNLIKELY)
        return begin + closeness(ends + seen.close_delay, closed)


def closeness(expected: Floats, happened: Floats) -> Scores:
    """(expected, happened): how well two times agree; both never is neither for nor against."""
    both = np.isfinite(expected)[:, None] & np.isfinite(happened)[None, :]
    neither = ~np.isfinite(expected)[:, None] & ~np.isfinite(happened)[None, :]
    apart = np.abs(_finite(happened)[None, :] - _finite(expected)[:, None])
    out = np.where(both, np.maximum(-apart / BLUR, UNLIKELY), UNLIKELY)
    return np.where(neither, 0.0, out)


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, 0.0)
