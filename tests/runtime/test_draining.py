"""Draining: a service that is told to stop goes on as long as anything is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import FakeConnection
from phantomband.core.cell import CELL_BYTES, Command, encode
from phantomband.core.ids import NodeId
from phantomband.core.link import LinkKey
from phantomband.runtime.lane.base import Driver
from phantomband.runtime.service import QUIET_SECONDS, quiet
from phantomband_gateway.service import GatewayParts, GatewayService
from virtual import run_virtual
from world import Seeded


def test_what_has_not_moved_for_a_while_is_quiet() -> None:
    async def main() -> float:
        await quiet(lambda: 7)
        return asyncio.get_running_loop().time() - 1000

    assert run_virtual(main()) == pytest.approx(QUIET_SECONDS)


@pytest.mark.parametrize("pause", [0.01, QUIET_SECONDS * 0.99])
def test_what_moves_is_waited_for(pause: float) -> None:
    count = 0

    async def move() -> None:
        nonlocal count
        for _ in range(100):
            await asyncio.sleep(pause)
            count += 1

    async def main() -> float:
        loop = asyncio.get_running_loop()
        moving = asyncio.ensure_future(move())
        await quiet(lambda: count)
        assert moving.done()
        return loop.time() - 1000 - 100 * pause

    assert QUIET_SECONDS * 0.99 <= run_virtual(main()) <= 2 * QUIET_SECONDS


@pytest.fixture
def gateway(tmp_path: Path) -> Callable[[], GatewayService]:
    def make() -> GatewayService:
        return GatewayService(
            GatewayParts(
                tmp_path,
                "unix:nowhere",
                "unix:nowhere",
                Driver.UNIX,
                bytes(32),
                NodeId(b"n" * 32),
                LinkKey(b"k" * 32),
                {},
                (),
                (),
                4,
                4,
                Seeded(1),
            )
        )

    return make


def test_a_gateway_that_drains_takes_no_new_link_and_goes_on_while_cells_move(
    gateway: Callable[[], GatewayService],
) -> None:
    async def test() -> None:
        service = gateway()
        first = FakeConnection()
        receiver = service.links.accept(first)
        assert first.ended is None
        drain = asyncio.ensure_future(service.drain())
        await asyncio.sleep(0)
        late = FakeConnection()
        service.links.accept(late)
        assert late.ended == "abort"
        assert first.ended is None
        driver = next(iter(service.links.pending))
        service.links.established(driver, None)
        cell = encode(bytes((0, 0, 0, 1)), Command.RELAY)
        for _ in range(10):
            await asyncio.sleep(QUIET_SECONDS * 0.9)
            service.link_cells(driver, cell)
            assert not drain.done()
        service.link_cells(driver, bytes(CELL_BYTES))
        await asyncio.sleep(QUIET_SECONDS * 2.1)
        assert drain.done(), "padding is no movement"
        await drain
        receiver.closed(None)
        assert not service.links.connections

    run_virtual(test())
