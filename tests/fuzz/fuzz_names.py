"""An exit's lookups, whatever circuits ask, cancel and wait for and whatever the DNS says, late, never or wrongly:
nothing raises, shares hold, each lookup ends, what is sent to the client can be read by it, and at the end nothing is
under way.

Run: `make fuzz TARGETS=names`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pycares
from fuzz_input import Decisions
from phantomband.core.stream.messages import Answer, Kind, decode_answers_untrusted, encode_answers, is_name
from phantomband_relay.names import (
    ALL_LOOKUPS,
    CIRCUIT_LOOKUPS,
    FAILURES_KEPT,
    MAX_ADDRESSES,
    SOURCE_LOOKUPS,
    Asker,
    Names,
    NoAnswer,
    _Channel,
)
from virtual import VirtualLoop

SEEDS = [
    bytes((0, 0, 1, 1, 0, 2, 0, 1, 3, 40, 0, 1, 2, 2, 3, 90)),
    bytes((4, 0, 40, 0, 3, 200, 1, 0, 1, 4, 1, 200, 2, 0, 0, 2, 1, 0, 3, 9)),
    bytes((5, 3, 1, 2, 3, 0, 1)) + b"\3www.example.test" + bytes((5, 12, 2, 9)) + b"host.a b\0\xff",
]
TEXTS = (
    "192.0.2.1",
    "2001:db8::1",
    "",
    "fe80::1%eth0",
    "::ffff:192.0.2.1",
    "host.test",
    "a b",
    "ä.test",
    "x" * 300,
    "[::1]",
)


MAKES = {
    pycares.QUERY_TYPE_A: pycares.ARecordData, pycares.QUERY_TYPE_AAAA: pycares.AAAARecordData,
    pycares.QUERY_TYPE_PTR: pycares.PTRRecordData, pycares.QUERY_TYPE_CNAME: pycares.CNAMERecordData,
}  # fmt: skip
"""What the library makes of a record of each type. The texts that it puts there are any here."""


class Dns:
    """A DNS that answers when the input says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[list[str]]] = []

    def _ask(self) -> asyncio.Future[list[str]]:
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        return future

    def addresses(self, name: str) -> list[asyncio.Future[list[str]]]:
        if not name.isascii() or len(name) > 254:
            raise AssertionError("a name that is none was asked for")
        return [self._ask(), self._ask()]

    def name_of(self, address: str) -> asyncio.Future[list[str]]:
        return self._ask()

    def close(self) -> None: ...


class Channel:
    """What stands for c-ares: its answer is made of the input."""

    def __init__(self, decide: Decisions) -> None:
        self._decide = decide

    def query(self, name: str, kind: int, *, callback: Any) -> None:
        decide = self._decide
        records = [self._record(kind) for _ in range(decide.below(20))]
        error = decide.one((None, None, None, *sorted(pycares.errno.errorcode)))
        if error == 1 and decide.flag():
            raise pycares.AresError(error, "as it says for some errors")
        callback(None if error else pycares.DNSResult(records, [], []), error)

    def _record(self, kind: int) -> pycares.DNSRecord:
        decide = self._decide
        text = decide.one(TEXTS) if decide.flag() else decide.piece(40).decode("latin-1")
        kind = decide.one((kind, kind, *MAKES))
        return pycares.DNSRecord("a.test", kind, 1, decide.byte(), MAKES[kind](text))


class World:
    """One exit's lookups."""

    def __init__(self, data: bytes) -> None:
        self.decide = Decisions(data, 150)
        self.dns = Dns()
        self.names = Names(self.dns)
        self.askers = [Asker(source) for source in ("a", "a", "b", "c")]
        self.tasks: list[asyncio.Task[list[str]]] = []
        self.wanted = True

    async def step(self) -> None:
        decide = self.decide
        match decide.below(7):
            case 0:
                self.look_up(decide.one(self.askers))
            case 1 | 2:
                self.answer()
            case 3:
                await asyncio.sleep(decide.below(256) / 20)
            case 4:
                asker = decide.one(self.askers)
                for _ in range(decide.below(60)):
                    self.look_up(asker)
            case 5:
                await self.read()
            case _:
                if decide.flag() and self.tasks:
                    decide.one(self.tasks).cancel()
                else:
                    self.wanted = decide.flag()
        await asyncio.sleep(0)

    def look_up(self, asker: Asker) -> None:
        name = self.decide.one(("a.test", "b.test", "c.test.", "", "a..b", "x" * 70, "[::1]", "ä", "_x.test"))
        wanted = self.wanted
        if self.decide.below(4) == 3:
            work = self.names.name_of(asker, "192.0.2.1", lambda: wanted)
        else:
            work = self.names.addresses(asker, name, lambda: wanted)
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def answer(self) -> None:
        if not self.dns.asked:
            return
        future = self.dns.asked.pop(self.decide.below(len(self.dns.asked)))
        if future.done():
            return
        match self.decide.below(3):
            case 0:
                future.set_exception(NoAnswer())
                future.exception()
            case 1:
                future.set_result([])
            case _:
                future.set_result(["192.0.2.1"])

    async def read(self) -> None:
        """What c-ares says is read, and what the client would be sent of it can be read there."""
        channel = _Channel.__new__(_Channel)
        channel._loop, channel._channel = asyncio.get_running_loop(), Channel(self.decide)  # type: ignore[assignment]
        channel._watched, channel._timer, channel._closed = set(), None, False
        kind = self.decide.below(3)
        future: asyncio.Future[list[str]] = channel._loop.create_future()
        record = (pycares.QUERY_TYPE_A, pycares.QUERY_TYPE_AAAA, pycares.QUERY_TYPE_PTR)[kind]
        channel.query("a.test", record, future)
        try:
            async with asyncio.timeout(1.0):
                found = await future
        except NoAnswer:
            return
        if len(found) > MAX_ADDRESSES:
            raise AssertionError("too many answers are taken")
        if kind == 2:  # as the exit does
            answers = [Answer(Kind.NAME, n, 60) for n in found if n.isascii() and is_name(n.encode())][:1]
        else:
            answers = [Answer(Kind.IPV6 if ":" in a else Kind.IPV4, a, 60) for a in found]
        read = decode_answers_untrusted(encode_answers(answers))
        if [a.kind for a in read] != [a.kind for a in answers]:
            raise AssertionError("an answer changes on the wire")

    def check(self) -> None:
        names = self.names
        if names.under_way != sum(a.under_way for a in self.askers) or names.under_way > ALL_LOOKUPS:
            raise AssertionError("the count of lookups is not that of the lookups")
        for source in "abc":
            if sum(a.under_way for a in self.askers if a.source == source) > SOURCE_LOOKUPS:
                raise AssertionError("a source has more than its share")
        if any(a.under_way > CIRCUIT_LOOKUPS or not 0 <= a.silent <= CIRCUIT_LOOKUPS for a in self.askers):
            raise AssertionError("a circuit has more than its share")
        if len(names._failed) > FAILURES_KEPT:
            raise AssertionError("too many failures are kept")
        for task in [t for t in self.tasks if t.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                task.result()

    async def end(self) -> None:
        """Every query ends, as the library says, and so does every lookup."""
        for _ in range(5000):
            if not self.tasks and not self.dns.asked:
                break
            for future in self.dns.asked:
                if not future.done():
                    future.set_result([])
            self.dns.asked.clear()
            await asyncio.sleep(0.01)
            self.check()
        left = self.names.under_way, self.names.waiting, self.names._of_source, self.names._queues, self.tasks
        if any(left):
            raise AssertionError(f"lookups that never end: {left}")


async def serve(data: bytes) -> None:
    world = World(data)
    while world.decide.more:
        await world.step()
        world.check()
    await world.end()


def one_input(data: bytes) -> None:
    """One life of an exit's lookups."""
    loop = VirtualLoop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context.get("exception") or context))
    try:
        loop.run_until_complete(serve(data))
        if faults:
            raise AssertionError(f"a callback failed: {faults[0]!r}")
    finally:
        loop.close()
