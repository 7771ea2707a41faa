"""Notices that the wall clock moved against the monotonic one: the machine slept, or somebody set the clock.

Waits are measured on the monotonic clock, which stands still while a machine sleeps (Linux, CLOCK_MONOTONIC). What one
waits for may be tied to wall time, as a view's freshness is: after a jump it has to be looked at anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_SECONDS = 2.0
"""How often the clocks are compared while something waits."""

JUMP_SECONDS = 10.0
"""Less is drift (ntpd slews by 0.5 ms a second at most) or a busy machine."""


class Jumps:
    """The difference of both clocks, and its jumps.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ahead: float | None = None

    async def sleep(self, seconds: float) -> float:
        """Waits; ends early after a jump, at once if it was between two waits.

        Returns: seconds by which the wall clock jumped ahead; 0: it did not.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        if jumped := self._look():
            return jumped
        while (left := end - loop.time()) > 0:
            await asyncio.sleep(min(left, LOOK_SECONDS))
            if jumped := self._look():
                return jumped
        return 0.0

    def _look(self) -> float:
        """Drift is followed: only what came since the last look counts."""
        ahead = self._clock() - asyncio.get_running_loop().time()
        jumped = 0.0 if self._ahead is None else ahead - self._ahead
        self._ahead = ahead
        return jumped if abs(jumped) >= JUMP_SECONDS else 0.0
