"""The relay's own loops: circuits through two other relays back to itself, with cells that measure the way.

They are cover between the nodes, and show who drops or delays: what was measured goes to the node's directory, which
votes less weight for relays whose loops are lost (Loopix, section 4.2; DESIGN.md section 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from phantomband.core.circuit.client import CircuitState, CircuitWatcher, ClientCircuit
from phantomband.core.circuit.relay import RelayMachine
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused
from phantomband.core.handshake.ntor import RelayKeys
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.mixing.shuffle import Draw
from phantomband.core.netdir.measures import Measure, Measures
from phantomband.core.netdir.view import View, ViewEntry
from phantomband.core.profiles import mean_delay
from phantomband.runtime.contained import Contained

LOOPS_A_CIRCUIT = 12
BUILD_SECONDS = 10.0

LATE_SECONDS = 2.0
"""A loop that takes so much longer than the mixing on its way is lost. Mixing delays count four times their mean."""


class Nodes(Protocol):
    """What the loops need of the node around them."""

    @property
    def view(self) -> View | None:
        """The newest view."""

    async def open_link(self, node: NodeId) -> LinkId | None: ...

    async def report(self, measured: Mapping[NodeId, Measure]) -> None:
        """To the directory; lost when it does not answer."""


class Loops:
    """One circuit at a time, with a loop each `seconds` on average."""

    def __init__(
        self,
        me: NodeId,
        network_id: bytes,
        machine: RelayMachine,
        nodes: Nodes,
        random: RandomSource,
        seconds: float,
        contained: Contained,
    ) -> None:
        """Args: seconds: on average between two loops; contained: counts what goes wrong in a round unexpectedly."""
        self.measures = Measures()
        self._me, self._network_id = me, network_id
        self._machine, self._nodes, self._random = machine, nodes, random
        self._seconds = seconds
        self._draw = Draw(random)
        self._contained = contained

    async def run(self, link_ready: Callable[[LinkId], Coroutine[Any, Any, None]]) -> None:
        """Until cancelled. Args: link_ready: returns when the machine should know the link."""
        while True:
            await asyncio.sleep(self._draw.exponential(self._seconds))
            try:
                await self._round(link_ready)
            except Exception as e:  # noqa: BLE001 - what one pair of relays says ends one round
                self._contained.bug(e)

    async def _round(self, link_ready: Callable[[LinkId], Coroutine[Any, Any, None]]) -> None:
        path = self._path()
        if path is None:
            return
        link = await self._nodes.open_link(path[0].node_id)
        if link is None:
            self.measures.loops_lost([path[0].node_id], 1)
        else:
            await link_ready(link)
            await self._measure(path, link)
        await self._nodes.report(self.measures.take())

    def _path(self) -> list[ViewEntry] | None:
        """Two relays drawn alike from all others, and ourselves."""
        view = self._nodes.view
        mine = view.find(self._me) if view is not None else None
        if view is None or mine is None:
            return None
        others = [e for e in view.entries if e.node_id != self._me]
        if len(others) < 2:
            return None
        first = others.pop(self._draw.below(len(others)))
        return [first, others[self._draw.below(len(others))], mine]

    async def _measure(self, path: list[ViewEntry], link: LinkId) -> None:
        others = [e.node_id for e in path[:-1]]
        round_ = _Round(others, self.measures, LATE_SECONDS + 4 * 2 * sum(map(mean_delay, path)))
        keys = [RelayKeys(e.node_id, e.onion_key) for e in path]
        try:
            circuit = self._machine.start_own(link, keys, self._network_id, self._random, round_)
        except Refused:
            return  # the link went down meanwhile
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                await round_.built.wait()
            if circuit.state is not CircuitState.OPEN:
                return
            for _ in range(LOOPS_A_CIRCUIT):
                await asyncio.sleep(self._draw.exponential(self._seconds))
                if circuit.state is not CircuitState.OPEN:
                    return
                circuit.send_loop(2 + self._draw.below(len(path) - 1), asyncio.get_running_loop().time())
            await asyncio.sleep(round_.patience)
        except TimeoutError:
            self.measures.loops_lost(others, 1)
        finally:
            round_.over(circuit)
            self._machine.end_own(link, circuit)


class _Round(CircuitWatcher):
    """What becomes of one circuit and its loops."""

    def __init__(self, others: list[NodeId], measures: Measures, patience: float) -> None:
        self.built = asyncio.Event()
        self.patience = patience
        self._others, self._measures = others, measures
        self._over = False

    def circuit_open(self, circuit: ClientCircuit) -> None:
        self.built.set()

    def circuit_looped(self, circuit: ClientCircuit, hop: int, seconds: float) -> None:
        passed = self._others[:hop]
        if seconds > self.patience:
            self._measures.loops_lost(passed, 1)
        else:
            self._measures.loop_returned(passed, seconds)

    def circuit_paced(self, circuit: ClientCircuit) -> None:
        """Never asked for."""

    def circuit_gone(self, circuit: ClientCircuit) -> None:
        self.built.set()
        self.over(circuit)

    def over(self, circuit: ClientCircuit) -> None:
        """Whatever is still out is lost."""
        if not self._over:
            self._over = True
            self._measures.loops_lost(self._others, circuit.loops.out)
