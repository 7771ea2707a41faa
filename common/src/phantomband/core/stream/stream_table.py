"""The streams of an endpoint by their ids: open, ended from here, and closed in order."""

from __future__ import annotations

from collections import OrderedDict

from phantomband.core.errors import Refused
from phantomband.core.stream.stream import Stream

MAX_CLOSED = 1024
"""Streams that are over but still recognised, each of the two kinds; the oldest is forgotten first."""

LAST_STREAM = 0xFFFF


class StreamTable:
    """A stream that is over is remembered for what may have crossed its end on the way."""

    def __init__(self, limit: int) -> None:
        """Args: limit: streams open at once."""
        self.open: dict[int, Stream] = {}
        self.ending: OrderedDict[int, Stream] = OrderedDict()
        """We sent END and wait for the other end's; anything may come before it."""
        self._closed: OrderedDict[int, Stream] = OrderedDict()
        self._limit = limit
        self._last_id = 0

    @property
    def full(self) -> bool:
        return len(self.open) >= self._limit

    def free_id(self) -> int:
        """An id for a new stream.

        Raises:
            Refused: all are in use.
        """
        for _ in range(LAST_STREAM):
            self._last_id = self._last_id % LAST_STREAM + 1
            i = self._last_id
            if i not in self.open and i not in self._closed and i not in self.ending:
                return i
        raise Refused("all stream ids of this circuit are in use")

    def find(self, stream_id: int) -> Stream | None:
        """The stream, though it be over."""
        return self.open.get(stream_id) or self._closed.get(stream_id) or self.ending.get(stream_id)

    def end(self, stream: Stream) -> None:
        """END goes out for it."""
        self._over(stream, self.ending)

    def close(self, stream: Stream) -> None:
        """FIN went both ways. Credits, or an END that crossed our FIN, may still arrive once."""
        self._over(stream, self._closed)

    def _over(self, stream: Stream, remembered: OrderedDict[int, Stream]) -> None:
        self.forget(stream)
        remembered[stream.id] = stream
        if len(remembered) > MAX_CLOSED:
            remembered.popitem(last=False)

    def forget(self, stream: Stream) -> None:
        """END went both ways."""
        stream.shut()
        self.open.pop(stream.id, None)

    def forget_closed(self, stream_id: int) -> bool:
        """Nothing more may come for a stream that was closed in order; false if none is known."""
        return self._closed.pop(stream_id, None) is not None
