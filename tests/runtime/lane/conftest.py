"""Every driver, both event loops, and a folder for sockets."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from lane_rig import PATIENCE, Run
from phantomband.runtime.lane.base import Driver


@pytest.fixture(params=list(Driver))
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(request.param)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(PATIENCE):
                await main
            for _ in range(100):  # gRPC's own tasks end a few turns later
                if asyncio.all_tasks() == {asyncio.current_task()}:
                    return
                await asyncio.sleep(0.001)
            pytest.fail(f"tasks were left behind: {asyncio.all_tasks()}")

        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(bounded())

    return runner


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pb") as name:  # short: a Unix socket's path holds 107 bytes
        yield Path(name)
