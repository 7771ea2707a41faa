"""Passive at guard and exit, against links on the ladder: does what a server sends explain when a client's link climbs?

The ladder's rules are public, its slots are seen, and the server's bytes are seen before the exit. So for each pair the
guard's queue is replayed: what this server sent comes in a little later, what the client's link carried goes out. By
the rules the link climbs a step when more waits than the step carries in `BACKLOG` seconds. Where the replayed queue
says so at the moments at which the link did climb, and at no others, the pair fits. A rate that follows the load cannot
help but tell what the load was.
"""

from __future__ import annotations

import numpy as np
from phantomband.core.onion import message_room
from phantomband.core.stream.messages import HEADER_BYTES

from phantomband_cli.sim.adversaries.base import Floats, Ints, Observation, Scores
from phantomband_cli.sim.fast.world import Mask
from phantomband_cli.sim.network import HOPS
from phantomband_cli.sim.profiles import BACKLOG, LADDER

CELL_BYTES = message_room(HOPS) - HEADER_BYTES
"""Payload of a DATA cell."""

LAGS = (0.06, 0.12, 0.24)
"""Seconds from a server's bytes to the guard's queue: three hops and two mixers, with and without batches."""

WINDOW = 0.25
"""Seconds around a climb in which the replayed queue must be over the mark."""


class Ladder:
    """Replays the guard's queue for each pair; the best of a few lags."""

    name = "ladder"

    def scores(self, seen: Observation, until: float) -> Scores:
        n = seen.bins(until)
        down, sent = seen.client_down[:, :n], seen.server_down[:, :n] / CELL_BYTES
        rung = rungs(down, seen.bin)
        lags = sorted({max(0, round(lag / seen.bin)) for lag in LAGS})
        out: Scores = np.max([self._fits(down, sent, rung, seen.bin, lag) for lag in lags], axis=0)
        return out

    @staticmethod
    def _fits(down: Floats, sent: Floats, rung: Ints, width: float, lag: int) -> Scores:
        """Share of climbs at which the queue was over the mark, less the share of other moments at which it was."""
        clients, n = down.shape
        rates = np.array(LADDER)
        climbs = np.zeros((clients, n), dtype=bool)
        climbs[:, 1:] = rung[:, 1:] > rung[:, :-1]
        window = max(1, round(WINDOW / width))
        near = _dilated(climbs, window)
        queue = np.zeros((clients, len(sent)))
        since = np.full((clients, len(sent)), -10 * window)
        hits, false = np.zeros_like(queue), np.zeros_like(queue)
        for t in range(n):
            if t >= lag:
                queue += sent[None, :, t - lag]
            below = np.maximum(0, rung[:, max(0, t - 1)])
            over = queue > (rates[below] * BACKLOG)[:, None]
            since[over] = t
            climbing = climbs[:, t]
            hits[climbing] += since[climbing] >= t - window
            quiet = ~near[:, t] & (below < len(LADDER) - 1)
            false[quiet] += over[quiet]
            queue = np.maximum(0.0, queue - down[:, t, None])
        others = np.maximum(1, (~near & (rung < len(LADDER) - 1)).sum(axis=1))
        out: Scores = hits / np.maximum(1, climbs.sum(axis=1))[:, None] - false / others[:, None]
        return out


def rungs(cells: Floats, width: float) -> Ints:
    """The step of the ladder that each bin shows: the nearest in ratio."""
    rates = np.array(LADDER)
    marks = np.sqrt(rates[1:] * rates[:-1]) * width
    return np.searchsorted(marks, cells).astype(np.int64)


def _dilated(events: Mask, width: int) -> Mask:
    out = events.copy()
    for shift in range(1, width + 1):
        out[:, shift:] |= events[:, :-shift]
        out[:, :-shift] |= events[:, shift:]
    return out
