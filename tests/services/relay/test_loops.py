"""The relay's own loops: measured through real machines on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from phantomband.core.cell import Command
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.netdir.measures import Measure, Measures
from phantomband.runtime.contained import Contained
from phantomband_relay.loops import LATE_SECONDS, LOOPS_A_CIRCUIT, Loops
from virtual import run_virtual
from world import NETWORK_ID, World

STEP = 0.02


class Rig:
    """Relay r1 measures the others of an in-memory world."""

    def __init__(self, relays: int, seconds: float = 1.0) -> None:
        self.world = World(relays=relays)
        self.names = {relay.node_id: name for name, relay in self.world.relays.items()}
        self.away: set[str] = set()
        self.total = Measures()
        self.reports = 0
        entries = [
            SimpleNamespace(node_id=r.node_id, onion_key=r.key.public, mix="none", padding="off")
            for r in self.world.relays.values()
        ]
        found = {e.node_id: e for e in entries}
        self.view: Any = SimpleNamespace(entries=entries, find=found.get)
        me = self.world.relays["r1"]
        self.loops = Loops(me.node_id, NETWORK_ID, me.machine, self, self.world.random, seconds, Contained())

    async def open_link(self, node: NodeId) -> LinkId | None:
        return None if self.names[node] in self.away else self.world.connect("r1", self.names[node])

    async def report(self, measured: Mapping[NodeId, Measure]) -> None:
        self.reports += 1
        for node, m in measured.items():
            self.total.add(node, int(m.returned), int(m.lost), m.delay)

    async def _ready(self, link: LinkId) -> None:
        assert self.world.relays["r1"].machine.has_link(link)

    async def _move(self) -> None:
        while True:
            self.world.now = asyncio.get_running_loop().time()
            self.world.step()
            await asyncio.sleep(STEP)

    async def pass_time(self, seconds: float) -> None:
        tasks = [asyncio.ensure_future(self._move()), asyncio.ensure_future(self.loops.run(self._ready))]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def of(self, name: str) -> Measure:
        return self.total.by_node.get(self.world.relays[name].node_id, Measure())


def test_loops_through_honest_relays_come_back_and_are_reported() -> None:
    async def main() -> None:
        rig = Rig(4)
        await rig.pass_time(400)
        assert rig.reports > 10
        others = [rig.of(n) for n in ("r2", "r3", "r4")]
        assert all(m.returned > LOOPS_A_CIRCUIT for m in others)
        assert all(m.lost == 0 for m in others)
        assert all(STEP < m.delay < 10 * STEP for m in others)
        assert rig.of("r1").returned == 0, "nobody measures itself"
        machines = [r.machine for r in rig.world.relays.values()]
        assert all(m.counters.malformed == 0 for m in machines)
        assert max(m.circuit_count for m in machines) <= 1, "circuits that have been used are ended"

    run_virtual(main())


def test_a_relay_that_drops_cells_stands_out() -> None:
    async def main() -> None:
        rig = Rig(6)
        for other in ("r1", "r2", "r4", "r5", "r6"):
            rig.world.tamper["r3", other] = lambda cell: None if cell[4] == Command.RELAY else cell
        await rig.pass_time(1500)
        quality = {n: rig.of(n).quality for n in ("r2", "r3", "r4", "r5", "r6")}
        assert quality["r3"] == min(quality.values())
        assert quality["r3"] < 0.7
        assert sorted(quality.values())[1] > quality["r3"] + 0.1

    run_virtual(main())


def test_a_loop_that_comes_back_too_late_counts_as_lost() -> None:
    async def main() -> None:
        rig = Rig(3)
        rig.world.relays["r2"].slots_due = None
        await rig.pass_time(60)
        good = rig.of("r2").returned
        late = LATE_SECONDS + 1
        held: list[tuple[float, bytes]] = []

        def hold(cell: bytes) -> bytes | None:
            if cell[4] != Command.RELAY:
                return cell
            held.append((rig.world.now + late, cell))
            return None

        async def release() -> None:
            while True:
                while held and held[0][0] <= rig.world.now:
                    rig.world.tamper.pop(("r2", "r1"), None)
                    rig.world.inject("r2", "r1", held.pop(0)[1])
                await asyncio.sleep(STEP)

        rig.world.tamper["r2", "r1"] = hold
        task = asyncio.ensure_future(release())
        await rig.pass_time(120)
        task.cancel()
        assert good > 0
        assert rig.of("r2").lost > 0

    run_virtual(main())


def test_a_relay_that_cannot_be_reached_counts_as_lost() -> None:
    async def main() -> None:
        rig = Rig(4)
        rig.away.add("r4")
        await rig.pass_time(400)
        assert rig.of("r4").lost > 0
        assert rig.of("r2").returned > 0

    run_virtual(main())


@pytest.mark.parametrize("relays", [1, 2])
def test_a_network_too_small_for_a_loop_has_none(relays: int) -> None:
    async def main() -> None:
        rig = Rig(relays)
        await rig.pass_time(100)
        assert rig.reports == 0

    run_virtual(main())


def test_a_link_that_breaks_ends_the_circuit_and_the_next_begins() -> None:
    async def main() -> None:
        rig = Rig(3)
        await rig.pass_time(60)
        machine = rig.world.relays["r1"].machine
        machine.reset(keep_links=True)
        before = rig.reports
        await rig.pass_time(100)
        assert rig.reports > before

    run_virtual(main())
