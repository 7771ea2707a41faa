"""One run of the vectorised simulator: every cell of every flow as part of a count, step by step.

    client -> guard -> middle -> exit -> server      a flow's cells wait, each way, in one queue
    client <- guard <- middle <- exit <- server      at most at each client, mixer and link

In a step each thing happens once, in this order: what links bring, users, servers, mixers, links. So nothing passes two
nodes in one step, and delays are exact in their means, to a step (10 ms) in themselves. Compared with the exact
simulator: no congestion control and no credit windows (hardly a page fills them), credits are cells like dummies,
node-to-node links have no limit of rate but their pacing's, and circuits exist when the session begins.
"""

from __future__ import annotations

import numpy as np

from phantomband_cli.sim.fast.delays import Lines
from phantomband_cli.sim.fast.mixers import mixers
from phantomband_cli.sim.fast.pacing import Pacer
from phantomband_cli.sim.fast.sessions import Guards, Sessions
from phantomband_cli.sim.fast.sharing import Sharing
from phantomband_cli.sim.fast.users import Users
from phantomband_cli.sim.fast.watch import Watch
from phantomband_cli.sim.fast.world import STEP, Floats, Ints, Run, World
from phantomband_cli.sim.network import HOPS
from phantomband_cli.sim.profiles import Pacing
from phantomband_cli.sim.wire import Shape

REAL, DUMMY = 0, 1
GUARD_IN, MIDDLE_IN, EXIT_IN, SERVER_IN, EXIT_BACK, MIDDLE_BACK, GUARD_BACK, CLIENT_IN = range(8)
"""The lines, by where they end."""

UP_GUARD, UP_MIDDLE, DOWN_EXIT, DOWN_MIDDLE, DOWN_GUARD = range(5)
"""The mixers of a flow: rows as in `mixers.STAGES`."""

NODE_LINES = ((UP_GUARD, MIDDLE_IN), (UP_MIDDLE, EXIT_IN), (DOWN_EXIT, MIDDLE_BACK), (DOWN_MIDDLE, GUARD_BACK))
"""Which mixer feeds which line between nodes."""

CELL_ON_LINK = 2082
"""Bytes of a record with one cell (link/records.py)."""

CREDITS = (32, 64)
"""A client answers each so many cells with one (stream/credit.py)."""


class Model:
    """A network that is run once."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self._rng = rng = np.random.Generator(np.random.SFC64([seed, 0x5EED]))
        n = world.total
        self.paths = _paths(world, rng)
        guard, middle, out = self.paths.T
        self._mixers = mixers(world.profile.mixer, np.stack([guard, middle, out, middle, guard]), rng)
        ends = np.concatenate([np.stack([guard, middle, out, middle]), np.stack([middle, out, middle, guard])])
        self.links, self._link_of = _links(ends[:4], ends[4:])
        self._sharing = Sharing(self._link_of.ravel(), len(self.links))
        delays = [_mean(world.access), _mean(world.backbone), _mean(world.backbone), _mean(world.server)]
        self._lines = Lines(n, [*delays, *reversed(delays)], rng)
        self._users = Users(world, rng)
        self._sessions = Sessions(world, rng)
        self._guards = Guards(world, rng)
        self._watch = Watch(world, len(self.links))
        pacing = world.profile.client
        self._client_pacer = None if pacing.kind == "off" else Pacer(pacing, 2 * n, rng)
        pacing = world.profile.nodes
        self._node_pacer = None if pacing.kind == "off" else Pacer(pacing, len(self.links), rng)
        pace = world.profile.pace
        self._circuit_pacer = Pacer(Pacing("constant", rate=pace), 2 * n, rng) if pace else None
        self._access_cells = max(1, round(world.access.rate * STEP / CELL_ON_LINK))
        self._from_client = np.zeros((2, n), dtype=np.int32)
        self._to_pace = np.zeros((2, n), dtype=np.int32)
        """What waits at the client for the circuit's pace, by kind."""
        self._at_exit = np.zeros(n, dtype=np.int32)
        self._mixed = np.zeros((2, 5, n), dtype=np.int32)
        self._egress = np.zeros((2, 5, n), dtype=np.int32)
        self._got = np.zeros(n, dtype=np.int32)
        self._asked_cells = np.zeros(n, dtype=np.int32)
        self._heard_cells = np.zeros(n, dtype=np.int32)

    def run(self) -> Run:
        """All steps."""
        for step in range(self.world.steps):
            self._step(step)
        return self._watch.run(self.links, self.paths, self._sessions, self._guards, self._users)

    def _step(self, step: int) -> None:
        self._come_and_go(step)
        came = self._lines.take(step)
        entering = np.zeros_like(self._mixed)
        entering[:, UP_GUARD] = self._guards.hold(step, came[:, GUARD_IN])
        entering[:, UP_MIDDLE] = came[:, MIDDLE_IN]
        entering[:, DOWN_MIDDLE] = came[:, MIDDLE_BACK]
        entering[:, DOWN_GUARD] = came[:, GUARD_BACK] * self._sessions.active
        from_client, from_exit = self._paced(step)
        self._client(step, came[REAL, CLIENT_IN], from_client)
        self._drops(entering, came[DUMMY, EXIT_IN])
        self._exit(step, came, entering, from_exit)
        self._mix(step, entering)
        self._send_from_client(step)
        self._send_between_nodes(step)
        self._send_to_client(step)

    def _paced(self, step: int) -> tuple[Ints | None, Ints | None]:
        """Cells that client and exit send on each circuit in this step, whatever they have to say."""
        if self._circuit_pacer is None:
            return None, None
        alive = np.concatenate([self._sessions.active, self._sessions.open_exit])
        due = self._circuit_pacer.budget(step, np.zeros(alive.size, dtype=np.int32), alive)
        return due[: alive.size // 2], due[alive.size // 2 :]

    # ---- ends ----------------------------------------------------------------------------------------------------

    def _come_and_go(self, step: int) -> None:
        begin, end, kill = self._sessions.changes(step, self._guards.kill_steps)
        if begin.size:
            self._users.start(step, begin)
        gone = np.concatenate([end, kill])
        if gone.size:
            self._users.stop(gone)
            self._asked_cells[gone] -= self._from_client[REAL, gone] + self._to_pace[REAL, gone]
            self._from_client[:, gone] = self._to_pace[:, gone] = 0
            self._asked_cells[gone] += 1  # the DESTROY cell, which closes the exit's end when all before it are there
            self._from_client[REAL, end] = 1
            self._lines.put(step, GUARD_IN, np.isin(np.arange(self.world.total), kill).astype(np.int32))

    def _client(self, step: int, cells: Ints, due: Ints | None) -> None:
        """Args: due: cells that the circuit's pace asks for; None: it has none."""
        active = self._sessions.active
        self._users.received(step, cells * active)
        before = self._got.copy()
        self._got += cells
        queue = self._from_client if due is None else self._to_pace
        requests = self._users.requests(step)
        self._asked_cells += requests
        queue[REAL] += requests
        for every in CREDITS:
            queue[DUMMY] += (self._got // every - before // every) * active
        if due is not None:
            real = np.minimum(queue[REAL], due)
            queue[REAL] -= real
            queue[DUMMY] = np.maximum(0, queue[DUMMY] - (due - real))
            self._from_client[REAL] += real
            self._from_client[DUMMY] += due - real

    def _exit(self, step: int, came: Ints, entering: Ints, due: Ints | None) -> None:
        """Args: due: as for `_client`."""
        requests = came[REAL, EXIT_IN]
        self._heard_cells += requests
        closing = self._sessions.closing & (self._heard_cells == self._asked_cells)
        if closing.any():
            self._sessions.close(step, closing)
            self._at_exit[closing] = 0
        open_ = self._sessions.open_exit
        self._sessions.opens(step, requests > 0)
        self._lines.put(step, SERVER_IN, requests * open_)
        self._watch.server_up(step, self._users.asked(step, came[REAL, SERVER_IN]))
        cells, size = self._users.answers(step)
        self._watch.server_down(step, size)
        self._lines.put(step, EXIT_BACK, cells)
        self._at_exit += came[REAL, EXIT_BACK] * open_
        real = self._at_exit.copy() if due is None else np.minimum(self._at_exit, due)
        self._at_exit -= real
        entering[REAL, DOWN_EXIT] += real
        if due is not None:
            entering[DUMMY, DOWN_EXIT] += due - real

    def _drops(self, entering: Ints, at_exit: Ints) -> None:
        """Dummies end at their hop; loops go back from there."""
        profile = self.world.profile
        if not profile.covers:
            return
        if profile.drops == "random":
            passing = entering[DUMMY, UP_MIDDLE]
            ended = self._rng.binomial(passing, 1 / (HOPS - 1)).astype(np.int32)
            entering[DUMMY, UP_MIDDLE] -= ended
            entering[DUMMY, DOWN_MIDDLE] += self._rng.binomial(ended, profile.loop_share).astype(np.int32)
        if not profile.pace:
            entering[DUMMY, DOWN_EXIT] += self._rng.binomial(at_exit, profile.loop_share).astype(np.int32)

    # ---- nodes ---------------------------------------------------------------------------------------------------

    def _mix(self, step: int, entering: Ints) -> None:
        out = self._mixers.step(step, entering.sum(axis=0, dtype=np.int32))
        self._mixed += entering
        leaving = self._split(self._mixed, out)
        self._mixed -= leaving
        self._egress += leaving

    def _split(self, queue: Ints, out: Ints) -> Ints:
        """Of `out` cells of each queue, how many are real and how many dummies: in the queue's proportion."""
        total = queue[REAL] + queue[DUMMY]
        real = np.minimum(queue[REAL], out)
        mixed = (out > 0) & (out < total) & (queue[DUMMY] > 0)
        if mixed.any():
            part, all_, mine = out[mixed], total[mixed], queue[REAL][mixed]
            drawn = np.floor(part * mine / all_ + self._rng.random(part.size)).astype(np.int32)
            real[mixed] = np.clip(drawn, np.maximum(0, part - queue[DUMMY][mixed]), np.minimum(part, mine))
        return np.stack([real, out - real])

    # ---- links ---------------------------------------------------------------------------------------------------

    def _send_from_client(self, step: int) -> None:
        queue, active = self._from_client, self._sessions.active
        waiting = queue[REAL] + queue[DUMMY]
        if self._client_pacer is None:
            real, other = queue[REAL].copy(), queue[DUMMY].copy()
            padding: Ints = np.zeros_like(real)
        else:
            both = np.concatenate([waiting, self._egress[:, DOWN_GUARD].sum(axis=0, dtype=np.int32)])
            budget = self._client_pacer.budget(step, both, np.tile(active, 2))
            self._down_budget = budget[active.size :]
            budget = np.where(active, budget[: active.size], waiting).astype(np.int32)
            real = np.minimum(queue[REAL], budget)
            other = np.minimum(queue[DUMMY], budget - real)
            padding = budget - real - other
        queue[REAL] -= real
        queue[DUMMY] -= other
        # With a paced circuit what else the link sends ends at the guard; else it is DROP cells for hops beyond.
        self._lines.put(step, GUARD_IN, real, other if self._circuit_pacer else other + padding)
        self._watch.client_up(step, real + other + padding, other + padding)

    def _send_to_client(self, step: int) -> None:
        queue = self._egress[:, DOWN_GUARD]
        waiting = queue[REAL] + queue[DUMMY]
        budget = np.full_like(waiting, self._access_cells) if self._client_pacer is None else self._down_budget
        sent = np.minimum(waiting, budget)
        parts = self._split(queue, sent)
        queue -= parts
        padding = 0 if self._client_pacer is None else budget - sent
        self._lines.put(step, CLIENT_IN, parts[REAL])
        self._watch.client_down(step, sent + padding, parts[DUMMY] + padding)
        queue *= self._sessions.active

    def _send_between_nodes(self, step: int) -> None:
        queue = self._egress[:, :DOWN_GUARD]
        total: Ints = queue.sum(axis=0, dtype=np.int32)
        waiting: Ints = self._sharing.waiting(total.ravel())
        padding: Ints = np.zeros_like(waiting)
        if self._node_pacer is None:
            parts: Ints = queue.copy()
        else:
            used = self._used_links()
            budget: Ints = np.where(used, self._node_pacer.budget(step, waiting, used), waiting).astype(np.int32)
            share = self._sharing.share(total.ravel(), waiting, budget, self._rng).reshape(total.shape)
            parts = self._split(queue, share)
            padding = budget - np.minimum(budget, waiting)
            waiting = np.minimum(budget, waiting)
        queue -= parts
        for stage, line in NODE_LINES:
            self._lines.put(step, line, parts[REAL, stage], parts[DUMMY, stage])
        self._watch.nodes(step, waiting + padding, padding, parts[DUMMY])

    def _used_links(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Links with circuits: those of sessions whose exit's end is open."""
        if self._sessions.changed:
            held = np.broadcast_to(self._sessions.open_exit, self._link_of.shape)
            self._used = np.bincount(self._link_of.ravel(), weights=held.ravel(), minlength=len(self.links)) > 0
            self._sessions.changed = False
        return self._used


def _mean(shape: Shape) -> float:
    return shape.delay + shape.jitter / 2


def _paths(world: World, rng: np.random.Generator) -> Ints:
    """(flows, hops): different nodes of the flow's own copy, all as likely."""
    draw: Floats = rng.random((world.total, world.nodes))
    path = np.argpartition(draw, HOPS, axis=1)[:, :HOPS] if world.nodes > HOPS else np.argsort(draw, axis=1)
    order = np.argsort(np.take_along_axis(draw, path, axis=1), axis=1)
    copy = np.arange(world.total) // world.flows * world.nodes
    return (np.take_along_axis(path, order, axis=1) + copy[:, None]).astype(np.int32)


def _links(start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """All directed links that circuits use, and for each circuit at each mixer its number."""
    pairs = np.stack([start.ravel(), end.ravel()], axis=1)
    links, number = np.unique(pairs, axis=0, return_inverse=True)
    return links.astype(np.int32), number.reshape(start.shape).astype(np.int32)
