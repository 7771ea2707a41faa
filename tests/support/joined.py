"""Two endpoints of one circuit on a real event loop, without a network between: for splices and exits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from phantomband.core.onion import MARK_BYTES
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.stream import StreamAcceptor

Queue = deque[tuple[bytes, bytes]]
"""Messages behind their marks, and the layers that they stand for."""

ROOM = 1992
PATIENCE = 60.0
"""Seconds until a test that waits has failed."""


class Joined:
    """The client's endpoint and the exit's; messages move in the loop's next turn."""

    def __init__(self, acceptor: StreamAcceptor) -> None:
        self._loop = asyncio.get_running_loop()
        self._to_client: Queue = deque()
        self._to_exit: Queue = deque()
        self._count = 0
        self._scheduled = False
        self.stalled = False
        """Whether the client reads nothing of what the exit sends, though it sends on: no credit comes back."""
        self._changed = asyncio.Event()
        self.client = Endpoint(ROOM, lambda m: self._send(self._to_exit, m), CongestionParameters())
        self.exit = Endpoint(ROOM, lambda m: self._send(self._to_client, m), CongestionParameters(), acceptor)
        self.client.wake = self.exit.wake = self.soon

    def _send(self, queue: Queue, marked: list[bytes]) -> list[bytes]:
        sealed = []
        for message in marked:
            self._count += 1
            sealed.append(self._count.to_bytes(16, "big"))
            queue.append((message.ljust(MARK_BYTES + ROOM, b"\0"), sealed[-1]))
        self.soon()
        return sealed

    def soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        now = self._loop.time()
        for endpoint, queue in ((self.exit, self._to_exit), (self.client, self._to_client)):
            if self.stalled and endpoint is self.client:
                endpoint.pump(now)
                continue
            arrived = [queue.popleft() for _ in range(len(queue))]
            endpoint.messages([m for m, _ in arrived], [s for _, s in arrived], now)
            endpoint.deliver()
            endpoint.pump(now)
        if self._to_exit or (self._to_client and not self.stalled):
            self.soon()
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns as soon as `condition` holds; it is asked after each turn and each callback."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                if not self.stalled:
                    self.soon()
                self._changed.clear()
                await asyncio.sleep(0)
