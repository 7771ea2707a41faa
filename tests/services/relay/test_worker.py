"""The handshake worker: fair between links, bounded in flight, and its death is noticed."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from phantomband.core.circuit.relay_types import HandshakeJob
from phantomband.core.handshake.ntor import (
    CLIENT_BYTES,
    KEY_BYTES,
    RELAY_BYTES,
    CircuitKeys,
    OnionKey,
    RelayKeys,
    Responder,
    client_start,
)
from phantomband.core.ids import CircuitId, HopNumber, LinkId, NodeId
from phantomband_relay.worker import IN_FLIGHT, Handshakes, _work
from world import NETWORK_ID, Seeded

NODE = NodeId(b"n" * 32)
ONION = OnionKey(b"o" * 32)


def job(link: int, number: int, skin: bytes = bytes(CLIENT_BYTES), hop: int = 1) -> HandshakeJob:
    return HandshakeJob(LinkId(link), CircuitId(number.to_bytes(4, "big")), HopNumber(hop), skin)


class Rig:
    """The parent's side, with the test as worker."""

    def __init__(self) -> None:
        ours, self.worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.worker.setblocking(False)
        self.done: list[tuple[HandshakeJob, bytes | None, CircuitKeys | None]] = []
        self.died = asyncio.Event()
        self.answered = asyncio.Event()
        self.handshakes = Handshakes(ours, self._done, self.died.set)

    def _done(self, job: HandshakeJob, reply: bytes | None, keys: CircuitKeys | None) -> None:
        self.done.append((job, reply, keys))
        self.answered.set()

    def jobs(self) -> list[bytes]:
        """What has been given to the worker."""
        out = []
        while True:
            try:
                out.append(self.worker.recv(4096))
            except BlockingIOError:
                return out

    async def answer(self, packet: bytes) -> None:
        self.answered.clear()
        self.worker.send(packet)
        await self.answered.wait()


def run(test: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        rig = Rig()
        try:
            async with asyncio.timeout(60):
                await test(rig)
        finally:
            rig.handshakes.close()
            rig.worker.close()

    asyncio.run(main())


def test_a_job_goes_out_as_the_layout_says() -> None:
    async def test(rig: Rig) -> None:
        rig.handshakes.submit(job(1, 1, b"s" * CLIENT_BYTES, hop=3))
        assert rig.jobs() == [b"\0\0\0\0\0\0\0\1" + b"\3" + b"s" * CLIENT_BYTES]
        assert rig.handshakes.waiting == 1

    run(test)


def test_answers_find_their_jobs_in_any_order() -> None:
    async def test(rig: Rig) -> None:
        for i in (1, 2, 3):
            rig.handshakes.submit(job(1, i))
        numbers = [packet[:8] for packet in rig.jobs()]
        keys = bytes(range(3 * KEY_BYTES))
        await rig.answer(numbers[2] + b"r" * RELAY_BYTES + keys)
        await rig.answer(numbers[0])
        third, first = rig.done
        assert third == (job(1, 3), b"r" * RELAY_BYTES, CircuitKeys.split(keys))
        assert first == (job(1, 1), None, None)
        assert rig.handshakes.waiting == 1

    run(test)


def test_only_so_many_are_in_flight_and_links_take_turns() -> None:
    async def test(rig: Rig) -> None:
        for i in range(IN_FLIGHT + 10):
            rig.handshakes.submit(job(1, i))
        rig.handshakes.submit(job(2, 0))
        rig.handshakes.submit(job(3, 0))
        numbers = [packet[:8] for packet in rig.jobs()]
        assert len(numbers) == IN_FLIGHT
        assert rig.handshakes.waiting == IN_FLIGHT + 12
        order = []
        for number in numbers[:4]:
            await rig.answer(number)
            (packet,) = rig.jobs()
            order.append(rig.handshakes._in_flight[int.from_bytes(packet[:8], "big")][1].link)
        assert sorted(order[:3]) == [1, 2, 3]
        assert order[3] == 1

    run(test)


def test_what_nobody_waits_for_any_more_costs_no_handshake() -> None:
    async def test(rig: Rig) -> None:
        for i in range(IN_FLIGHT + 20):
            rig.handshakes.submit(job(1, i))
        rig.handshakes._wanted = lambda job: job.circuit[3] == IN_FLIGHT + 19
        (first, *_) = rig.jobs()
        await rig.answer(first[:8])
        (packet,) = rig.jobs()
        assert rig.handshakes._in_flight[int.from_bytes(packet[:8], "big")][1].circuit[3] == IN_FLIGHT + 19
        assert rig.handshakes.waiting == IN_FLIGHT

    run(test)


def test_a_flood_over_many_links_of_one_source_loses_for_itself() -> None:
    async def test(rig: Rig) -> None:
        for link in range(8):
            for i in range(64):
                rig.handshakes.submit(replace(job(link, i), source="flood"))
        for i in range(20):
            rig.handshakes.submit(replace(job(9, i), source="flood"))
        honest = [replace(job(20 + i, i), source="honest") for i in range(5)]
        for one in honest:
            rig.handshakes.submit(one)
        assert rig.handshakes.waiting == 512 + IN_FLIGHT
        assert {j.source for j, _, _ in rig.done} <= {"flood"}
        for packet in rig.jobs():
            await rig.answer(packet[:8])
        taken = [j for _, j in rig.handshakes._in_flight.values()]
        assert sum(j.source == "honest" for j in taken) >= IN_FLIGHT // 2

    run(test)


def test_the_workers_death_is_noticed() -> None:
    async def test(rig: Rig) -> None:
        rig.handshakes.submit(job(1, 1))
        rig.worker.close()
        await rig.died.wait()
        rig.handshakes.submit(job(1, 2))

    run(test)


def test_the_worker_answers_good_jobs_survives_bad_ones_and_ends_with_its_parent() -> None:
    async def test(rig: Rig) -> None:
        responder = Responder(NODE, [ONION], NETWORK_ID, None)
        rig.worker.setblocking(True)
        worker = threading.Thread(target=_work, args=(rig.worker, responder))
        worker.start()
        try:
            state, skin = client_start(RelayKeys(NODE, ONION.public), NETWORK_ID, HopNumber(2), b"", Seeded(1))
            for bad in (job(1, 1), job(1, 2, skin, hop=1), job(1, 3, skin[:-1]), job(1, 4, b"")):
                rig.handshakes.submit(bad)
            rig.handshakes.submit(job(1, 5, skin, hop=2))
            while len(rig.done) < 5:
                rig.answered.clear()
                await rig.answered.wait()
            assert [(j.circuit[3], r is None, k is None) for j, r, k in rig.done] == [
                (1, True, True), (2, True, True), (3, True, True), (4, True, True), (5, False, False),
            ]  # fmt: skip
            _, reply, keys = rig.done[-1]
            assert reply is not None
            assert state.finish(reply)[0] == keys
        finally:
            rig.handshakes._sock.shutdown(socket.SHUT_RDWR)
            worker.join(5)
        assert not worker.is_alive()

    run(test)


def test_keys_are_told_and_a_turn_waits_for_the_jobs_admitted_before() -> None:
    a, b, c = (OnionKey(letter * 32) for letter in (b"a", b"b", b"c"))

    def told(*keys: OnionKey) -> bytes:
        return bytes(8) + b"".join(key.private_bytes() for key in keys)

    async def test(rig: Rig) -> None:
        rig.handshakes.accept([a])
        rig.handshakes.accept([a, b])
        assert rig.jobs() == [told(a), told(a, b)], "nothing waits: at once"
        for i in range(IN_FLIGHT + 1):
            rig.handshakes.submit(job(1, i))
        numbers = [packet[:8] for packet in rig.jobs()]
        rig.handshakes.accept([b, c])
        rig.handshakes.submit(job(2, 0))
        assert rig.jobs() == [told(b, c, a)], "the retired key is still there"
        for number in numbers:
            await rig.answer(number)
        *late, of_after = [packet for packet in rig.jobs() if packet[:8] != bytes(8)]
        assert len(late) == 1
        await rig.answer(of_after[:8])
        assert rig.jobs() == []
        await rig.answer(late[0][:8])
        assert rig.jobs() == [told(b, c)], "the last one that was admitted before is done"

    run(test)


def test_the_worker_goes_on_across_turns() -> None:
    keys = [OnionKey(letter * 32) for letter in (b"a", b"b", b"c", b"d")]

    async def test(rig: Rig) -> None:
        rig.worker.setblocking(True)
        worker = threading.Thread(target=_work, args=(rig.worker, Responder(NODE, [], NETWORK_ID, None)))
        worker.start()
        try:
            rig.handshakes.accept(keys[:3])
            for seed, key in enumerate(keys[:3]):
                _, skin = client_start(RelayKeys(NODE, key.public), NETWORK_ID, HopNumber(1), b"", Seeded(seed))
                rig.handshakes.submit(job(1, seed, skin))
            rig.handshakes.accept(keys[1:])
            while len(rig.done) < 3:
                rig.answered.clear()
                await rig.answered.wait()
            for seed, key in enumerate(keys):
                _, skin = client_start(RelayKeys(NODE, key.public), NETWORK_ID, HopNumber(1), b"", Seeded(9 + seed))
                rig.handshakes.submit(job(1, 10 + seed, skin))
            while len(rig.done) < 7:
                rig.answered.clear()
                await rig.answered.wait()
            answered = [reply is not None for _, reply, _ in rig.done]
            assert answered == [True, True, True, False, True, True, True]
        finally:
            rig.handshakes._sock.shutdown(socket.SHUT_RDWR)
            worker.join(5)
        assert not worker.is_alive()

    run(test)
