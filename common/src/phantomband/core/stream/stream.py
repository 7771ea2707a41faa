"""One stream at one end: what waits to be sent, what was received, how far it is closed.

Its `Endpoint` decides when anything is sent; its handler, the user of the stream, is told what happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from phantomband.core.onion import MARK_BYTES, OWN
from phantomband.core.stream.credit import STREAM_EVERY, STREAM_WINDOW, ReceivedLedger, SentLedger
from phantomband.core.stream.messages import (
    HEADER_BYTES,
    Answer,
    EndReason,
    Message,
    Target,
    encode,
    encode_answers,
)

OUTBOX_HIGH = 1024 * 1024
"""Bytes waiting in a stream above which its source should stop reading."""

OUTBOX_LOW = 256 * 1024
"""Bytes waiting in a stream below which its source is told to read again."""

SIZE_AT = MARK_BYTES + 3
DATA_AT = MARK_BYTES + HEADER_BYTES
"""Offsets in a message behind its mark."""


SendMessages = Callable[[list[bytes]], list[bytes]]
"""Seals and queues messages, unpadded behind their marks (`onion.OWN`); gives the innermost sealed layer of each, whose
last 16 bytes are its tag."""


class StreamHandler(Protocol):
    """Who uses a stream. Called on the driver's turn; must not raise."""

    def connected(self, answers: list[Answer]) -> None:
        """The exit connected (or answered a RESOLVE)."""

    def data(self, pieces: list[bytes]) -> None:
        """Bytes in order."""

    def finished(self) -> None:
        """No more data will come; the other direction stays open."""

    def ended(self, reason: EndReason) -> None:
        """Called once, last: both directions are over."""

    def hold(self) -> None:
        """The circuit's streams together have too much waiting: the source should stop reading until `writable`."""

    def writable(self) -> None:
        """The outbox was full, or the handler was told to hold, and that is over."""


class StreamAcceptor(Protocol):
    """The exit's side: decides about streams that clients open."""

    def begin(self, stream: Stream, target: Target) -> StreamHandler:
        """A client asks for a connection; answer later with `stream.connected` or `stream.end`."""

    def resolve(self, stream: Stream, target: Target) -> StreamHandler:
        """A client asks for a name; answer later with `stream.resolved` or `stream.end`."""


class StreamOwner(Protocol):
    """The endpoint, as its streams see it."""

    data_room: int

    def activate(self, stream: Stream) -> None:
        """The stream has something to send."""

    def queued(self, stream: Stream, size: int) -> bool:
        """The stream has so many bytes more to send. False when its source should stop until `writable`."""

    def send_control(self, message: bytes) -> None: ...

    def end_stream(self, stream: Stream, reason: EndReason) -> None: ...

    def credit_stream(self, stream: Stream) -> None: ...


class Stream:
    """One stream at one end."""

    __slots__ = (
        "_endpoint", "_prefix", "active", "answer_due", "fin_queued", "fin_received", "fin_sent", "handler", "id",
        "inbox", "open", "outbox_bytes", "received", "sent", "taking", "waiting", "window",
    )  # fmt: skip

    def __init__(self, endpoint: StreamOwner, stream_id: int) -> None:
        self.id = stream_id
        self.handler: StreamHandler | None = None
        self.answer_due: Message | None = None
        self.open = True
        self.outbox_bytes = 0
        self._endpoint = endpoint
        self.waiting: deque[memoryview] = deque()
        self.window = STREAM_WINDOW
        self.sent = SentLedger(STREAM_EVERY)
        self.received = ReceivedLedger(STREAM_EVERY, STREAM_WINDOW)
        self.inbox: list[bytes] = []
        self.active = False
        self.taking = True
        self.fin_queued = self.fin_sent = self.fin_received = False
        room = endpoint.data_room
        self._prefix = OWN + bytes((Message.DATA,)) + stream_id.to_bytes(2, "big") + room.to_bytes(2, "big")

    def write(self, data: bytes) -> bool:
        """Queues `data`; call the endpoint's `pump` afterwards. False when the source should stop until `writable`."""
        if self.open and data and not self.fin_queued:
            self.waiting.append(memoryview(data))
            self.outbox_bytes += len(data)
            return self._endpoint.queued(self, len(data)) and self.outbox_bytes < OUTBOX_HIGH
        return self.outbox_bytes < OUTBOX_HIGH

    @property
    def may_read(self) -> bool:
        """Whether its source may begin to read; if not, `writable` is called when it may."""
        return self._endpoint.queued(self, 0)

    def finish(self) -> None:
        """No more data from this side; FIN follows what is queued."""
        if self.open and not self.fin_queued:
            self.fin_queued = True
            self._endpoint.activate(self)

    def end(self, reason: EndReason) -> None:
        """Ends both directions now; what is queued is lost."""
        if self.open:
            self._endpoint.end_stream(self, reason)

    def connected(self, answers: list[Answer]) -> None:
        """The exit's answer to BEGIN."""
        if self.open:
            self._endpoint.send_control(encode(Message.CONNECTED, self.id, encode_answers(answers)))

    def resolved(self, answers: list[Answer]) -> None:
        """The exit's answer to RESOLVE; the stream is over."""
        if self.open:
            self._endpoint.send_control(encode(Message.RESOLVED, self.id, encode_answers(answers)))
            self._endpoint.end_stream(self, EndReason.DONE)

    def take(self, ready: bool) -> None:
        """Whether the handler takes more data; while it does not, no stream credit is given."""
        self.taking = ready
        if ready and self.open:
            self._endpoint.credit_stream(self)

    def shut(self) -> None:
        """For the endpoint: nothing is sent any more, and what is queued is lost."""
        self.open = False
        self.waiting.clear()
        self.outbox_bytes = 0

    def writable(self) -> None:
        """For the endpoint: the source may read on, if it is still there."""
        if self.open and self.handler is not None:
            self.handler.writable()

    def cut(self, room: int, limit: int) -> list[bytes]:
        """Up to `limit` DATA messages off the front of what waits, each with up to `room` bytes."""
        out: list[bytes] = []
        prefix = self._prefix
        while self.waiting and len(out) < limit:
            head = self.waiting[0]
            whole = min(len(head) // room, limit - len(out))
            if whole:
                out += [prefix + head[i : i + room] for i in range(0, whole * room, room)]
                self.outbox_bytes -= whole * room
                if whole * room < len(head):
                    self.waiting[0] = head[whole * room :]
                else:
                    self.waiting.popleft()
            else:
                piece = self._gather(room)
                size = prefix if len(piece) == room else prefix[:SIZE_AT] + len(piece).to_bytes(2, "big")
                out.append(size + piece)
        return out

    def _gather(self, room: int) -> bytes:
        """Up to `room` bytes put together from small writes."""
        head = self.waiting.popleft()
        out = bytes(head)
        while self.waiting and len(out) < room:
            head = self.waiting.popleft()
            missing = room - len(out)
            if len(head) > missing:
                self.waiting.appendleft(head[missing:])
            out += head[:missing]
        self.outbox_bytes -= len(out)
        return out
