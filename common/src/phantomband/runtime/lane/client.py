"""The sending end of a lane: `LaneClient` dials, attaches, and dials again for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import grpc

from phantomband.core.errors import Bug
from phantomband.runtime.lane.base import MAX_FRAME_BYTES, Buffer, Driver, LanePeer
from phantomband.runtime.lane.grpc_driver import attach_by_grpc
from phantomband.runtime.lane.outgoing import Attached, LaneLost, Outgoing
from phantomband.runtime.lane.unix_driver import attach_by_unix

BACKOFF_FIRST = 0.02
BACKOFF_LAST = 0.25
"""Seconds between attempts, doubling: a receiver that restarts is found in well under a second."""

_Attach = Callable[[str, LanePeer, Attached, Callable[[], None]], Awaitable[None]]

_DRIVERS: dict[Driver, _Attach] = {Driver.GRPC: attach_by_grpc, Driver.UNIX: attach_by_unix}


def _nobody() -> None:
    """Nobody asked to be told."""


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


class LaneClient:
    """A `LaneSender` that keeps its lane up.

    Args:
        target: the receiver's gRPC server, as gRPC writes it, for example `unix:/path`.
        me: our service's name and our process's incarnation.
        driver: how frames move.
        on_up: called with the receiver at each attachment, before any frame can be sent.
        on_down: called once for each `on_up`. What had been sent since may or may not have arrived.
        on_writable: called when the lane was congested (`buffered` over HIGH_WATER after a send) and less
            than a quarter of that still waits. A lane that goes down is not congested any more; only
            `on_down` is called.
    """

    def __init__(
        self,
        target: str,
        me: LanePeer,
        driver: Driver,
        on_up: Callable[[LanePeer], None],
        on_down: Callable[[], None],
        on_writable: Callable[[], None] = _nobody,
    ) -> None:
        self._target = target
        self._me = me
        self._attach = _DRIVERS[driver]
        self._on_up = on_up
        self._on_down = on_down
        self._on_writable = on_writable
        self._outgoing: Outgoing | None = None
        self._is_up = asyncio.Event()

    @property
    def up(self) -> bool:
        return self._outgoing is not None and self._outgoing.alive

    @property
    def buffered(self) -> int:
        """Bytes not yet taken by the operating system or the gRPC stream."""
        return self._outgoing.buffered if self._outgoing is not None else 0

    def send(self, kind: int, parts: Sequence[Buffer]) -> bool:
        """Queues one frame made of `parts`, which must not change afterwards. Never blocks.

        Returns: False, and nothing is sent, when the lane is down.

        Raises:
            Bug: the parts together are longer than MAX_FRAME_BYTES.
        """
        outgoing = self._outgoing
        if outgoing is None:
            return False
        size = sum(map(len, parts))
        if size > MAX_FRAME_BYTES:
            raise Bug(f"a frame of {size} bytes was given to a lane, whose limit is {MAX_FRAME_BYTES}")
        return outgoing.send(kind, parts, size)

    def break_off(self) -> None:
        """Gives the attachment up: its receiver is stuck. `on_down` is called soon, and the lane dialled again."""
        if self._outgoing is not None and self._outgoing.alive:
            self._outgoing.alive = False
            self._outgoing.abort()

    async def wait_up(self) -> None:
        """Returns as soon as the lane is up."""
        await self._is_up.wait()

    async def run(self) -> None:
        """Keeps the lane up until cancelled."""
        delay = BACKOFF_FIRST
        cancelled = _cancellations()
        while cancelled == _cancellations():
            try:
                await self._attach(self._target, self._me, self._came_up, self._on_writable)
            except* (grpc.RpcError, OSError, TimeoutError, LaneLost):
                pass
            finally:
                delay = BACKOFF_FIRST if self._went_down() else min(2 * delay, BACKOFF_LAST)
            await asyncio.sleep(delay)
        # Python 3.11's TaskGroup loses a cancellation that comes while one of its tasks fails, but it stays
        # counted.
        raise asyncio.CancelledError

    def _came_up(self, receiver: LanePeer, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._on_up(receiver)
        self._is_up.set()

    def _went_down(self) -> bool:
        """Returns: whether the lane had been up."""
        if self._outgoing is None:
            return False
        self._outgoing = None
        self._is_up.clear()
        self._on_down()
        return True
