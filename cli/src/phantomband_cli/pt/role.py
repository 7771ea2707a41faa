"""What both roles share: connections that come and go, their limits, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from phantomband.transports.base import Connection, Listener
from phantomband.transports.managed.stream import Refusing

from phantomband_cli.pt.splice import Half
from phantomband_cli.pt.talk import Talk

MAX_CONNECTIONS = 4096
"""At once, over all transports; one more is closed unanswered."""

DIAL_SECONDS = 30.0
"""For the connection on the other side. Tor itself waits for 60 or so."""


class Role:
    """Connections that were accepted, each to be joined with one that we make."""

    def __init__(self, talk: Talk, tasks: asyncio.TaskGroup) -> None:
        self.talk = talk
        self.idle = asyncio.Event()
        """Set while there is no connection."""
        self.idle.set()
        self._tasks = tasks
        self._halves: set[Half] = set()
        self._dialling: dict[Half, asyncio.Task[None]] = {}
        self._listeners: list[Listener | asyncio.Server] = []

    @property
    def full(self) -> bool:
        return len(self._halves) >= 2 * MAX_CONNECTIONS or len(self._dialling) >= MAX_CONNECTIONS

    def half(self, connection: Connection) -> Half:
        """The receiver of a new connection."""
        half = Half(connection, self._gone)
        self._halves.add(half)
        self.idle.clear()
        return half

    def refuse(self, connection: Connection) -> Refusing:
        self.talk.log("warning", f"over {MAX_CONNECTIONS} connections: new ones are closed")
        return Refusing(connection)

    def spawn(self, half: Half, dial: Coroutine[Any, Any, None]) -> None:
        """Runs `dial`; if it fails, or `half` closes first, both are ended."""
        self._dialling[half] = self._tasks.create_task(self._joined(half, dial))

    async def _joined(self, half: Half, dial: Coroutine[Any, Any, None]) -> None:
        try:
            await dial
        except Exception as e:  # noqa: BLE001 - a task's root: one connection's fault is not the others'
            self.talk.log("error", f"a fault of ours: {type(e).__name__}")
            half.connection.abort()
        finally:
            self._dialling.pop(half, None)

    def listens(self, listener: Listener | asyncio.Server) -> None:
        self._listeners.append(listener)

    async def close_listeners(self) -> None:
        """Connections live on."""
        for listener in self._listeners:
            closing = listener.close()
            if closing is not None:
                await closing
        self._listeners.clear()

    def abort(self) -> None:
        """Ends everything at once."""
        for task in list(self._dialling.values()):
            task.cancel()
        for half in list(self._halves):
            half.connection.abort()

    def _gone(self, half: Half) -> None:
        self._halves.discard(half)
        if (task := self._dialling.pop(half, None)) is not None:
            task.cancel()
        if not self._halves:
            self.idle.set()
