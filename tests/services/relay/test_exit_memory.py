"""What one client makes an exit hold is bounded by circuit and by process, and given back."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest
from exit_rig import Rig, rules, run
from phantomband.core.stream.messages import EndReason, target
from phantomband.core.stream.outbox_gate import CIRCUIT_HIGH, READ_BYTES
from phantomband_relay.connecting import WINDOW_BYTES, open_socket, shrink
from phantomband_relay.exit import (
    CONNECTION_BYTES,
    HELD_RECEIVE_BYTES,
    PAUSED_BYTES,
    TARGET_BYTES,
    CircuitExit,
    ExitStream,
)

MB = 1 << 20


class FakeTransport:
    """A connection whose target takes nothing."""

    def __init__(self) -> None:
        self.unsent = 0
        self.closed = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        self.unsent += len(data)

    def abort(self) -> None:
        self.closed = True
        self.unsent = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class FakeStream:
    open = True
    may_read = True

    def __init__(self) -> None:
        self.outbox_bytes = 0
        self.reason: EndReason | None = None

    full = False

    def write(self, data: bytes) -> bool:
        self.outbox_bytes += len(data)
        return not self.full

    def take(self, ready: bool) -> None: ...

    def end(self, reason: EndReason) -> None:
        self.reason, self.outbox_bytes = reason, 0


class Many:
    """Circuits with streams whose connections stand."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

        async def nothing(*_: object) -> None: ...

        rig.exit.connect = nothing  # type: ignore[method-assign]

    async def streams(self, circuit: CircuitExit, count: int) -> list[ExitStream]:
        out = []
        for _ in range(count):
            handler = circuit.begin(FakeStream(), target("192.0.2.1", 80))  # type: ignore[arg-type]
            assert isinstance(handler, ExitStream)
            handler.connection_made(FakeTransport())  # type: ignore[arg-type]
            out.append(handler)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return out


def close(streams: list[ExitStream]) -> None:
    for handler in streams:
        if not handler.gone:
            handler.ended(EndReason.DONE)
            handler.connection_lost(None)


def test_what_streams_hold_is_counted_and_released() -> None:
    async def test(rig: Rig) -> None:
        circuit = rig.exit.circuit("link")
        streams = await Many(rig).streams(circuit, 3)
        assert rig.budget.used == 3 * CONNECTION_BYTES
        streams[0].data_received(bytes(100_000))
        streams[1].data([bytes(50_000)])
        assert rig.budget.used == 3 * CONNECTION_BYTES + 150_000
        streams[1].transport.unsent = 0  # type: ignore[union-attr]
        streams[1].resume_writing()
        assert rig.budget.used == 3 * CONNECTION_BYTES + 100_000
        close(streams)
        assert (rig.budget.used, len(rig.exit.open)) == (0, 0)

    run(test)


def test_what_the_kernel_holds_for_a_connection_that_is_not_read_is_counted() -> None:
    async def test(rig: Rig) -> None:
        (stream,) = await Many(rig).streams(rig.exit.circuit("link"), 1)
        stream.hold()
        assert rig.budget.used == CONNECTION_BYTES + HELD_RECEIVE_BYTES
        stream.writable()
        assert rig.budget.used == CONNECTION_BYTES
        stream.stream.full = True  # type: ignore[union-attr]
        stream.data_received(bytes(1000))
        assert rig.budget.used == CONNECTION_BYTES + 1000 + PAUSED_BYTES
        stream.stream.outbox_bytes = 0  # type: ignore[union-attr]
        stream.writable()
        assert rig.budget.used == CONNECTION_BYTES
        stream.hold()
        close([stream])
        assert rig.budget.used == 0

    run(test)


def kernel_bytes(sock: socket.socket) -> int:
    """What the kernel has booked for bytes that were not read (SO_MEMINFO, SK_MEMINFO_RMEM_ALLOC)."""
    (booked,) = struct.unpack("I", sock.getsockopt(socket.SOL_SOCKET, 55, 4))
    return int(booked)


@pytest.mark.parametrize(("shrunk", "most"), [(False, 3 * WINDOW_BYTES), (True, 6 * HELD_RECEIVE_BYTES)])
def test_what_the_kernel_holds_for_a_connection_that_is_not_read_has_an_end(shrunk: bool, most: int) -> None:
    """Left alone it grows to the system's most, 6 MB by default and 14 MB seen."""

    async def main() -> int:
        sent, stuck = 0, asyncio.Event()

        async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.transport.set_write_buffer_limits(0)
            try:
                while sent < 16 * MB:
                    writer.write(bytes(64 * 1024))
                    sent += 64 * 1024
                    async with asyncio.timeout(0.3):
                        await writer.drain()
            except (TimeoutError, ConnectionError):
                pass
            stuck.set()
            writer.transport.abort()

        server = await asyncio.start_server(pour, "127.0.0.1", 0)
        sock = await open_socket("127.0.0.1", server.sockets[0].getsockname()[1])
        with sock:
            if shrunk:
                shrink(sock, HELD_RECEIVE_BYTES)
            held = 0
            while not stuck.is_set():
                held = max(held, kernel_bytes(sock))
                await asyncio.sleep(0.01)
        server.close()
        assert sent < 16 * MB, "the target could go on for ever"
        return held

    assert 0 < asyncio.run(main()) <= most


def test_a_circuit_whose_targets_take_nothing_loses_its_heaviest_stream_and_no_other_circuits() -> None:
    async def test(rig: Rig) -> None:
        many = Many(rig)
        bad, good = rig.exit.circuit("link"), rig.exit.circuit("link")
        streams, others = await many.streams(bad, 40), await many.streams(good, 2)
        others[0].data([bytes(1 * MB)])
        for number, handler in enumerate(streams):
            handler.data([bytes(MB + number)])
        ended = [h for h in streams if h.stream.reason is EndReason.RESOURCE]  # type: ignore[union-attr]
        assert len(ended) == 40 - TARGET_BYTES // MB + 1
        assert rig.budget.held(bad) <= TARGET_BYTES + 41 * CONNECTION_BYTES
        assert others[0].stream.reason is None  # type: ignore[union-attr]
        assert rig.exit.counters.shed == len(ended)
        close(streams + others)
        assert rig.budget.used == 0

    run(test, rules(most=4096))


def test_over_the_process_budget_the_heaviest_circuit_ends_its_streams_and_newcomers_wait() -> None:
    async def test(rig: Rig) -> None:
        many = Many(rig)
        bad, good = rig.exit.circuit("a"), rig.exit.circuit("b")
        streams, others = await many.streams(bad, 30), await many.streams(good, 4)
        for handler in others:
            handler.data_received(bytes(256 * 1024))
        for handler in streams:
            handler.data_received(bytes(MB))
        assert rig.budget.over
        refused = FakeStream()
        good.begin(refused, target("192.0.2.1", 80))  # type: ignore[arg-type]
        assert refused.reason is EndReason.RESOURCE
        await asyncio.sleep(0.01)
        assert not rig.budget.over
        assert all(h.stream.reason is EndReason.RESOURCE for h in streams)  # type: ignore[union-attr]
        assert all(h.stream.reason is None for h in others)  # type: ignore[union-attr]
        close(streams + others)
        assert rig.budget.used == 0

    run(test, rules(most=4096), budget=20 * MB)


def test_what_was_sent_meanwhile_is_no_reason_to_end_a_circuit() -> None:
    async def test(rig: Rig) -> None:
        streams = await Many(rig).streams(circuit := rig.exit.circuit("a"), 10)
        for handler in streams:
            handler.data_received(bytes(2 * MB))
            handler.stream.outbox_bytes = 0  # type: ignore[union-attr] # the client took it
        circuit.shed()
        assert all(h.stream.reason is None for h in streams)  # type: ignore[union-attr]
        assert rig.budget.used == 10 * CONNECTION_BYTES
        close(streams)

    run(test, rules(most=4096), budget=10 * MB)


def test_all_streams_of_a_circuit_whose_client_gives_no_credit_hold_no_more_than_its_bound() -> None:
    """Each may hold 1 MiB; a thousand of them held a gigabyte."""

    async def test(rig: Rig) -> None:
        sent = 0

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            piece = bytes(128 * 1024)
            try:
                for _ in range(100):
                    writer.write(piece)
                    sent += len(piece)
                    await writer.drain()
            except ConnectionError:
                pass

        server = await asyncio.start_server(pour, "127.0.0.1", 0)
        where = target("127.0.0.1", server.sockets[0].getsockname()[1])
        rig.joined.stalled = True
        handlers = [rig.open(where) for _ in range(60)]
        await rig.joined.until(lambda: rig.exit.counters.opened == 60)
        end = rig.joined.exit
        for _ in range(400):
            await asyncio.sleep(0.002)
        assert CIRCUIT_HIGH <= end.outbox_bytes <= CIRCUIT_HIGH + READ_BYTES
        rig.joined.stalled = False
        await rig.joined.until(lambda: all(h.received for h in handlers))
        for handler in handlers:
            handler.stream.end(EndReason.DONE)  # type: ignore[union-attr]
        await rig.joined.until(lambda: rig.quiet)
        server.close()

    run(test, rules(most=4096))


@pytest.mark.parametrize(("most", "first"), [(4096, 1365), (90, 30)])
def test_a_circuit_takes_half_of_the_free_connections_at_most(most: int, first: int) -> None:
    async def test(rig: Rig) -> None:
        def take(circuit: CircuitExit) -> int:
            held = 0
            while rig.exit.room(held):
                rig.exit.open.add(object())  # type: ignore[arg-type]
                held += 1
            return held

        taken = [take(rig.exit.circuit()) for _ in range(5)]
        assert abs(taken[0] - first) <= 1
        assert all(taken), "each circuit that comes later still has a place"
        assert sum(taken) <= most

    run(test, rules(most=most))
