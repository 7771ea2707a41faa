"""A link of either pattern, with or without a bridge line's key, cut anywhere on its way and changed at any byte: cells
come whole, in order and once; whatever was changed ends it with Malformed, and then it is deaf and holds nothing.

Run: `make fuzz TARGETS=link_records`.
"""

from __future__ import annotations

import random

from fuzz_input import Decisions
from phantomband.core.cell import CELL_BYTES
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import NodeId
from phantomband.core.link import Cells, Established, Link, LinkKey, Send, dial, listen
from phantomband.core.link.records import MAX_RECORD_BYTES

NETWORK, NODE = bytes(32), NodeId(b"n" * 32)
KEY, OTHER = LinkKey(b"k" * 32), LinkKey(b"d" * 32)
PSK = b"p" * 32

SEEDS = [
    bytes((0, 0, 1, 2, 0, 255, 1, 3, 0, 255, 2, 1, 5, 0, 255)),
    bytes((3, 0, 0, 200, 1, 2, 0, 255, 1, 3, 0, 30, 1, 0, 1, 0, 5, 40, 0, 255)),
    bytes((1, 1, 0, 255, 0, 255, 2, 16, 0, 7, 3, 0, 9, 1, 0, 255)),
]


class End:
    """One end, what it was sent and what came out of it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.wire = bytearray()
        """On its way to this end."""
        self.sent, self.got = bytearray(), bytearray()
        """Cells."""
        self.static: list[bytes | None] = []
        self.changed = self.dead = False


class World:
    """A dialer and a listener, and a network between them."""

    def __init__(self, data: bytes) -> None:
        self.decide = Decisions(data, 60)
        kind = self.decide.byte()
        source = random.Random(kind).randbytes
        self.xk, psk = bool(kind & 1), PSK if kind & 2 else None
        replay = ReplayCache() if kind & 4 else None
        dialer = End(dial(NETWORK, NODE, KEY.public, OTHER if self.xk else None, source, psk))
        listener = End(listen(NETWORK, NODE, KEY, source, encapsulate_untrusted, psk, replay))
        self.ends = [dialer, listener]
        listener.wire += dialer.link.start()

    def step(self) -> None:
        decide = self.decide
        match decide.below(4):
            case 0 | 1:
                self.carry(decide.below(2), decide.one((1, 17, 18, 40, 1000, 1312, 5000, 100_000)))
            case 2:
                end = decide.below(2)
                if self.ends[end].link.established:
                    cells = bytes((decide.byte(),)) * CELL_BYTES * (1 + decide.below(40))
                    self.ends[end].sent += cells
                    self.ends[1 - end].wire += self.ends[end].link.seal(cells)
            case _:
                self.meddle(self.ends[decide.below(2)])

    def carry(self, end: int, size: int) -> None:
        one, other = self.ends[end], self.ends[1 - end]
        data = bytes(one.wire[:size])
        del one.wire[:size]
        try:
            events = one.link.receive(data)
        except Malformed:
            if not one.changed:
                raise AssertionError("honest bytes were called wrong") from None
            one.dead = True
            return
        if one.dead and events:
            raise AssertionError("a dead link said something")
        for event in events:
            match event:
                case Send(sent):
                    other.wire += sent
                case Established(static):
                    one.static.append(static)
                case Cells(cells):
                    one.got += cells
        self.check(one, other)

    def check(self, one: End, other: End) -> None:
        if len(one.static) > 1 or (one.static and one is self.ends[1] and bool(one.static[0]) is not self.xk):
            raise AssertionError("the link stood twice, or with another peer")
        if bytes(one.got) != other.sent[: len(one.got)] or len(one.got) % CELL_BYTES:
            raise AssertionError("cells are not those that were sent")
        link = one.link
        held = len(link._pending) + (len(link._opener._pending) if link._opener is not None else 0)
        if held > MAX_RECORD_BYTES:
            raise AssertionError("a link holds more than a record")
        if one.dead and (held or link.established or link._candidates):
            raise AssertionError("a dead link holds something")

    def meddle(self, one: End) -> None:
        """Changes, drops, doubles or adds bytes on the way."""
        decide, wire = self.decide, one.wire
        if not wire:
            return
        at = decide.below(len(wire))
        one.changed = True
        match decide.below(4):
            case 0:
                wire[at] ^= 1 + decide.below(255)
            case 1:
                del wire[at : at + 1 + decide.below(40)]
            case 2:
                wire[at:at] = wire[at : at + 1 + decide.below(200)]
            case _:
                wire[at:at] = decide.piece(60) or b"\0"

    def end(self) -> None:
        for number in (1, 0, 1, 0):
            self.carry(number, 10_000_000)
        for one, other in zip(self.ends, reversed(self.ends)):
            if not one.changed and not other.changed and one.got != other.sent:
                raise AssertionError("cells were lost on an honest way")


def one_input(data: bytes) -> None:
    """One life of a link."""
    world = World(data)
    while world.decide.more:
        world.step()
    world.end()
