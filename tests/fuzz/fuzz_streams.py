"""A client's end and an exit's end of one circuit, whatever their users do in any order and however late messages come:
data arrives whole and in order, no handler is called after its end, what waits is what the gate counts, and when the
circuit is gone nothing is left. One end may lie: then the other says Malformed at worst.

Run: `make fuzz TARGETS=streams`.
"""

from __future__ import annotations

from collections import deque

from fuzz_input import Decisions
from phantomband.core.errors import Malformed, Refused
from phantomband.core.onion import OWN
from phantomband.core.stream import outbox_gate
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import Answer, EndReason, Kind, Message, Target, target
from phantomband.core.stream.messages import encode as message
from phantomband.core.stream.stream import Stream

ROOM = 64
WHERE = target("a.test", 80)
BLOCK = bytes(range(256)) * 4100
"""A little over a MiB, to cut writes from."""

SEEDS = [
    bytes((0, 0, 2, 0, 0, 9, 9, 6, 0, 6, 1, 3, 0, 0, 1, 6, 0, 6, 1)),
    bytes((0, 0, 0, 1, 6, 0, 6, 1, 2, 1, 0, 200, 4, 1, 0, 6, 0, 6, 1, 5, 0, 0, 6, 1)),
    bytes((7, 1, 0, 0, 6, 0, 8, 3, 8, 9, 7, 1, 6, 1)),
    bytes((0, 0, 0, 0, 0, 0)) + b"".join(bytes((1, 0, i % 3, 0, 6)) for i in range(12)) + bytes((5, 1, 0, 6, 0, 1) * 8),
]


class Handler:
    """The user of a stream, which counts what comes."""

    over = False

    def __init__(self, world: World, stream: Stream | None = None) -> None:
        self.world, self.stream, self.got = world, stream, 0
        self.held = self.fin = False

    def _alive(self) -> None:
        if self.over:
            raise AssertionError("a handler was called after its end")

    def _act(self) -> None:
        if self.world.decide.below(8) == 7:
            self.world.act(self)

    def connected(self, answers: list[Answer]) -> None:
        self._alive()
        self._act()

    def data(self, pieces: list[bytes]) -> None:
        self._alive()
        if self.fin:
            raise AssertionError("data after the end of data")
        for piece in pieces:
            if not self.world.lies and piece != BLOCK[self.got % 256 : self.got % 256 + len(piece)]:
                raise AssertionError("data is not what was written")
            self.got += len(piece)
        self._act()

    def finished(self) -> None:
        self._alive()
        if self.fin:
            raise AssertionError("data ended twice")
        self.fin = True
        self._act()

    def ended(self, reason: EndReason) -> None:
        self._alive()
        self.over = True

    def hold(self) -> None:
        self._alive()
        self.held = True

    def writable(self) -> None:
        self._alive()
        self.held = False
        self._act()


class World:
    """Both ends, and what is under way between them."""

    def __init__(self, data: bytes) -> None:
        self.decide = Decisions(data)
        self.now = 0.0
        self.lies = False
        self.tags = 0
        self.ways: list[deque[tuple[bytes, bytes]]] = [deque(), deque()]
        parameters = CongestionParameters()
        self.ends = [
            Endpoint(ROOM, self._sender(0), parameters, None, 4),
            Endpoint(ROOM, self._sender(1), parameters, self, 4),
        ]
        self.dead = False
        self.users: list[list[Handler]] = [[], []]
        self.written: dict[int, int] = {}

    def _sender(self, end: int):  # type: ignore[no-untyped-def]
        def send(marked: list[bytes]) -> list[bytes]:
            if any(len(m) > ROOM + 1 for m in marked):
                raise AssertionError("a message over its room")
            sealed = []
            for m in marked:
                self.tags += 1
                tag = self.tags.to_bytes(16, "big")
                sealed.append(tag)
                self.ways[end].append((m.ljust(ROOM + 1, b"\0"), tag))
            return sealed

        return send

    def begin(self, stream: Stream, where: Target) -> Handler:
        handler = Handler(self, stream)
        self.users[1].append(handler)
        if self.decide.below(8) == 7:
            handler.over = True
            stream.end(EndReason.REFUSED)
        else:
            stream.connected([Answer(Kind.IPV4, "192.0.2.1", 1)])
        return handler

    def resolve(self, stream: Stream, where: Target) -> Handler:
        handler = Handler(self, stream)
        handler.over = True
        stream.resolved([Answer(Kind.IPV4, "192.0.2.1", 1)])
        return handler

    def step(self) -> None:
        decide = self.decide
        match decide.below(9):
            case 0:
                self.open()
            case 1 | 2 | 3 | 4:
                users = decide.one(self.users)
                if users:
                    self.act(decide.one(users))
            case 5:
                self.now += decide.below(20) / 10
                self.ends[decide.below(2)].pump(self.now)
            case 6:
                self.carry(decide.below(2), 255)
            case 7:
                end = decide.below(2)
                self.ends[end].pace(decide.flag())
            case _:
                self.now += 0.1
                self.other(decide.below(2))

    def other(self, end: int) -> None:
        """A slot; or a lie."""
        decide = self.decide
        if decide.below(4):
            if self.ends[end].paced:
                self.ends[end].slot(self.now, 1 + decide.below(8))
            else:
                self.carry(end, 1 + decide.below(4))
            return
        self.lies = True
        kind = decide.below(16)
        said = message(Message.BEGIN, decide.below(6))[:1] if kind > 12 else b""
        lie = said + decide.piece(40) if kind > 12 else message(kind, decide.below(6), decide.piece(20))  # type: ignore[arg-type]
        self.ways[end].append(((OWN + lie)[: ROOM + 1].ljust(ROOM + 1, b"\0"), bytes(16)))

    def open(self) -> None:
        handler = Handler(self)
        try:
            handler.stream = self.ends[0].open(WHERE, handler, resolve=self.decide.below(8) == 7)
        except Refused:
            return
        self.users[0].append(handler)

    def act(self, handler: Handler) -> None:
        """Something that the user of a stream does."""
        stream = handler.stream
        if stream is None:
            return
        match self.decide.below(8):
            case 0 | 1 | 2:
                size = self.decide.one((1, 59, 60, 1000, 20_000, 300_000, 1_000_000))
                self.write(stream, size)
            case 3:
                stream.finish()
            case 4:
                if stream.open:
                    handler.over = True
                stream.end(EndReason.DONE)
            case 5 | 6:
                stream.take(self.decide.flag())
            case _:  # one user ends another's, as an exit that holds too much does
                others = [user for users in self.users for user in users if user.stream is not None]
                chosen = self.decide.one(others)
                if chosen.stream is not None and chosen.stream.open:
                    chosen.over = True
                    chosen.stream.end(EndReason.RESOURCE)

    def write(self, stream: Stream, size: int) -> None:
        if stream.outbox_bytes + size > 4_000_000 or not stream.open or stream.fin_queued:
            return
        at = self.written.get(id(stream), 0)
        self.written[id(stream)] = at + size
        stream.write(BLOCK[at % 256 : at % 256 + size])

    def carry(self, end: int, most: int) -> None:
        """What `end` has sent comes to the other."""
        way, other = self.ways[end], self.ends[1 - end]
        batch = [way.popleft() for _ in range(min(most, len(way)))]
        other.messages([m for m, _ in batch], [tag for _, tag in batch], self.now)
        other.deliver()
        if self.decide.flag():
            other.pump(self.now)

    def check(self) -> None:
        for end, users in zip(self.ends, self.users):
            waiting = sum(stream.outbox_bytes for stream in end.streams.values())
            if end.outbox_bytes != waiting:
                raise AssertionError("the gate counts other bytes than those that wait")
            if any(s.outbox_bytes != sum(map(len, s.waiting)) for s in end.streams.values()):
                raise AssertionError("a stream counts other bytes than it has")
            if len(end.streams) > 4:
                raise AssertionError("too many streams")
            if end._gate.closed and waiting < outbox_gate.CIRCUIT_LOW and not any(u.held for u in users):
                room = [s for s in end._gate._held if s.open]
                if not room:
                    raise AssertionError("the gate is closed for nobody")

    def end(self) -> None:
        """The circuit goes."""
        for end, users in zip(self.ends, self.users):
            end.gone()
            end.pump(self.now)
            end.deliver()
            if end.streams or not end._sender.idle:
                raise AssertionError("a stream outlived its circuit")
            if not all(user.over for user in users):
                raise AssertionError("the user of a stream was not told of its end")
            if end.outbox_bytes or end._gate._held:
                raise AssertionError("bytes are held for streams that are gone")


def one_input(data: bytes) -> None:
    """One life of a circuit's streams."""
    world = World(data)
    try:
        while world.decide.more:
            world.step()
            world.check()
    except Malformed:
        if not world.lies and not any(end._out._choked for end in world.ends):
            raise AssertionError("an honest end was called a liar") from None
    world.end()
