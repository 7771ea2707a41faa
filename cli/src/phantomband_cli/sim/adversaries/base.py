"""What an adversary is given, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from phantomband_cli.sim.fast.world import STEP, Run
from phantomband_cli.sim.network import Outcome
from phantomband_cli.sim.wire import Trace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scores = Floats
"""(clients, servers): the higher, the likelier that both are of the same flow. Only order matters."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One network, watched. Rows are clients, servers or links; columns are bins of time.

    The adversary knows what nodes publish, and the delays, since it can use the network itself.
    """

    bin: float
    """Seconds of a bin."""
    lag: float
    """Seconds: nine of ten pages have their first byte within that, so one way takes no longer."""
    tick: float | None
    """Seconds: the interval at which nodes release, if they have one."""
    covered: bool
    """Whether links carry dummies."""
    client_up: Floats
    client_down: Floats
    server_up: Floats
    server_down: Floats
    guards: Ints
    """Of each client."""
    exits: Ints
    """Of each server."""
    links: Ints
    """(links, 2): from node, to node."""
    link_cells: Floats
    begins: Floats
    """Seconds: when each client's link begins to carry cells."""
    ends: Floats
    opened: Floats
    """Seconds: when each server was connected to; infinity: never."""
    closed: Floats
    """Seconds: when that connection was closed; infinity: not yet."""
    codes: NDArray[np.bool_]
    """(clients, bits): when each client's corrupt guard held what it sent; no columns if it did not."""
    code_period: float
    kills: Floats
    """Seconds: when the corrupt guard destroyed the circuit; infinity: not."""
    close_delay: float
    """Seconds from a session's end at the client to the close at its server, as the adversary measured on itself."""

    def bins(self, until: float) -> int:
        """Columns of the first `until` seconds."""
        return min(int(self.client_up.shape[1]), round(until / self.bin))


class Adversary(Protocol):
    """One way to link."""

    name: str

    def scores(self, seen: Observation, until: float) -> Scores:
        """Args: until: seconds watched, from the beginning."""


def of_run(run: Run, copy: int) -> Observation:
    """One copy of a run of the vectorised model."""
    world = run.world
    rows = slice(copy * world.flows, (copy + 1) * world.flows)
    own = run.links[:, 0] // world.nodes == copy if len(run.link_cells) else np.zeros(len(run.links), dtype=bool)
    ends = np.where(np.isfinite(run.kills[rows]), run.kills[rows], run.ends[rows])
    over = np.isfinite(run.closed[rows]) & np.isfinite(ends)
    took = run.closed[rows][over] - ends[over]
    return Observation(
        run.bin_seconds,
        longest_delay(run.first_bytes[copy]),
        world.profile.tick,
        world.profile.covers,
        run.client_up[rows].astype(np.float64),
        run.client_down[rows].astype(np.float64),
        run.server_up[rows].astype(np.float64),
        run.server_down[rows].astype(np.float64),
        run.paths[rows, 0].astype(np.int64),
        run.paths[rows, 2].astype(np.int64),
        run.links[own].astype(np.int64),
        run.link_cells[own].astype(np.float64) if own.any() else np.zeros((0, run.client_up.shape[1])),
        run.begins[rows],
        run.ends[rows],
        run.opened[rows],
        run.closed[rows],
        run.codes[rows],
        world.attack.period,
        run.kills[rows],
        float(np.median(took)) if took.size else 0.0,
    )


def of_outcome(outcome: Outcome, seconds: float, tick: float | None, bin_seconds: float = 12 * STEP) -> Observation:
    """A run of the exact simulator; guards, exits and links between nodes are left out."""
    count = len(outcome.clients)

    def binned(traces: list[Trace]) -> Floats:
        return np.stack([_binned(trace, seconds, bin_seconds) for trace in traces])

    return Observation(
        bin_seconds,
        longest_delay(np.array(outcome.first_bytes)),
        tick,
        False,
        binned([s.up for s in outcome.clients]),
        binned([s.down for s in outcome.clients]),
        binned([s.up for s in outcome.servers]),
        binned([s.down for s in outcome.servers]),
        np.full(count, -1),
        np.full(count, -2),
        np.zeros((0, 2), dtype=np.int64),
        np.zeros((0, round(seconds / bin_seconds))),
        np.zeros(count),
        np.full(count, np.inf),
        np.zeros(count),
        np.full(count, np.inf),
        np.zeros((count, 0), dtype=np.bool_),
        0.0,
        np.full(count, np.inf),
        0.0,
    )


def longest_delay(first_bytes: Floats) -> float:
    """Nine of ten pages have their first byte within that, seconds."""
    return float(np.quantile(first_bytes, 0.9)) if first_bytes.size else 0.5


def _binned(trace: Trace, seconds: float, width: float) -> Floats:
    times, sizes = np.array([when for when, _ in trace]), np.array([size for _, size in trace], dtype=np.float64)
    bins = round(seconds / width)
    return np.asarray(np.bincount((times / width).astype(np.int64), sizes, bins + 1)[:bins], dtype=np.float64)
