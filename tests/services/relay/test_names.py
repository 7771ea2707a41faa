"""Names whose servers never answer hold up nobody else: lookups are shared by circuit and by source, and end."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from fake_names import FakeDns
from phantomband_relay.names import (
    ALL_LOOKUPS,
    CIRCUIT_LOOKUPS,
    FAILED_SECONDS,
    FAILURES_KEPT,
    LOOKUP_SECONDS,
    NO_NAME_SECONDS,
    SOURCE_LOOKUPS,
    Asker,
    Cares,
    Names,
    NoAnswer,
    is_host_name,
)
from virtual import run_virtual


class Rig:
    def __init__(self) -> None:
        self.dns = FakeDns()
        self.dns.known["honest.test"] = ["192.0.2.1", "2001:db8::1"]
        self.names = Names(self.dns)
        self.wanted = True
        self.tasks: list[asyncio.Task[list[str]]] = []

    def flood(self, asker: Asker, count: int, word: str = "x") -> None:
        """Lookups of names whose servers say nothing."""
        for i in range(count):
            work = self.names.addresses(asker, f"{word}{i}.silent.test", lambda: self.wanted)
            self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def ask(self, asker: Asker, name: str = "honest.test") -> tuple[list[str], float]:
        begun = asyncio.get_running_loop().time()
        found = await self.names.addresses(asker, name, lambda: True)
        return found, asyncio.get_running_loop().time() - begun


def run(test: Coroutine[Any, Any, None]) -> None:
    run_virtual(test)


def test_a_circuit_with_silent_names_delays_no_other_circuit() -> None:
    async def main() -> None:
        rig = Rig()
        rig.flood(Asker("link"), 1000)
        await asyncio.sleep(0.01)
        assert len(rig.dns.names) == CIRCUIT_LOOKUPS
        found, seconds = await rig.ask(Asker("link"))
        assert sorted(found) == ["192.0.2.1", "2001:db8::1"]
        assert seconds < 0.1

    run(main())


def test_a_source_with_many_circuits_of_silent_names_delays_no_other_source() -> None:
    async def main() -> None:
        rig = Rig()
        for i in range(100):
            rig.flood(Asker("bad"), CIRCUIT_LOOKUPS, f"c{i}-")
        await asyncio.sleep(0.01)
        assert rig.names.under_way == SOURCE_LOOKUPS
        assert (await rig.ask(Asker("good")))[1] < 0.1

    run(main())


def test_when_all_places_are_taken_sources_have_turns_and_circuits_within_them() -> None:
    async def main() -> None:
        rig = Rig()
        for source in range(8):
            for i in range(30):
                rig.flood(Asker(source), CIRCUIT_LOOKUPS, f"s{source}c{i}-")
        await asyncio.sleep(0.01)
        assert rig.names.under_way == ALL_LOOKUPS
        late, same = Asker("late"), Asker(3)
        asked = [asyncio.get_running_loop().create_task(rig.ask(a)) for a in (late, same)]
        await asyncio.sleep(0.01)
        assert not any(t.done() for t in asked)
        rig.dns.fail_silent(2 * 16)  # sixteen lookups of two queries end: each source gets two places
        await asyncio.sleep(0.2)
        assert asked[0].done()
        assert rig.names.waiting > 0
        # Within its own source the honest circuit waits behind 29 others' turns, not behind 29 x 16 lookups.
        rounds = 0
        while not asked[1].done():
            rig.dns.fail_silent(2 * 16)
            rounds += 1
            await asyncio.sleep(0.2)
        assert rounds <= 60

    run(main())


def test_a_circuit_whose_names_do_not_answer_gets_fewer_places() -> None:
    async def main() -> None:
        rig = Rig()
        bad = Asker("link")
        rig.flood(bad, 100)
        await asyncio.sleep(0.01)
        rig.dns.fail_silent()
        await asyncio.sleep(0.01)
        assert bad.under_way == 1
        while bad.under_way:
            rig.dns.fail_silent()
            await asyncio.sleep(0.01)
        for i in range(5):
            rig.dns.known[f"good{i}.test"] = ["192.0.2.1"]
            assert (await rig.ask(bad, f"good{i}.test"))[0]
        assert bad.silent == 0

    run(main())


def test_a_lookup_ends_and_is_under_way_until_its_queries_have() -> None:
    async def main() -> None:
        rig = Rig()
        asker = Asker("link")
        assert await rig.ask(asker, "a.silent.test") == ([], pytest.approx(LOOKUP_SECONDS))
        assert rig.names.under_way == 1
        rig.dns.fail_silent()
        await asyncio.sleep(0)
        assert (rig.names.under_way, asker.under_way) == (0, 0)

    run(main())


def test_what_nobody_waits_for_any_more_is_not_asked() -> None:
    async def main() -> None:
        rig = Rig()
        asker = Asker("link")
        rig.flood(asker, CIRCUIT_LOOKUPS + 50)
        await asyncio.sleep(0.01)
        rig.wanted = False
        rig.tasks[-1].cancel()
        rig.dns.fail_silent()
        await asyncio.sleep(0.01)
        assert len(rig.dns.names) == CIRCUIT_LOOKUPS
        assert all(t.done() for t in rig.tasks)
        assert (rig.names.under_way, rig.names.waiting, asker.under_way) == (0, 0, 0)

    run(main())


def test_both_families_are_asked_at_once_and_a_silent_one_hides_nothing() -> None:
    async def main() -> None:
        rig = Rig()
        loop = asyncio.get_running_loop()
        real = rig.dns.of_family

        def half(name: str, family: int) -> asyncio.Future[list[str]]:
            if family == 6:
                rig.dns.asked.append((name, 6))
                return loop.create_future()
            return real(name, family)

        rig.dns.of_family = half  # type: ignore[method-assign]
        found, seconds = await rig.ask(Asker("link"))
        assert found == ["192.0.2.1"]
        assert seconds == pytest.approx(0.05)
        assert rig.dns.asked == [("honest.test", 6), ("honest.test", 4)]

    run(main())


def test_failures_are_remembered_for_a_while_for_their_source_alone() -> None:
    async def main() -> None:
        rig = Rig()
        assert (await rig.ask(Asker("a"), "Nowhere.test."))[0] == []
        for asker, asked in ((Asker("a"), 2), (Asker("b"), 4)):
            assert (await rig.ask(asker, "nowhere.test"))[0] == []
            assert len(rig.dns.asked) == asked
        await asyncio.sleep(NO_NAME_SECONDS)
        await rig.ask(Asker("a"), "nowhere.test")
        assert len(rig.dns.asked) == 6
        rig.flood(Asker("a"), 1)
        await asyncio.sleep(0.01)
        rig.dns.fail_silent()
        await asyncio.sleep(0.01)
        assert await rig.ask(Asker("a"), "x0.silent.test") == ([], 0)
        await asyncio.sleep(FAILED_SECONDS)
        rig.flood(Asker("a"), 1)
        await asyncio.sleep(0.01)
        assert len(rig.dns.silent) == 2

    run(main())


def test_the_memory_of_failures_is_bounded() -> None:
    async def main() -> None:
        rig = Rig()
        asker = Asker("a")
        for i in range(FAILURES_KEPT + 100):
            await rig.ask(asker, f"n{i}.test")
        assert len(rig.names._failed) == FAILURES_KEPT

    run(main())


@pytest.mark.parametrize(
    ("name", "is_name"),
    [
        ("a.test", True), ("a.test.", True), ("_sip._tcp.a.test", True), ("xn--bcher-kva.test", True), ("a", True),
        ("", False), (".", False), ("a..b", False), ("a b", False), ("a%lo", False), ("::1", False), ("a\\b", False),
        ("-a.test", False), ("a" * 64 + ".test", False), (".".join(["a" * 62] * 5), False), ("ä.test", False),
    ],
)  # fmt: skip
def test_only_host_names_are_asked(name: str, is_name: bool) -> None:
    assert is_host_name(name) is is_name


# ---- the real library, against a server of the test's own ---------------------------------------------------


class Server(asyncio.DatagramProtocol):
    """Answers A, AAAA and PTR; nothing to `silent`, SERVFAIL to `broken`, NXDOMAIN to `nowhere`."""

    asked: ClassVar[list[bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, query: bytes, where: Any) -> None:
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]])
            at += 1 + query[at]
        (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
        question = query[12 : at + 5]
        self.asked.append(b".".join(labels))
        first = labels[0].lower()
        if first == b"silent":
            return
        code = {b"broken": 2, b"nowhere": 3}.get(first, 0)
        data = {
            1: socket.inet_aton("192.0.2.1"),
            28: socket.inet_pton(socket.AF_INET6, "2001:db8::1"),
            12: b"\4host\4test\0",
        }[kind]
        answer = b"" if code else b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, bool(answer), 0, 0)
        self.transport.sendto(head + question + answer, where)


@asynccontextmanager
async def cares() -> AsyncIterator[Cares]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    dns = Cares([f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"])
    try:
        yield dns
    finally:
        dns.close()
        transport.close()


async def both(dns: Cares, name: str) -> list[list[str]]:
    """IPv6, IPv4."""
    return await asyncio.gather(*dns.addresses(name))


def test_the_library_asks_the_dns_and_says_what_it_said() -> None:
    async def main() -> None:
        async with cares() as dns, asyncio.timeout(20):
            assert await both(dns, "a.test") == [["2001:db8::1"], ["192.0.2.1"]]
            assert await dns.name_of("192.0.2.1") == ["host.test"]
            assert await both(dns, "nowhere.test") == [[], []]
            assert await both(dns, "a..b") == [[], []]
            with pytest.raises(NoAnswer):
                await both(dns, "broken.test")
            names = Names(dns)
            assert await names.addresses(Asker(1), "a.test", lambda: True) == ["2001:db8::1", "192.0.2.1"]
            assert names.under_way == 0

    asyncio.run(main())


def test_no_answer_is_kept_for_whoever_asks_next() -> None:
    async def main() -> None:
        async with cares() as dns, asyncio.timeout(20):
            for _ in range(3):
                assert await both(dns, "a.test") == [["2001:db8::1"], ["192.0.2.1"]]
            assert Server.asked.count(b"a.test") == 6
            assert not dns._channels

    Server.asked.clear()
    asyncio.run(main())


@pytest.mark.slow
def test_a_hundred_silent_names_delay_no_other() -> None:
    """As the fault was: sixteen were enough to stop every name for seconds."""

    async def main() -> None:
        async with cares() as dns, asyncio.timeout(30):
            names, loop = Names(dns), asyncio.get_running_loop()
            bad = Asker("bad")
            async with asyncio.TaskGroup() as tasks:
                for i in range(100):
                    tasks.create_task(names.addresses(bad, f"silent.x{i}.test", lambda: loop.time() < begun + 3))
                begun = loop.time()
                await asyncio.sleep(0.2)
                for i in range(20):
                    assert await names.addresses(Asker("good"), f"a{i}.test", lambda: True)
                assert loop.time() - begun < 2.0

    asyncio.run(main())
