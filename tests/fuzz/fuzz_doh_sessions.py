"""Both ends of a DNS tunnel's session over a way that loses, delays, doubles and reorders, whatever their users do:
bytes come whole and in order, nothing raises but Malformed, and no end holds more than its window. With the session's
key one end may say anything, too.

Run: `make fuzz TARGETS=doh_sessions`.
"""

from __future__ import annotations

import contextlib

from fuzz_input import Decisions
from phantomband.core.errors import Malformed
from phantomband.transports.doh.client import DIRECT, RESOLVER, ClientSession
from phantomband.transports.doh.halves import ReceiveHalf
from phantomband.transports.doh.packet import Answer, Keys, Query, read_query_untrusted
from phantomband.transports.doh.server import MAX_HELD, ServerSession
from phantomband.transports.doh.session import WINDOW_BYTES, Session

SESSION = b"sessions"
KEYS = Keys(bytes(32), SESSION)
BLOCK = bytes(range(256)) * 300
LIMIT = 1232

SEEDS = [
    bytes((1, 1, 0, 0, 3, 0, 0, 10, 0, 0, 3, 1, 0, 0, 1, 2, 4, 3, 1)),
    bytes((0, 0, 1, 0, 2, 1, 3, 1, 9, 0, 2, 2, 2, 1, 2, 3, 3, 0, 4, 1, 6, 5, 0, 0, 1, 2, 3, 3, 2, 2)),
    bytes((1, 0, 1, 0, 2, 1, 3, 0, 0, 7, 0, 0, 1, 2, 8, 3, 9, 0, 5, 1, 6, 0, 1, 2, 3)),
    bytes((0, 0, 1, 0, 2, 1, 3, 10, 1, 2, 0, 0, 0, 9, 1, 0, 0, 1, 1, 0, 0, 0, 60, 4, 4)),
]


class Way:
    congested = False


class World:
    """A client, a server that its first query makes, and what is under way."""

    def __init__(self, data: bytes) -> None:
        self.decide = Decisions(data, 150)
        self.now = 0.0
        self.lies = False
        self.pace = DIRECT if self.decide.flag() else RESOLVER
        self.client = ClientSession(KEYS, self.pace, LIMIT, 1000, 0.0)
        self.server: ServerSession | None = None
        self.way = Way()
        self.queries: list[tuple[int, bytes]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.written = {id(self.client): 0}
        self.read = {id(self.client): 0}

    @property
    def ends(self) -> list[Session]:
        return [self.client] if self.server is None else [self.client, self.server]

    def step(self) -> None:
        decide = self.decide
        match decide.below(12):
            case 0:
                one = decide.one(self.ends)
                if not one.closing and one.send.unsent < 200_000:
                    size = decide.one((1, 90, 1000, 60_000))
                    at = self.written[id(one)]
                    one.write(BLOCK[at % 256 : at % 256 + size])
                    self.written[id(one)] = at + size
            case 1 | 2:
                for _ in range(1 + decide.below(20)):
                    found = self.client.query(decide.one((147, 600)), self.now)
                    if found is not None:
                        self.queries.append(found)
            case 3 | 4:
                for _ in range(1 + decide.below(20)):
                    self.ask()
            case 5 | 6:
                for _ in range(1 + decide.below(20)):
                    self.answer()
            case 7:
                self.now += decide.one((0.01, 0.1, 0.3, 1.0, 5.0, 31.0, 130.0))
                for one in self.ends:
                    if not one.over and one.deadline < 0:  # type: ignore[attr-defined]
                        raise AssertionError("a deadline before all time")
                    one.tick(self.now)  # type: ignore[attr-defined]
                self.flush()
            case 8:
                self.lose()
            case 9:
                one = decide.one(self.ends)
                match decide.below(4):
                    case 0:
                        one.close(self.now)
                    case 1 if self.server is not None:
                        self.server.way_lost(self.way)
                        self.way = Way()
                    case 2:
                        one.abort()  # type: ignore[attr-defined]
                    case _:
                        self.way.congested = not self.way.congested
                self.flush()
            case 10:
                self.lie()
            case _:
                for one in self.ends:
                    self.take(one)

    def flush(self) -> None:
        if self.server is not None:
            self.server.flush(self.now)

    def take(self, one: Session) -> None:
        for piece in one.take(self.now):
            at = self.read[id(one)]
            if not self.lies and bytes(piece) != BLOCK[at % 256 : at % 256 + len(piece)]:
                raise AssertionError("bytes are not those that were written")
            self.read[id(one)] = at + len(piece)

    def ask(self) -> None:
        if not self.queries:
            return
        chosen = self.decide.below(256)
        index = 0 if chosen < 200 else chosen % len(self.queries)
        number, packet = self.queries[index]
        if chosen % 8:
            del self.queries[index]
        query = read_query_untrusted(packet)
        if self.server is None:
            if query.opening is None:
                return
            self.server = ServerSession(KEYS, query, self.now)
            self.written[id(self.server)] = self.read[id(self.server)] = 0
        self.serve(number, query)

    def serve(self, number: int, query: Query) -> None:
        assert self.server is not None
        try:
            self.server.query_untrusted(
                query,
                LIMIT,
                lambda size: size,
                self.way,
                lambda packet: self.answers.append((number, packet)),
                self.now,
            )
        except Malformed as e:
            if not self.lies and "repeated" not in str(e):
                raise AssertionError("an honest client was called a liar") from None
        self.flush()

    def answer(self) -> None:
        if not self.answers:
            return
        chosen = self.decide.below(256)
        index = 0 if chosen < 200 else chosen % len(self.answers)
        number, packet = self.answers[index]
        if chosen % 8:
            del self.answers[index]
        try:
            self.client.answer_untrusted(number, packet, self.now)
        except Malformed:
            if not self.lies:
                raise AssertionError("an honest server was called a liar") from None

    def lose(self) -> None:
        for under_way in (self.queries, self.answers):
            if under_way:
                number, _ = under_way.pop(self.decide.below(len(under_way)))
                if self.decide.flag():
                    self.client.failed(number)
                elif self.decide.below(4) == 3:
                    self.client.refused(number)

    def lie(self) -> None:
        """A packet of any content under the right key."""
        self.lies = True
        decide = self.decide
        big = decide.one((1, 256, 65_536, 1 << 22))
        a, b, c, d, e = (decide.byte() * big & 0xFFFFFFFF for _ in range(5))
        flags, data, times = decide.below(32), bytes(decide.one((0, 1, 100, 1000, 60_000))), decide.one((1, 1, 20, 300))
        for _ in range(times):
            if decide.flag() and self.server is not None:
                query = Query(SESSION, a, flags & ~1, b, c & 0xFFFF, d & 0xFFFF, d * e, None, e, data)
                self.serve(a, read_query_untrusted(KEYS.seal_query(query)))
            else:
                packet = KEYS.seal_answer(a, Answer(c, flags, d & 255, b, d & 0xFFFF, e, data))
                with contextlib.suppress(Malformed):
                    self.client.answer_untrusted(a, packet, self.now)

    def check(self) -> None:
        del self.queries[:-400], self.answers[:-400]
        for one in self.ends:
            if held_bytes(one.receive) > 2 * WINDOW_BYTES:
                raise AssertionError("more is held than the window, in order and out of it")
            if one.over and (one.send.unsent or one.send.flight or one.send._lost):
                raise AssertionError("an end that is over has something to send")
            if one.send.unsent < 0 or one.send.acked > one.send.offset:
                raise AssertionError("the books of what was sent are wrong")
        if self.client.out > self.pace.most + 1:
            raise AssertionError("too many queries are out")
        if self.server is not None and len(self.server._held) > MAX_HELD + 1:
            raise AssertionError("too many queries are held")


def held_bytes(half: ReceiveHalf) -> int:
    return sum(len(data) for _, data, _ in half._early) + sum(map(len, half._ready))


def one_input(data: bytes) -> None:
    """One life of a session."""
    world = World(data)
    while world.decide.more:
        world.step()
        world.check()
    for one in world.ends:
        world.take(one)
