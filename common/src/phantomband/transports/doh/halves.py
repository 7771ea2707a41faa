"""The two directions of a session's stream: what is kept until it has come, and what came until it is in order.

The end of a stream takes one byte of offset, so that it is acknowledged like any other.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass

from phantomband.core.errors import Malformed
from phantomband.transports.base import Buffer

MAX_PIECES = 4096
"""Pieces out of order in one session; one more is dropped and must be sent again."""


@dataclass(slots=True)
class Segment:
    """A piece of the stream in one packet."""

    offset: int
    data: bytes
    fin: bool
    sent: float = 0.0

    @property
    def end(self) -> int:
        return self.offset + len(self.data) + self.fin


class SendHalf:
    """Cuts what was written into packets, and keeps each until it has come.

    **Limit**: what is in flight, by the other end's credit; what waits, by whoever writes (`Connection.congested`).
    """

    def __init__(self) -> None:
        self._waiting: deque[Buffer] = deque()
        self.unsent = 0
        """Bytes that were never sent."""
        self.offset = 0
        """Of the next new byte."""
        self.acked = 0
        self.limit = 0
        """Offset up to which the other end takes bytes."""
        self.flight: dict[int, Segment] = {}
        """By packet number, in the order sent."""
        self._lost: list[tuple[int, Segment]] = []
        self._finish = self.fin_sent = False

    def write(self, data: Buffer) -> None:
        self._waiting.append(data)
        self.unsent += len(data)

    def finish(self) -> None:
        """No more will be written."""
        self._finish = True

    @property
    def done(self) -> bool:
        """The end of the stream has been sent and acknowledged."""
        return self.fin_sent and self.acked == self.offset

    @property
    def pending(self) -> bool:
        """Whether a packet could be sent now."""
        return bool(
            self._lost
            or (self.unsent and self.offset < self.limit)
            or (self._finish and not self.fin_sent and not self.unsent)
        )

    @property
    def sendable(self) -> int:
        """Bytes that could be sent now, had they room."""
        return min(self.unsent, max(0, self.limit - self.offset)) + sum(len(s.data) for _, s in self._lost)

    def take(self, number: int, room: int, now: float) -> Segment | None:
        """The next piece of at most `room` bytes, what was lost first, for packet `number`; None: there is none."""
        segment = self._again(room) if self._lost else self._fresh(room)
        if segment is not None:
            segment.sent = now
            self.flight[number] = segment
        return segment

    def _again(self, room: int) -> Segment:
        _, segment = self._lost.pop(0)
        if len(segment.data) > room:
            rest = Segment(segment.offset + room, segment.data[room:], segment.fin)
            insort(self._lost, (rest.offset, rest), key=_place)
            return Segment(segment.offset, segment.data[:room], False)
        return Segment(segment.offset, segment.data, segment.fin)

    def _fresh(self, room: int) -> Segment | None:
        size = min(room, self.unsent, max(0, self.limit - self.offset))
        fin = self._finish and size == self.unsent
        if not size and (not fin or self.fin_sent):
            return None
        segment = Segment(self.offset, self._cut(size), fin)
        self.offset = segment.end
        self.fin_sent = self.fin_sent or fin
        return segment

    def _cut(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            part = self._waiting.popleft()
            if len(part) > left:
                view = memoryview(part)
                self._waiting.appendleft(view[left:])
                part = view[:left]
            parts.append(part)
            left -= len(part)
        self.unsent -= size
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def acked_to(self, offset: int) -> bool:
        """All before `offset` has come. Returns: whether that is news.

        Raises:
            Malformed: it was never sent.
        """
        if offset > self.offset:
            raise Malformed("an acknowledgement of what was never sent")
        if offset <= self.acked:
            return False
        self.acked = offset
        for number in [n for n, s in self.flight.items() if s.end <= offset]:
            del self.flight[number]
        if self._lost:
            self._lost = [(o, s) for o, s in self._lost if s.end > offset]
        return True

    def delivered(self, number: int) -> Segment | None:
        """Packet `number` came. Returns: what it carried, if that was not known."""
        return self.flight.pop(number, None)

    def lose(self, number: int) -> None:
        """Packet `number` did not come: its piece is sent again."""
        segment = self.flight.pop(number, None)
        if segment is not None and segment.end > self.acked:
            insort(self._lost, (segment.offset, segment), key=_place)

    def lose_sent_before(self, time: float) -> int:
        """All packets sent before `time` did not come. Returns: how many."""
        old = [n for n, s in self.flight.items() if s.sent < time]
        for number in old:
            self.lose(number)
        return len(old)

    def drop(self) -> None:
        """Forgets everything."""
        self._waiting.clear()
        self.flight.clear()
        self._lost.clear()
        self.unsent = 0


def _place(entry: tuple[int, Segment]) -> int:
    return entry[0]


class EarlyRoom:
    """What all sessions of a server may hold together of pieces that came before their turn."""

    def __init__(self, size: int = 1 << 40) -> None:
        self.left = size
        """Bytes."""


class ReceiveHalf:
    """Puts pieces in order.

    **Limits**: `window` bytes ahead of what was taken; as many, and `MAX_PIECES`, out of order.

    Args: room: shared with others; a piece that comes before its turn and has no room is dropped, to be sent again.
    """

    def __init__(self, window: int, room: EarlyRoom | None = None) -> None:
        self._window = window
        self._room = room or EarlyRoom()
        self.next = 0
        """Offset of the first byte that has not come; behind the end: of nothing."""
        self._taken = 0
        self._early: list[tuple[int, bytes, bool]] = []
        self._early_bytes = 0
        """Counted piece by piece: they may overlap, and many of the same bytes are many bytes."""
        self._ready: list[bytes | memoryview] = []
        self.ended = False
        """Everything came, the end too."""
        self.told = 0
        """The limit that the other end was last told."""

    @property
    def limit(self) -> int:
        return self._taken + self._window

    @property
    def news(self) -> bool:
        """Whether the other end should be told a new limit."""
        return self.limit - self.told >= self._window // 2

    def add_untrusted(self, offset: int, data: bytes | memoryview, fin: bool) -> None:
        """A piece that came.

        Raises:
            Malformed: it is beyond the limit.
        """
        end = offset + len(data)
        if end > self.limit:
            raise Malformed("data beyond the credit")
        if end + fin <= self.next or self.ended:
            return
        if offset > self.next:
            self._keep(offset, data, fin)
            return
        self._append(offset, data, fin)
        while self._early and self._early[0][0] <= self.next and not self.ended:
            piece = self._early.pop(0)
            self._early_bytes -= len(piece[1])
            self._room.left += len(piece[1])
            self._append(*piece)

    def _keep(self, offset: int, data: bytes | memoryview, fin: bool) -> None:
        """A piece ahead of others; not one that is here already, nor one over the bounds."""
        at = bisect_right(self._early, offset, key=lambda entry: entry[0])
        if at and self._early[at - 1][0] == offset:
            _, held, held_fin = self._early[at - 1]
            if len(held) >= len(data) and held_fin >= fin:
                return
        room = min(self._window - self._early_bytes, self._room.left)
        if len(self._early) < MAX_PIECES and len(data) <= room:
            self._early.insert(at, (offset, bytes(data), fin))
            self._early_bytes += len(data)
            self._room.left -= len(data)

    def _append(self, offset: int, data: bytes | memoryview, fin: bool) -> None:
        fresh = data[self.next - offset :]
        if len(fresh):
            self._ready.append(fresh)
            self.next += len(fresh)
        if fin and self.next == offset + len(data):
            self.next += 1
            self.ended = True
            self.drop()

    def drop(self) -> None:
        """Forgets what came before its turn."""
        self._room.left += self._early_bytes
        self._early.clear()
        self._early_bytes = 0

    def take(self) -> list[bytes | memoryview]:
        """What is in order, in pieces; the other end may send as much more."""
        ready, self._ready = self._ready, []
        self._taken += sum(map(len, ready))
        return ready

    @property
    def waiting(self) -> bool:
        return bool(self._ready)
