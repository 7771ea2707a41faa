"""Passive on all links: both ends, and whether there is a middle node whose links carry the flow at the right time.

A link between nodes carries several circuits. How much of a flow's shape it shows is the cosine of both series; a path
through a middle is as good as the worse of its two links. A server behind the client's own guard is ruled out, since
no circuit uses a node twice.
"""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.adversaries.base import Floats, Ints, Observation, Scores
from phantomband_cli.sim.adversaries.ends import Ends, best, tuned, unit

PATH_WEIGHT = 0.15
"""Of the path's part, beside the ends' 1: of 0.05, 0.15 and 0.5 the best or as good on the networks tried."""

IMPOSSIBLE = -1e3


class Everywhere:
    """All links."""

    name = "all links"

    def scores(self, seen: Observation, until: float) -> Scores:
        out = Ends().scores(seen, until)
        if len(seen.links):
            out = out + PATH_WEIGHT * self._paths(seen, until)
        out[seen.guards[:, None] == seen.exits[None, :]] = IMPOSSIBLE
        return out

    def _paths(self, seen: Observation, until: float) -> Scores:
        k, lags = tuned(seen)
        n = seen.bins(until)
        link = unit(seen.link_cells[:, :n], k, centred=True)
        up, down = (unit(s[:, :n], k, centred=True) for s in (seen.client_up, seen.client_down))
        there, back = (unit(s[:, :n], k, centred=True) for s in (seen.server_up, seen.server_down))
        nodes, index = _index(seen)
        upward = _through(best(up, link, lags), best(link, there, lags).T, seen, nodes, index, forward=True)
        downward = _through(best(link, down, lags).T, best(back, link, lags), seen, nodes, index, forward=False)
        return (upward + downward) / 2


def _index(seen: Observation) -> tuple[Ints, dict[tuple[int, int], int]]:
    return np.unique(seen.links), {(int(a), int(b)): i for i, (a, b) in enumerate(seen.links)}


def _through(
    client: Floats, server: Floats, seen: Observation, nodes: Ints, index: dict[tuple[int, int], int], *, forward: bool
) -> Scores:
    """The best middle for each pair; `client` and `server` say how well each link (column) fits."""
    out = np.full((len(client), len(server)), -1.0)
    for middle in nodes.tolist():
        first = _fit(client, seen.guards, middle, index, forward=forward)
        second = _fit(server, seen.exits, middle, index, forward=not forward)
        np.maximum(out, np.minimum(first[:, None], second[None, :]), out=out)
    return out


def _fit(fits: Floats, ends: Ints, middle: int, index: dict[tuple[int, int], int], *, forward: bool) -> Floats:
    """For each row how well the link between its end and the middle fits; -1 where there is none."""
    out = np.full(len(fits), -1.0)
    for row, end in enumerate(ends.tolist()):
        link = index.get((end, middle) if forward else (middle, end))
        if link is not None:
            out[row] = fits[row, link]
    return out
