"""How much all streams of one endpoint may have waiting together: a bound on each is multiplied by 1,024 streams.

A reader that gives no credit would else make an exit hold the outbox of each of its streams: 1 GiB a circuit. When all
together reach the upper mark every source is told to hold; below the lower mark they read again, those that wait
longest first, and only as many as there is room for if each reads as much as a socket gives at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from phantomband.core.stream.stream import OUTBOX_LOW, Stream

CIRCUIT_HIGH = 8 * 1024 * 1024
"""Bytes waiting in all streams together at which their sources are told to hold: twice the largest window."""

CIRCUIT_LOW = 4 * 1024 * 1024

READ_BYTES = 256 * 1024
"""What a socket gives at once (asyncio's selector transport and uvloop)."""


class OutboxGate:
    """Counts what waits in the streams of one endpoint."""

    __slots__ = ("_held", "closed", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        """Bytes."""
        self.closed = False
        self._held: dict[Stream, None] = {}

    def added(self, size: int) -> bool:
        """A stream got so many bytes more. True if all have to hold from now on."""
        self.waiting += size
        if self.closed or self.waiting < CIRCUIT_HIGH:
            return False
        self.closed = True
        return True

    def hold(self, streams: Iterable[Stream]) -> None:
        """Their sources do not read until `opened` names them."""
        self._held.update(dict.fromkeys(streams))

    def removed(self, size: int) -> None:
        """So many bytes were sent, or are lost."""
        self.waiting -= size

    def forget(self, stream: Stream) -> None:
        """The stream is no more; so is what waited in it."""
        self.waiting -= stream.outbox_bytes
        self._held.pop(stream, None)

    def opened(self) -> list[Stream]:
        """Streams whose sources may read again, by now; call after something was removed. One whose own outbox is
        full stays held until it is not."""
        if self.waiting >= CIRCUIT_LOW:
            return []
        room = (CIRCUIT_HIGH - self.waiting) // READ_BYTES
        streams = list(islice((s for s in self._held if s.outbox_bytes < OUTBOX_LOW), room))
        for stream in streams:
            del self._held[stream]
        self.closed = bool(self._held)
        return streams
