"""When a service that died is started again: pure, time is an argument."""

from __future__ import annotations

import signal
from dataclasses import dataclass

FIRST_DELAY = 0.05
"""Seconds until the first restart; doubled for each early death in a row."""

LONGEST_DELAY = 2.0
"""Seconds between attempts at most."""

EARLY = 5.0
"""Seconds: one that dies sooner after its start has died early."""

FAILED_AFTER = 4
"""Early deaths in a row from which a service counts as failing: it is reported, and tried on."""


@dataclass(slots=True)
class Restarts:
    """The record of one service."""

    count: int = 0
    early: int = 0

    @property
    def failing(self) -> bool:
        return self.early >= FAILED_AFTER

    def died(self, ran_for: float, code: int) -> float:
        """Notes a death.

        Args:
            ran_for: seconds since its start.
            code: exit code, or minus the signal that ended it. SIGKILL comes from outside and is no sign of a
                fault of the service: it is restarted soon, however often.

        Returns: seconds to wait before the next start.
        """
        self.count += 1
        if ran_for >= EARLY or code == -signal.SIGKILL:
            self.early = 0
            return FIRST_DELAY
        self.early += 1
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self.early - 1))
