"""Notes of what crosses links, in bins, and the accounts of what it cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phantomband_cli.sim.fast.sessions import Guards, Sessions
from phantomband_cli.sim.fast.users import Users
from phantomband_cli.sim.fast.world import STEP, Floats, Ints, Run, World


class Watch:
    """One row for each bin while it runs: a step writes one row, and rows lie together in memory."""

    def __init__(self, world: World, links: int) -> None:
        self._world = world
        bins, n = world.steps // world.bin_steps, world.total
        self._client_up: NDArray[np.uint16] = np.zeros((bins, n), dtype=np.uint16)
        self._client_down: NDArray[np.uint16] = np.zeros((bins, n), dtype=np.uint16)
        self._server_up: NDArray[np.float32] = np.zeros((bins, n), dtype=np.float32)
        self._server_down: NDArray[np.float32] = np.zeros((bins, n), dtype=np.float32)
        self._links: NDArray[np.uint16] = np.zeros((bins, links if world.watch_nodes else 0), dtype=np.uint16)
        self._cells: Floats = np.zeros(n)
        self._dummies: Floats = np.zeros(n)
        self._link_cells: Floats = np.zeros(links)
        self._link_padding: Floats = np.zeros(links)

    def client_up(self, step: int, cells: Ints, dummies: Ints) -> None:
        self._client_up[step // self._world.bin_steps] += cells.astype(np.uint16)
        self._cells += cells
        self._dummies += dummies

    def client_down(self, step: int, cells: Ints, dummies: Ints) -> None:
        self._client_down[step // self._world.bin_steps] += cells.astype(np.uint16)
        self._cells += cells
        self._dummies += dummies

    def server_up(self, step: int, size: Floats) -> None:
        self._server_up[step // self._world.bin_steps] += size

    def server_down(self, step: int, size: Floats) -> None:
        self._server_down[step // self._world.bin_steps] += size

    def nodes(self, step: int, cells: Ints, padding: Ints, dummies: Ints) -> None:
        if self._world.watch_nodes:
            self._links[step // self._world.bin_steps] += cells.astype(np.uint16)
        self._link_cells += cells
        self._link_padding += padding
        self._dummies += dummies.sum(axis=0)

    def run(self, links: Ints, paths: Ints, sessions: Sessions, guards: Guards, users: Users) -> Run:
        """Everything, in its final form."""
        world = self._world
        copy_of_link = links[:, 0] // world.nodes
        return Run(
            world,
            self._client_up.T,
            self._client_down.T,
            self._server_up.T,
            self._server_down.T,
            self._links.T,
            links,
            paths,
            sessions.begins,
            sessions.ends,
            sessions.opened,
            sessions.closed,
            guards.codes,
            guards.kill_steps * STEP,
            _by_copy(users.first_bytes, world),
            _by_copy(users.pages, world),
            self._sum(users.payload),
            self._sum(self._cells) + np.bincount(copy_of_link, self._link_cells, world.copies),
            self._sum(self._dummies) + np.bincount(copy_of_link, self._link_padding, world.copies),
        )

    def _sum(self, by_flow: Floats) -> Floats:
        out: Floats = by_flow.reshape(self._world.copies, -1).sum(axis=1)
        return out


def _by_copy(samples: list[tuple[Ints, Floats]], world: World) -> list[Floats]:
    who = np.concatenate([np.zeros(0, dtype=np.int64), *(flows for flows, _ in samples)])
    values = np.concatenate([np.zeros(0), *(seconds for _, seconds in samples)])
    return [values[who // world.flows == copy] for copy in range(world.copies)]
