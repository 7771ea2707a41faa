"""One flow: a user's session over one stream, from the client's end to the server's and back."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

from phantomband.core.stream.messages import Answer, EndReason, Kind, Target
from phantomband.core.stream.stream import Stream

from phantomband_cli.sim.events import Events
from phantomband_cli.sim.web import Exchange, Session
from phantomband_cli.sim.wire import Wire


class Tally:
    """Bytes that passed one point, and their hash."""

    __slots__ = ("_hash", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self.bytes += len(data)
        self._hash.update(data)

    def same(self, other: Tally) -> bool:
        """Both saw the same bytes."""
        return self.bytes == other.bytes and self._hash.digest() == other._hash.digest()


class Server:
    """Answers each request when it is in whole and its wait is over; `wire` leads to the exit."""

    def __init__(self, events: Events, random: Random) -> None:
        self.received, self.sent = Tally(), Tally()
        self.wire: Wire | None = None
        self._events = events
        self._random = random
        self._asked = 0
        self._due: deque[tuple[int, Exchange]] = deque()

    def expect(self, exchange: Exchange) -> None:
        """The client is about to send this request."""
        self._asked += exchange.request
        self._due.append((self._asked, exchange))

    def data(self, data: bytes) -> None:
        self.received.add(data)
        while self._due and self._due[0][0] <= self.received.bytes:
            exchange = self._due.popleft()[1]
            self._events.after(exchange.wait, partial(self._answer, exchange.answer))

    def _answer(self, size: int) -> None:
        if self.wire is not None:
            data = self._random.randbytes(size)
            self.sent.add(data)
            self.wire.send(data, size)


class Flow:
    """The client's end; a handler of its stream."""

    def __init__(
        self, events: Events, session: Session, random: Random, server: Server, ready: Callable[[], None]
    ) -> None:
        """Args: ready: called when the stream is connected."""
        self.sent, self.received = Tally(), Tally()
        self.server = server
        self.first_bytes: list[float] = []
        self.done = False
        self.ended_by: EndReason | None = None
        self._events, self._session, self._random, self._ready = events, session, random, ready
        self._stream: Stream | None = None
        self._end = 0.0
        self._asked_at: float | None = None
        self._awaited = 0
        self._objects: tuple[Exchange, ...] = ()

    def attach(self, stream: Stream) -> None:
        self._stream = stream

    def start(self, end: float) -> None:
        """Browses; no page is asked for after `end`."""
        self._end = end
        self._think()

    def _think(self) -> None:
        self._events.after(self._session.think(), self._page)

    def _page(self) -> None:
        if self._events.now >= self._end:
            self.done = True
            return
        page = self._session.page()
        self._objects = page.objects
        self._asked_at = self._events.now
        self._ask((page.main,))

    def _ask(self, exchanges: tuple[Exchange, ...]) -> None:
        for exchange in exchanges:
            self.server.expect(exchange)
            self._awaited += exchange.answer
            data = self._random.randbytes(exchange.request)
            self.sent.add(data)
            if self._stream is not None:
                self._stream.write(data)

    # ---- StreamHandler -----------------------------------------------------------------------------------------

    def connected(self, answers: list[Answer]) -> None:
        self._ready()

    def data(self, pieces: list[bytes]) -> None:
        if self._asked_at is not None:
            self.first_bytes.append(self._events.now - self._asked_at)
            self._asked_at = None
        for piece in pieces:
            self.received.add(piece)
        if self.received.bytes == self._awaited:
            objects, self._objects = self._objects, ()
            if objects:
                self._ask(objects)
            else:
                self._think()

    def finished(self) -> None: ...

    def ended(self, reason: EndReason) -> None:
        self.ended_by = reason
        self.done = True

    def hold(self) -> None: ...

    def writable(self) -> None: ...


class ExitStream:
    """The exit's end of a stream: its handler towards the network, a TCP connection towards the server."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def connected(self, answers: list[Answer]) -> None: ...

    def data(self, pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        self._wire.send(data, len(data))

    def finished(self) -> None: ...

    def ended(self, reason: EndReason) -> None: ...

    def hold(self) -> None: ...

    def writable(self) -> None: ...


def target(number: int) -> Target:
    """The server of flow `number`."""
    return Target(Kind.NAME, f"flow-{number}.example", 443)


def number(target: Target) -> int:
    """The flow whose server this is."""
    return int(target.host.removeprefix("flow-").removesuffix(".example"))
