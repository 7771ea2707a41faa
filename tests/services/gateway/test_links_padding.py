"""The gateway's table of links: what is padded, and for whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import FakeConnection
from links_rig import ME, MY_KEY, NETWORK, Rig, dialled, run
from phantomband.core.link import Cells, dial, sealed_bytes
from phantomband.core.shaping import OFF, Mode, Policy, Schedule, Shape
from world import Seeded

CONSTANT = Shape(Mode.CONSTANT, Schedule.FIXED, 32)


def test_a_node_that_pads_pads_all_its_links_and_asks_those_it_dials() -> None:
    async def test(rig: Rig) -> None:
        driver = await dialled(rig, rig.contact("tcp"))
        wire = rig.transports["tcp"].wires[0]
        assert not wire.written, "it waits for the first slot"
        await asyncio.sleep(1 / 32)
        (ask,) = wire.written
        assert len(ask) == sealed_bytes(1)
        connection, client = rig.incoming(None)
        await asyncio.sleep(1 / 32)
        assert [len(data) for data in connection.written] == [sealed_bytes(1)]
        assert (driver.shaped, client.shaped) == (CONSTANT, CONSTANT)
        rig.links.abort_all()

    run(test, pacing=Policy(CONSTANT, 512))


@pytest.mark.parametrize(("limit", "done"), [(512, CONSTANT), (8, Shape(Mode.CONSTANT, Schedule.FIXED, 8)), (0, OFF)])
def test_a_client_gets_the_padding_that_it_asks_for_up_to_the_limit(limit: int, done: Shape) -> None:
    async def test(rig: Rig) -> None:
        connection = FakeConnection()
        receiver: Any = rig.links.accept(connection)
        machine = dial(NETWORK, ME, MY_KEY.public, None, Seeded(3))
        receiver.received(machine.start())
        machine.receive(connection.take())
        receiver.received(machine.seal(CONSTANT.cell()))
        await asyncio.sleep(0.2)
        (cells,) = [bytes(event.data) for event in machine.receive(connection.take()) if isinstance(event, Cells)]
        assert cells.startswith(done.cell())
        assert receiver.shaped == done
        rig.links.abort_all()

    run(test, pacing=Policy(OFF, limit))
