"""A wait that is tied to wall time ends when the clocks disagree: after a suspend, or when the clock was set."""

from __future__ import annotations

import asyncio

import pytest
from phantomband_client.jumps import LOOK_SECONDS, Jumps
from virtual import run_virtual


class Wall:
    """The wall clock: the loop's, moved by `ahead`, and drifting."""

    ahead, drift = 1e9, 0.0

    def __call__(self) -> float:
        now = asyncio.get_running_loop().time()
        return now * (1 + self.drift) + self.ahead


@pytest.mark.parametrize("jump", [12.0, 3600.0, -3600.0, 86_400.0])
def test_a_jump_ends_the_wait(jump: float) -> None:
    async def main() -> None:
        wall, loop = Wall(), asyncio.get_running_loop()
        jumps = Jumps(wall)
        begun = loop.time()
        loop.call_later(100, lambda: setattr(wall, "ahead", wall.ahead + jump))
        assert await jumps.sleep(3900) == pytest.approx(jump)
        assert loop.time() - begun <= 100 + LOOK_SECONDS
        assert await jumps.sleep(50) == 0.0, "it is told once"

    run_virtual(main())


@pytest.mark.parametrize("drift", [0.0, 5e-4, -5e-4])
def test_drift_and_a_busy_machine_are_no_jump(drift: float) -> None:
    async def main() -> None:
        wall, loop = Wall(), asyncio.get_running_loop()
        wall.drift = drift
        jumps = Jumps(wall)
        begun = loop.time()
        assert await jumps.sleep(40_000) == 0.0
        assert loop.time() - begun == pytest.approx(40_000)

    run_virtual(main())


def test_a_jump_between_two_waits_is_seen_by_the_second() -> None:
    async def main() -> None:
        wall = Wall()
        jumps = Jumps(wall)
        await jumps.sleep(10)
        wall.ahead += 5000
        assert await jumps.sleep(3900) == pytest.approx(5000)

    run_virtual(main())
