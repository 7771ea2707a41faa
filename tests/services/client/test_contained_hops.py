"""Whatever a hop sends or is, it ends its own circuit: not the builder, not the link, not who waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from phantomband.core.cell import CELL_BYTES, Command
from phantomband.core.circuit.client import CircuitState
from phantomband.core.errors import Forged, Malformed, PhantomBandError, Refused
from phantomband.core.ids import NodeId
from phantomband.core.profiles import FAST
from phantomband.runtime.contained import Contained
from phantomband.runtime.shared import SharedAttempts
from phantomband_client.guard_link import GuardLink
from pool_rig import WEB, Rig, isolation, run
from virtual import run_virtual
from world import World

ERRORS = [
    Malformed("m"),
    Forged("f"),
    Refused("r"),
    ValueError("v"),
    KeyError("k"),
    RuntimeError("x"),
    ZeroDivisionError(),
]


@pytest.mark.parametrize("hop", [0, 1, 2])
def test_a_relay_whose_onion_key_is_of_small_order_ends_nobody(hop: int) -> None:
    async def test(rig: Rig) -> None:
        contained = Contained()
        relay = list(rig.world.relays.values())[hop]
        good = relay.key
        keys: Any = relay
        keys.key = type("Key", (), {"public": bytes(32)})()
        async with asyncio.TaskGroup() as tasks:
            contained.start(tasks)
            rig.pool.building.spawn = contained.spawn
            keeping = tasks.create_task(contained.keep(rig.pool.keep_ready))
            with pytest.raises(Refused):
                await rig.pool.get(isolation(), WEB)
            await asyncio.sleep(30)
            assert not rig.pool.circuits
            assert set(rig.outcomes) == {hop}
            assert not contained.bugs
            keys.key = good
            await asyncio.sleep(10)
            assert (await rig.pool.get(isolation(), WEB)).open
            keeping.cancel()

    run(test, ready=1)


@pytest.mark.parametrize("error", ERRORS)
def test_building_ahead_survives_any_error(error: Exception) -> None:
    async def test(rig: Rig) -> None:
        contained, choose = Contained(), rig.choose

        def fail(*_: Any) -> Any:
            raise error

        broken: Any = rig
        broken.choose = fail
        keeping = asyncio.ensure_future(contained.keep(rig.pool.keep_ready))
        await asyncio.sleep(10)
        assert bool(contained.bugs) is not isinstance(error, Refused)
        broken.choose = choose
        await asyncio.sleep(70)
        assert len(rig.pool.circuits) == 1
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run(test, ready=1)


@pytest.mark.parametrize("error", ERRORS)
def test_who_waits_for_an_attempt_that_breaks_is_refused_not_cancelled(error: Exception) -> None:
    async def main() -> None:
        contained: Contained = Contained()
        attempts: SharedAttempts[int, int] = SharedAttempts()

        async def fail() -> int:
            await asyncio.sleep(1)
            raise error

        async with asyncio.TaskGroup() as tasks:
            contained.start(tasks)
            attempts.spawn = contained.spawn
            waiting = [asyncio.ensure_future(attempts.get(1, fail)) for _ in range(3)]
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(result, PhantomBandError) for result in results)
        assert contained.bugs == (not isinstance(error, PhantomBandError))

    run_virtual(main())


def test_a_fault_at_the_cells_of_one_circuit_leaves_the_others_of_the_link() -> None:
    async def main() -> None:
        world = World()
        link = GuardLink(NodeId(bytes(32)), lambda _: None, world.random, FAST)
        broken, healthy = world.built("r1", "r2", "r3"), world.built("r1", "r2", "r3")
        for circuit in (broken, healthy):
            link.circuits[circuit.id] = circuit

        def fail(*_: Any) -> None:
            raise IndexError("a fault of ours")

        changed: Any = broken
        changed.cells = fail
        cell = broken.id + bytes((Command.RELAY,))
        driver: Any = None
        link.link_cells(driver, cell.ljust(CELL_BYTES, b"\0"))
        assert broken.state is CircuitState.GONE
        assert healthy.state is CircuitState.OPEN
        assert link.bugs == 1

    run_virtual(main())
