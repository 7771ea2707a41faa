"""The slots of paced circuits on the guard's link, with real machines on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

from phantomband.core.circuit.client import CircuitState
from phantomband.core.ids import NodeId
from phantomband.core.profiles import STRONG
from phantomband_client.guard_link import GuardLink
from virtual import run_virtual
from world import World

PATH = ("r1", "r2", "r3")


def test_a_fault_in_one_paced_circuit_ends_it_and_the_others_keep_their_pace() -> None:
    async def main() -> None:
        world = World()
        link = GuardLink(NodeId(bytes(32)), lambda _: None, world.random, STRONG)
        broken, healthy = world.built(*PATH), world.built(*PATH)
        sent: list[int] = []

        def slot(now: float, cells: int, *, loop: bool) -> None:
            sent.append(cells)

        def fault(now: float, cells: int, *, loop: bool) -> None:
            raise ValueError("a fault of ours")

        changed: Any = (broken, healthy)
        changed[0].slot, changed[1].slot = fault, slot
        for circuit in (broken, healthy):
            link.circuits[circuit.id] = circuit
            link.pace(circuit, STRONG.pace)
        await asyncio.sleep(1.1 / STRONG.pace)
        assert broken.state is CircuitState.GONE
        assert link.bugs == 1
        link.forget(broken)
        sent.clear()
        await asyncio.sleep(10)
        assert healthy.state is CircuitState.OPEN
        assert abs(sum(sent) - 10 * STRONG.pace) <= 1
        link.forget(healthy)

    run_virtual(main())
