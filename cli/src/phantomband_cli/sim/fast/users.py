"""Users who browse, and the servers that answer them, for all flows at once: `web.py` on arrays.

    think (exponential) -> request -> page -> all its objects' requests at once -> objects -> think -> ...

Every flow has at most one page under way. Times are in steps, sizes in bytes; an answer is as many cells as it fills.
"""

from __future__ import annotations

import math

import numpy as np
from phantomband.core.cell import BODY_BYTES
from phantomband.core.onion import LAYER_BYTES
from phantomband.core.stream.messages import HEADER_BYTES

from phantomband_cli.sim.fast.world import STEP, STEPS_PER_SECOND, Floats, Ints, Mask, World
from phantomband_cli.sim.network import HOPS

DATA_BYTES = BODY_BYTES - HOPS * LAYER_BYTES - HEADER_BYTES
"""Bytes of a stream in one cell."""

MOST_OBJECTS = 30
LONGEST_WAIT = 4.0
"""Seconds until an answer: what is longer is cut."""

NEVER = np.inf


class Sites:
    """Pages that differ as sites do and vary a little from visit to visit; for website fingerprinting."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self._web, self._rng = world.web, rng
        shape = (world.copies, world.sites)
        self._pages = rng.lognormal(math.log(world.web.page), 1.0, shape)
        self._objects = np.minimum(MOST_OBJECTS, rng.geometric(1 / (1 + world.web.objects), shape) - 1)
        self._sizes = rng.lognormal(math.log(world.web.object), 1.0, (*shape, MOST_OBJECTS))
        flow = np.arange(world.total)
        self._site = (flow // world.flows, flow % world.flows % world.sites)

    def counts(self) -> Ints:
        """Objects of each flow's page: one more or one less than last time in one visit of four each."""
        change = self._rng.choice([-1, 0, 0, 1], self._site[0].size)
        counts: Ints = np.clip(self._objects[self._site] + change, 0, MOST_OBJECTS).astype(np.int32)
        return counts

    def sizes(self, flows: Ints, number: Ints) -> Floats:
        """Bytes of the page (number -1) or of an object, within some 10% of the last visit's."""
        copy, site = self._site[0][flows], self._site[1][flows]
        mean = np.where(number < 0, self._pages[copy, site], self._sizes[copy, site, np.maximum(number, 0)])
        return np.minimum(self._web.largest, mean * self._rng.lognormal(0.0, 0.1, flows.size))


class Users:
    """All flows' two ends. What lies between them is the model's."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        n, web = world.total, world.web
        self._web, self._rng = web, rng
        self._sites = Sites(world, rng) if world.sites else None
        self._think_until: Floats = np.full(n, NEVER)
        self._objects = np.zeros(n, dtype=np.int32)
        """Objects that the page under way still has to ask for."""
        self._asked = np.zeros(n, dtype=np.int32)
        """Answers of the last request; 0: none is under way."""
        self._request_cells = np.zeros(n, dtype=np.int32)
        self._request_bytes: Floats = np.zeros(n)
        self._came = np.zeros(n, dtype=np.int32)
        """Cells of the last request that the server has."""
        self._begun = np.zeros(n, dtype=np.int32)
        """Answers of it that the server works on or has sent."""
        self._main: Mask = np.zeros(n, dtype=np.bool_)
        """Whether the last request is for the page itself."""
        self._open_cells = np.zeros(n, dtype=np.int32)
        """Cells of begun answers that the client has not."""
        self._fresh: Mask = np.zeros(n, dtype=np.bool_)
        """Whether the last request has not left yet."""
        self._asked_at: Floats = np.full(n, NEVER)
        self._page_at: Floats = np.full(n, NEVER)
        self._room = int(LONGEST_WAIT * STEPS_PER_SECOND) + 1
        self._due = np.zeros((2, self._room, n), dtype=np.float32)
        """Cells and bytes that servers send at a step."""
        self._serialise = world.server.rate * STEP
        self.payload: Floats = np.zeros(n)
        self.sent_cells = np.zeros(n, dtype=np.int64)
        """Cells that servers have sent."""
        self.first_bytes: list[tuple[Ints, Floats]] = []
        self.pages: list[tuple[Ints, Floats]] = []

    def start(self, step: int, who: Ints) -> None:
        """These begin to browse."""
        if self._sites is None:
            self._think_until[who] = step + self._thinking(who.size)
        else:
            self._think_until[who] = step + self._rng.random(who.size) * STEPS_PER_SECOND

    def stop(self, who: Ints) -> None:
        """These are gone."""
        self._think_until[who] = NEVER
        self._asked[who] = self._objects[who] = self._open_cells[who] = 0
        self._due[:, :, who] = 0

    def _thinking(self, count: int) -> Floats:
        return self._rng.exponential(self._web.think * STEPS_PER_SECOND, count)

    # ---- the client's end ----------------------------------------------------------------------------------------

    def received(self, step: int, cells: Ints) -> None:
        """Answers' cells reached the client."""
        self._open_cells -= cells
        first = np.flatnonzero((cells > 0) & (self._asked_at < NEVER))
        if first.size:
            self.first_bytes.append((first, (step + 0.5 - self._asked_at[first]) * STEP))
            self._asked_at[first] = NEVER
        done = np.flatnonzero((cells > 0) & (self._asked > 0) & (self._begun == self._asked) & (self._open_cells <= 0))
        if done.size:
            self._finish(step, done)

    def _finish(self, step: int, who: Ints) -> None:
        more = self._objects[who] > 0
        self._ask(step, who[more], self._objects[who[more]], main=False)
        self._objects[who[more]] = 0
        over = who[~more]
        self.pages.append((over, (step + 0.5 - self._page_at[over]) * STEP))
        self._asked[over] = 0
        if self._sites is None:
            self._think_until[over] = step + self._thinking(over.size)

    def requests(self, step: int) -> Ints:
        """Cells of requests that clients make now."""
        who = np.flatnonzero(self._think_until < step + 1)
        if who.size:
            self._think_until[who] = NEVER
            self._asked_at[who] = self._page_at[who] = step + 0.5
            self._objects[who] = self._object_counts(who)
            self._ask(step, who, np.ones(who.size, dtype=np.int32), main=True)
        out: Ints = np.where(self._fresh, self._request_cells, 0).astype(np.int32)
        self._fresh[:] = False
        return out

    def _ask(self, step: int, who: Ints, answers: Ints, *, main: bool) -> None:
        low, high = self._web.request
        size = answers * (low + high) / 2 + np.sqrt(answers / 12) * (high - low) * self._rng.uniform(-1, 1, who.size)
        self._request_bytes[who] = np.maximum(size, low)
        self._request_cells[who] = np.ceil(self._request_bytes[who] / DATA_BYTES)
        self._asked[who] = answers
        self._came[who] = self._begun[who] = 0
        self._main[who] = main
        self._fresh[who] = True

    def _object_counts(self, who: Ints) -> Ints:
        if self._sites is not None:
            return self._sites.counts()[who]
        counts = self._rng.geometric(1 / (1 + self._web.objects), who.size) - 1
        return np.minimum(MOST_OBJECTS, counts).astype(np.int32)

    # ---- the server's end ----------------------------------------------------------------------------------------

    def asked(self, step: int, cells: Ints) -> Floats:
        """Requests' cells reached the servers. Returns: their bytes."""
        busy = np.flatnonzero((cells > 0) & (self._asked > 0))
        size: Floats = np.zeros(cells.size)
        if busy.size:
            self._came[busy] += cells[busy]
            whole = self._asked[busy] * self._came[busy] // np.maximum(self._request_cells[busy], 1)
            begin = np.minimum(whole, self._asked[busy]) - self._begun[busy]
            self._begin(step, np.repeat(busy, begin), _numbers(self._begun[busy], begin))
            self._begun[busy] += begin
            size[busy] = self._request_bytes[busy] * cells[busy] / np.maximum(self._request_cells[busy], 1)
            self.payload[busy] += size[busy]
        return size

    def _begin(self, step: int, who: Ints, number: Ints) -> None:
        main = self._main[who]
        if self._sites is None:
            median = np.where(main, self._web.page, self._web.object)
            sizes = np.clip(median * self._rng.lognormal(0.0, 1.0, who.size), 1, self._web.largest).astype(np.int64)
        else:
            sizes = self._sites.sizes(who, np.where(main, -1, number)).astype(np.int64) + 1
        cells = -(-sizes // DATA_BYTES)
        wait = self._rng.exponential(self._web.wait / STEP, who.size) + sizes / self._serialise
        due = (step + np.clip(wait + self._rng.random(who.size), 0, self._room - 1).astype(np.int64)) % self._room
        np.add.at(self._due[0], (due, who), cells)
        np.add.at(self._due[1], (due, who), sizes)
        np.add.at(self._open_cells, who, cells)

    def answers(self, step: int) -> tuple[Ints, Floats]:
        """(cells, bytes) that servers send now."""
        slot = self._due[:, step % self._room]
        cells, size = slot[0].astype(np.int32), slot[1].astype(np.float64)
        slot[:] = 0
        self.payload += size
        self.sent_cells += cells
        return cells, size


def _numbers(first: Ints, count: Ints) -> Ints:
    """first, first + 1, ... for each, `count` of them."""
    ends = np.cumsum(count)
    return (np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - count, count) + np.repeat(first, count)).astype(
        np.int32
    )
