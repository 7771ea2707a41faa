"""Attempts that begin one after the other, a little apart, until one succeeds (as RFC 8305 does for addresses)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from phantomband.core.errors import Refused

T = TypeVar("T")

MAX_AT_ONCE = 4
"""Attempts under way; the next waits until one of them has failed."""


async def race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, T]]],
    pause: Callable[[int], float],
    discard: Callable[[T], None],
) -> T:
    """The outcome of the first that succeeds; the others are cancelled.

    Args:
        attempts: in order; each may raise Refused, and then the next begins at once.
        pause: seconds that attempt `i` has for itself before the next begins.
        discard: told of what succeeded too, too late.

    Raises:
        Refused: all failed; that of the last is its cause.
    """
    waiting = list(enumerate(attempts))
    running: set[asyncio.Task[T]] = set()
    problem: Refused | None = None
    try:
        while waiting or running:
            timeout: float | None = None
            if waiting and len(running) < MAX_AT_ONCE:
                index, attempt = waiting.pop(0)
                running.add(asyncio.create_task(attempt()))
                timeout = pause(index) if waiting and len(running) < MAX_AT_ONCE else None
            done, running = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            won: list[T] = []
            for task in done:
                try:
                    won.append(task.result())
                except Refused as e:
                    problem = e
            if won:
                for late in won[1:]:
                    discard(late)
                return won[0]
        raise Refused("no way works") from problem
    finally:
        for task in running:
            task.cancel()
        for late_task in await asyncio.gather(*running, return_exceptions=True) if running else ():
            if not isinstance(late_task, BaseException):
                discard(late_task)
