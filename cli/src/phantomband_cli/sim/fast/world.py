"""What the vectorised simulator is told, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phantomband_cli.sim.network import ACCESS, BACKBONE, SERVER
from phantomband_cli.sim.profiles import Profile
from phantomband_cli.sim.web import WebModel
from phantomband_cli.sim.wire import Shape

Ints = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

STEPS_PER_SECOND = 96
"""The model's clock: a step is 10.4 ms, a third of a slot of the ladder; nothing is finer."""

STEP = 1 / STEPS_PER_SECOND
"""Seconds."""

BIN_STEPS = 12
"""Steps of one bin of what watchers note: 0.125 s, five intervals of 25 ms and a half, a quarter ... of longer ones."""


@dataclass(frozen=True, slots=True)
class Attack:
    """What corrupt guards do to the circuits of their clients; every guard is one, each circuit has its own code.

    The guard holds what the client sends while its code says so: a bit for each `period` seconds, half of them "hold".
    """

    period: float = 0.0
    """Seconds of one bit of the code; 0: nothing is held."""
    kill: bool = False
    """Each circuit is destroyed at a random time in the middle half of the run."""


@dataclass(frozen=True, slots=True)
class World:
    """A network and its users. Several `copies` that share nothing run at once: each is one sample."""

    profile: Profile
    flows: int = 120
    """Users of one copy."""
    nodes: int = 12
    """Of one copy; all are exits."""
    copies: int = 1
    seconds: float = 60.0
    web: WebModel = field(default_factory=WebModel)
    sessions: float | None = None
    """Seconds that a session lasts on average (exponential); it begins at a random time. None: all the time."""
    sites: int = 0
    """Above 0: flow i loads page i % sites once, and sites differ as pages on the web do."""
    attack: Attack = field(default_factory=Attack)
    bin_steps: int = BIN_STEPS
    watch_nodes: bool = True
    """Whether links between nodes are noted."""
    access: Shape = ACCESS
    backbone: Shape = BACKBONE
    server: Shape = SERVER

    @property
    def steps(self) -> int:
        return round(self.seconds * STEPS_PER_SECOND / self.bin_steps) * self.bin_steps

    @property
    def total(self) -> int:
        """Users of all copies."""
        return self.flows * self.copies


@dataclass(frozen=True, slots=True)
class Run:
    """What watchers saw, and what only the simulator knows. Rows are flows, or links; columns are bins of time.

    Flow i of copy c is row c x flows + i; clients and servers of the same flow have the same row.
    """

    world: World
    client_up: NDArray[np.uint16]
    """Cells from the client."""
    client_down: NDArray[np.uint16]
    server_up: NDArray[np.float32]
    """Bytes to the server."""
    server_down: NDArray[np.float32]
    link_cells: NDArray[np.uint16]
    """Cells on each direction of a link between nodes; no rows unless `watch_nodes`."""
    links: Ints
    """(links, 2): from node, to node."""
    paths: Ints
    """(flows, 3): guard, middle, exit; nodes of copy c start at c x nodes."""
    begins: Floats
    """Seconds: when each session begins."""
    ends: Floats
    opened: Floats
    """Seconds: when the exit connected to the server; infinity: never."""
    closed: Floats
    """Seconds: when the exit closed that connection; infinity: not in the run."""
    codes: Mask
    """(flows, bits): when the guard held; no columns without that attack."""
    kills: Floats
    """Seconds: when the guard destroyed the circuit; infinity: it did not."""
    first_bytes: list[Floats]
    """By copy: seconds from asking for a page to its first cell."""
    pages: list[Floats]
    """By copy: seconds from asking for a page to its last byte."""
    payload_bytes: Floats
    """By copy: of requests and answers that arrived."""
    cells_sent: Floats
    """By copy: all cells on all links, dummies too."""
    dummies_sent: Floats
    """By copy."""

    @property
    def bin_seconds(self) -> float:
        return self.world.bin_steps * STEP
