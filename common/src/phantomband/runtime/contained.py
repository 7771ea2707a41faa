"""Where an unexpected error ends: at the circuit, link or request that it came from, never at the service.

What a peer sends decides what peer-driven tasks do. An error in one that nobody expected is a bug of ours; if it left
its task, it would end the service's task group, and with it every other peer's circuits: a bug would be a weapon.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from phantomband.core.errors import UserError

FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0
"""Pause before a loop that failed begins again; doubled each time, up to the last."""

LOGGED_BUGS = 100
"""Bugs that a process writes to its log; later ones are only counted, since a peer may be able to repeat them."""

Spawn = Callable[[Coroutine[Any, Any, None]], Any]
"""Starts a task."""


def _nothing() -> None: ...


class Contained:
    """The peer-driven tasks of one service.

    Cancellation passes; every other exception is counted in `bugs` and logged by its type and place alone, since its
    words may hold what a peer sent.
    """

    def __init__(self) -> None:
        self.bugs = 0
        """Errors that nobody expected: anything but zero is to be reported."""
        self._log = structlog.get_logger()
        self._tasks: asyncio.TaskGroup | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """From now on `spawn` works; the tasks belong to `tasks`."""
        self._tasks = tasks

    def spawn(self, work: Coroutine[Any, Any, None], broken: Callable[[], None] = _nothing) -> None:
        """Starts `work`; nothing is started, and `broken` is called, when the service does not run.

        Args: broken: ends what the work was for (its circuit, link or stream); called after an unexpected error.
        """
        contained = self._run(work, broken)
        try:
            if self._tasks is not None:
                self._tasks.create_task(contained)
                return
        except RuntimeError:
            pass  # its task group is being shut down
        contained.close()
        work.close()
        broken()

    async def _run(self, work: Coroutine[Any, Any, None], broken: Callable[[], None]) -> None:
        try:
            await work
        except Exception as e:  # noqa: BLE001 - the root of a task: see the module
            self.bug(e)
            self.call(broken)

    def call(self, work: Callable[[], None], broken: Callable[[], None] = _nothing) -> None:
        """Calls `work` in the same way: for callbacks of the event loop."""
        try:
            work()
        except Exception as e:  # noqa: BLE001 - as above
            self.bug(e)
            if broken is not _nothing:
                self.call(broken)

    async def keep(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a loop that serves for as long as the service does. If it fails it begins again after a pause.

        Raises:
            UserError: it said that a person has to mend something.
        """
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await work()
                return
            except UserError:
                raise
            except Exception as e:  # noqa: BLE001 - as above
                self.bug(e)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    def bug(self, error: BaseException) -> None:
        """Counts an error that nobody expected."""
        self.bugs += 1
        if self.bugs <= LOGGED_BUGS:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "unknown"
            self._log.error("bug", type=type(error).__name__, place=place)
