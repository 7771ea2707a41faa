"""What both drivers' sending halves share: how much waits, and who is told when that becomes little again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from phantomband.core.errors import PhantomBandError
from phantomband.runtime.lane.base import HIGH_WATER, Buffer, LanePeer

LOW_WATER = HIGH_WATER // 4
"""A lane that was congested calls `on_writable` once less than this waits."""

MAX_BUFFERED = 16 * HIGH_WATER
"""64 MiB: feeders stop at HIGH_WATER, so a lane that reaches this has a stuck receiver. It is broken off."""

CALL_TIMEOUT = 5.0
"""Seconds that a living receiver may take to answer an attachment."""


class LaneLost(PhantomBandError):
    """The attachment ended, or never came about. The client dials again."""


class Outgoing(ABC):
    """One live attachment, seen from its sender."""

    def __init__(self, on_writable: Callable[[], None]) -> None:
        self._on_writable = on_writable
        self._congested = False
        self.alive = True

    @property
    @abstractmethod
    def buffered(self) -> int:
        """Bytes not yet taken by the operating system or the gRPC stream."""

    @abstractmethod
    def abort(self) -> None:
        """Ends the attachment; what waits is lost."""

    @abstractmethod
    def _queue(self, kind: int, parts: Sequence[Buffer], size: int) -> None: ...

    def send(self, kind: int, parts: Sequence[Buffer], size: int) -> bool:
        """Queues a frame of `size` payload bytes. False when the attachment is, or has just been, broken
        off."""
        if not self.alive:
            return False
        if self.buffered + size > MAX_BUFFERED:
            self.alive = False
            self.abort()
            return False
        self._queue(kind, parts, size)
        if not self._congested and self.buffered > HIGH_WATER:
            self._congested = True
        return True

    def _drained(self) -> None:
        """To be called by the driver whenever less than LOW_WATER waits."""
        if self._congested:
            self._congested = False
            self._on_writable()


Attached = Callable[[LanePeer, Outgoing], None]
"""Told by a driver when the receiver has accepted the attachment."""
