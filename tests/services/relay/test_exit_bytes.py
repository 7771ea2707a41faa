"""Bytes, half-closes and resets through client, circuit and exit, both ways, over real local sockets."""

from __future__ import annotations

import asyncio

import pytest
from exit_rig import Rig, Serve, echo, hold, reset, run, through
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.credit import STREAM_WINDOW
from phantomband.core.stream.messages import target
from phantomband.core.stream.stream import OUTBOX_HIGH
from world import Seeded


def test_bytes_of_any_size_come_back_and_nothing_is_left() -> None:
    async def test(rig: Rig) -> None:
        payload = Seeded(1)(3_000_000)
        async with through(rig, echo) as (reader, writer):

            async def send() -> None:
                at, step = 0, 1
                while at < len(payload):
                    writer.write(payload[at : at + step])
                    at, step = at + step, step * 3 % 100_003
                    await writer.drain()
                writer.write_eof()

            sending = asyncio.ensure_future(send())
            assert await reader.read(-1) == payload
            await sending
            await rig.joined.until(lambda: rig.quiet and len(rig.gone) == 1)
        assert rig.exit.counters.bytes_in == rig.exit.counters.bytes_out == len(payload)

    run(test)


def test_a_target_that_speaks_first_is_heard() -> None:
    async def test(rig: Rig) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-hello\r\n")
            await reader.read()
            writer.close()

        async with through(rig, greet) as (reader, writer):
            assert await reader.readline() == b"SSH-2.0-hello\r\n"
            writer.write_eof()
            assert await reader.read() == b""
            await rig.joined.until(lambda: rig.quiet)

    run(test)


def test_an_application_that_half_closes_still_gets_its_answer() -> None:
    async def test(rig: Rig) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.read(-1)
            writer.write(request.upper())
            writer.close()

        async with through(rig, answer) as (reader, writer):
            writer.write(b"question")
            writer.write_eof()
            assert await reader.read(-1) == b"QUESTION"
            await rig.joined.until(lambda: rig.quiet)

    run(test)


def test_a_target_that_half_closes_still_gets_the_rest() -> None:
    async def test(rig: Rig) -> None:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def close_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"all I have to say")
            writer.write_eof()
            got.set_result(await reader.read(-1))
            writer.close()

        async with through(rig, close_first) as (reader, writer):
            assert await reader.read(-1) == b"all I have to say"
            writer.write(b"x" * 500_000)
            writer.write_eof()
            assert len(await got) == 500_000
            await rig.joined.until(lambda: rig.quiet)

    run(test)


def test_a_targets_reset_reaches_the_application() -> None:
    async def test(rig: Rig) -> None:
        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(4)
            reset(writer)

        async with through(rig, rude) as (reader, writer):
            writer.write(b"ping")
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
            await rig.joined.until(lambda: rig.quiet)

    run(test)


def until_reset() -> tuple[asyncio.Future[BaseException], Serve]:
    """A target that says that it is ready, and how its connection was reset."""
    seen: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"ready")
        try:
            await reader.read(-1)
        except ConnectionResetError as e:
            seen.set_result(e)
        else:
            seen.set_exception(AssertionError("an end, not a reset"))
        writer.transport.abort()

    return seen, serve


def test_an_applications_reset_reaches_the_target() -> None:
    async def test(rig: Rig) -> None:
        seen, serve = until_reset()
        async with through(rig, serve) as (reader, writer):
            await reader.readexactly(5)
            reset(writer)
            assert isinstance(await seen, ConnectionResetError)
            await rig.joined.until(lambda: rig.quiet)

    run(test)


def test_the_death_of_the_circuit_resets_both_connections() -> None:
    async def test(rig: Rig) -> None:
        seen, serve = until_reset()
        async with through(rig, serve) as (reader, _):
            await reader.readexactly(5)
            rig.joined.exit.gone()
            rig.joined.client.gone()
            with pytest.raises(ConnectionResetError):
                await reader.read(-1)
            assert isinstance(await seen, ConnectionResetError)

    run(test)


def test_an_application_that_does_not_read_stops_the_target_and_bounds_memory() -> None:
    async def test(rig: Rig) -> None:
        stopped = asyncio.Event()

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.set_write_buffer_limits(65536)
            try:
                while True:
                    writer.write(bytes(65536))
                    async with asyncio.timeout(0.3):
                        await writer.drain()
            except TimeoutError:
                stopped.set()
            writer.transport.abort()

        async with through(rig, pour) as (_, writer):
            writer.transport.pause_reading()
            await stopped.wait()
            (stream,) = rig.joined.exit.streams.values()
            assert stream.outbox_bytes <= OUTBOX_HIGH + 256 * 1024
            transport = rig.joined.client.streams[stream.id].handler.transport  # type: ignore[union-attr]
            assert transport.get_write_buffer_size() <= (STREAM_WINDOW + 64) * 2048 + 512 * 1024

    run(test)


def test_data_before_the_connection_stands_is_kept_bounded_and_delivered() -> None:
    """Credit for it would let a client fill the exit's memory by a target that never answers."""

    async def test(rig: Rig) -> None:
        reached, go = hold(rig)
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        handler = rig.open(target("127.0.0.1", server.sockets[0].getsockname()[1]))
        assert handler.stream is not None
        payload = Seeded(2)(6_000_000)
        handler.stream.write(payload)
        handler.stream.finish()
        await reached.wait()
        for _ in range(3000):
            await asyncio.sleep(0)
        (waiting,) = rig.exit.open
        early = sum(map(len, waiting._early))
        first_batch = CongestionParameters().initial  # credited as it arrived, before anybody was handed it
        assert 0 < early <= (STREAM_WINDOW + first_batch) * 1987
        go.set()
        await rig.joined.until(lambda: handler.fin)
        assert bytes(handler.received) == payload
        await rig.joined.until(lambda: rig.quiet)
        server.close()

    run(test)
