"""Whoever does not knock at an HTTP/3 port, whatever it sends on any stream in any split, resets and refuses to read:
only H3Error and BadRequest come of it inside and nothing outside, what is held stays within its bounds, every answer
goes to a stream that was asked on, and when the connection is gone nothing of it is left, timers included.

Run: `make fuzz TARGETS=visitor`.
"""

from __future__ import annotations

import asyncio

from fuzz_input import Decisions
from phantomband.transports.quic.frames import Frame, frame
from phantomband.transports.quic.visitor import (
    BLOCKED_STREAMS,
    CONTROL,
    DECODER,
    HELD_BYTES,
    MAX_STREAMS,
    Rooms,
    Visitor,
)
from phantomband.transports.website.exchange import Answer, Exchange, Out
from phantomband.transports.website.http import Request
from phantomband.transports.website.server import MAX_REQUESTS, Visitors
from virtual import VirtualLoop


def head(section: bytes) -> bytes:
    """A HEADERS frame."""
    return frame(Frame.HEADERS, section)


GET = b"\0\0\xd1\xd7\xc1\x50\x01a"
"""GET https://a/ by QPACK's static table."""

HEADS = (
    head(GET),
    head(b"\0\0\xd2" + GET[3:]),
    head(b"\0\0\xd4" + GET[3:] + b"\x54\x013"),
    head(b"\0\0\xd4" + GET[3:] + b"\x54\x089999999"),
    head(b"\x02\0" + GET[2:] + b"\x80"),
    head(b"\x02\0" + GET[2:] + b"\x81"),
    head(GET + b"\x50\x01b"),
    head(b""),
    head(GET + b"\x27\x01" + b"x" * 8 + b"\x7f\xff\x7d" + b"y" * 16_000),
    frame(Frame.DATA, b"abc"),
)
ONE_WAY = (
    b"\0\4\0",
    b"\0\4\2\1\0",
    b"\2",
    b"\2\x3f\xe1\x1f\x41a\1b",
    b"\x3f\xe1\x1f",
    b"\x41a\1b",
    b"\3\x40",
    b"\7\1\0",
)
STREAMS = (0, 4, 8, 12, 508, 512, 3996, 4000)
ONE_WAYS = (2, 6, 10, 14)

SEEDS = [
    bytes((2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 1, 4, 1, 1, 1, 1, 0, 0, 5, 90)),
    bytes((1, 0, 4, 0, 0, 1, 1, 4, 0, 0, 2, 1, 3, 0, 0, 4, 1, 1, 2, 1, 5, 0, 0, 6, 0, 1, 5, 200)),
    bytes((1, 0, 0, 3, 0, 2, 1, 0, 2, 0, 2, 6, 0, 0, 1, 5, 80)),
    bytes((1, 1, 2, 0, 0, 1, 2, 8, 0, 0, 0, 7, 1, 9, 3, 5, 1, 5, 76)),
]


class Slow:
    """An answer whose end comes later."""

    def __init__(self, world: World, out: Out) -> None:
        self.world, self.out, self.over = world, out, False

    def go_on(self) -> None:
        if self.over:
            return
        self.out.send(b"part")
        if self.world.decide.flag():
            self.over = True
            self.world.slow.remove(self)
            self.out.done(self.world.decide.flag())

    def writable(self) -> None:
        if self.over:
            raise AssertionError("an answer that is over was told to go on")
        self.go_on()

    def cancel(self) -> None:
        if not self.over:
            self.over = True
            self.world.slow.remove(self)


class World:
    """A visitor, its wire, and a site."""

    def __init__(self, data: bytes) -> None:
        self.decide = Decisions(data, 120)
        self.unsent: dict[int, int] = {}
        self.ended: set[int] = set()
        self.whole: set[int] = set()
        """What the visitor sends nothing on any more."""
        self.closed = False
        self.slow: list[Slow] = []
        self.asked: set[int] = set()
        self.visitors = Visitors()
        self.visitors.add(self, lambda: None)
        self.rooms = Rooms(self, self.visitors, lambda: 1_790_000_000.0)
        self.visitor = Visitor(self, self.rooms, self)

    # the wire

    def unsent_on(self, stream: int | None) -> int:
        return sum(self.unsent.values()) if stream is None else self.unsent.get(stream, 0)

    def send_on(self, stream: int, data: bytes, end: bool) -> None:
        if self.closed or stream in self.ended:
            raise AssertionError("something was sent behind its end")
        if stream not in (CONTROL, DECODER) and stream not in self.asked:
            raise AssertionError("an answer to nothing")
        self.unsent[stream] = self.unsent.get(stream, 0) + len(data)
        if end:
            self.ended.add(stream)

    def reset(self, stream: int, code: int) -> None:
        self.ended.add(stream)
        self.unsent.pop(stream, None)

    def stop(self, stream: int, code: int) -> None: ...

    def transmit(self) -> None: ...

    def transmit_soon(self) -> None: ...

    def end(self, code: int, why: str) -> None:
        if self.closed:
            raise AssertionError("a connection was ended twice")
        self.closed = True

    # the site

    def answer(self, request: Request, out: Out) -> Exchange | None:
        kind = self.decide.below(4)
        body = b"hello" * self.decide.one((1, 1000, 40_000))
        out.head(Answer("200 OK", (("Content-Type", "text/html"), ("Content-Length", str(len(body)))) if kind else ()))
        if kind < 2:
            out.send(body)
            out.done(True)
            return None
        slow = Slow(self, out)
        self.slow.append(slow)
        _ = out.congested
        return slow

    # steps

    async def step(self) -> None:
        decide, visitor = self.decide, self.visitor
        match decide.below(7):
            case 0:
                self.receive(decide.one((*STREAMS, *ONE_WAYS)), decide.piece(60))
            case 1:
                self.receive(4 * decide.below(8), decide.one(HEADS))
            case 2:
                self.receive(decide.one(ONE_WAYS), decide.one(ONE_WAY))
            case 3:
                self.stop_or_reset(decide.one((*STREAMS, *ONE_WAYS, CONTROL, DECODER)))
            case 4:
                for stream in list(self.unsent):
                    if decide.flag():
                        self.unsent.pop(stream)
                if not self.closed:
                    visitor.moved()
            case 5:
                await asyncio.sleep(decide.below(90))
            case _:
                if self.slow:
                    decide.one(self.slow).go_on()
                elif decide.below(16) == 15:
                    self.gone()

    def gone(self) -> None:
        """The connection went by itself."""
        self.visitor.ended()
        self.closed = True

    def stop_or_reset(self, stream: int) -> None:
        if self.closed:
            return
        if self.decide.flag() and stream not in (CONTROL, DECODER):
            if stream not in self.whole:
                self.whole.add(stream)
                self.visitor.reset_untrusted(stream)
        elif not stream & 2 or stream in (CONTROL, DECODER):
            self.visitor.stopped_untrusted(stream)

    def receive(self, stream: int, data: bytes) -> None:
        if not stream & 2:
            self.asked.add(stream)
        end = self.decide.below(4) == 3
        for _ in range(self.decide.one((1, 1, 1, 1, 1, 40))):
            if self.closed or stream in self.whole:
                return
            if end:
                self.whole.add(stream)
            self.visitor.received_untrusted(stream, data, end)

    def check(self) -> None:
        visitor = self.visitor
        held = sum(r.held for r in visitor._requests.values()) + sum(visitor._blocked.values())
        if held > HELD_BYTES or len(visitor._requests) > MAX_STREAMS or len(visitor._past) > MAX_REQUESTS:
            raise AssertionError("more is held than its bound")
        if len(visitor._blocked) > BLOCKED_STREAMS:
            raise AssertionError("too many heads wait for the dynamic table")
        if self.closed and (visitor._requests or self.slow or self.visitors.quiet):
            raise AssertionError("something outlived the connection")


async def visit(data: bytes) -> World:
    world = World(data)
    while world.decide.more:
        await world.step()
        world.check()
    if not world.closed:
        world.gone()
    world.check()
    return world


def one_input(data: bytes) -> None:
    """One visit, and two minutes for what was left behind."""
    loop = VirtualLoop()
    faults: list[BaseException | None] = []
    loop.set_exception_handler(lambda _, context: faults.append(context.get("exception")))
    try:
        loop.run_until_complete(visit(data))
        loop.run_until_complete(asyncio.sleep(120.0))
        if faults:
            raise AssertionError("a timer failed") from faults[0]
    finally:
        loop.close()
