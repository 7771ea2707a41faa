"""One attempt for each key: whoever asks meanwhile waits for the same outcome, and one who gives up ends nothing.

The key has to hold **all that was asked**: who asks for something else must not wait for this outcome, nor share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from phantomband.core.errors import PhantomBandError, Refused

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Spawn = Callable[[Coroutine[Any, Any, None]], Any]
"""Starts a task; a service gives its task group's."""


class SharedAttempts(Generic[K, V]):
    """Attempts under way, by key."""

    def __init__(self) -> None:
        self.spawn: Spawn = asyncio.ensure_future
        """Who owns the tasks; set by the service once its task group runs."""
        self._under_way: dict[K, asyncio.Future[V]] = {}

    async def get(self, key: K, attempt: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The outcome of the attempt for `key`; `attempt` is started if none is under way.

        Raises:
            PhantomBandError: what the attempt raised.
        """
        future = self._under_way.get(key)
        if future is None:
            future = self._under_way[key] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda f: f.cancelled() or f.exception())
            self.spawn(self._run(key, future, attempt()))
        return await asyncio.shield(future)

    async def _run(self, key: K, future: asyncio.Future[V], attempt: Coroutine[Any, Any, V]) -> None:
        try:
            future.set_result(await attempt)
        except PhantomBandError as e:
            future.set_exception(e)
        except Exception:
            future.set_exception(Refused("an error that nobody expected ended the attempt"))
            raise  # to the task's root, which counts it
        finally:
            future.cancel()
            del self._under_way[key]
