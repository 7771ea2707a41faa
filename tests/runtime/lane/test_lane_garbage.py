"""Bytes that break a lane's protocol: they end the attachment that they came on, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from lane_rig import Run, pair, target
from phantomband.proto import lane_pb2, lane_pb2_grpc
from phantomband.runtime.lane.base import MAX_FRAME_BYTES, Driver
from phantomband.runtime.lane.framing import UNIX_HEADER
from phantomband.runtime.lane.grpc_driver import ATTACH_METHOD


@pytest.mark.parametrize("messages", [[b""], [b"\x00"], ["hello", b"\x00"], ["hello", b"\x0a\xff"]])
def test_garbage_over_grpc_ends_the_attachment_only(run: Run, folder: Path, messages: list[str | bytes]) -> None:
    hello = lane_pb2.Frames(hello=lane_pb2.Hello(service="x")).SerializeToString()

    async def main() -> None:
        async with pair(folder, Driver.GRPC) as (sender, service):
            async with grpc.aio.insecure_channel(target(folder)) as channel:
                call: Any = channel.stream_stream(ATTACH_METHOD, None, None)()
                for message in messages:
                    await call.write(hello if isinstance(message, str) else message)
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call.read()  # the Welcome, where there was a hello; a status waits behind it
                    await call.read()
                assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
            for taker in service.takers[1:]:
                assert (taker.downs, taker.frames) == (1, [])
            assert sender.told == [1]

    run(main())


@pytest.mark.parametrize("bytes_sent", [bytes(16), bytes(5), b""])
def test_a_socket_without_a_good_token_is_dropped(run: Run, folder: Path, bytes_sent: bytes) -> None:
    async def main() -> None:
        async with pair(folder, Driver.UNIX) as (sender, service):
            reader, writer = await asyncio.open_unix_connection(str(folder / "relay.lane"))
            writer.write(bytes_sent)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            assert len(service.takers) == 1
            assert sender.told == [1]

    run(main())


def test_a_frame_over_the_limit_ends_a_unix_attachment(run: Run, folder: Path) -> None:
    async def main() -> None:
        async with pair(folder, Driver.UNIX) as (_, service):
            async with grpc.aio.insecure_channel(target(folder)) as channel:
                meeting = await lane_pb2_grpc.LaneStub(channel).Negotiate(lane_pb2.Hello(service="x"))
            reader, writer = await asyncio.open_unix_connection(meeting.path)
            writer.write(meeting.token + UNIX_HEADER.pack(MAX_FRAME_BYTES + 1, 1) + b"abc")
            assert len(await reader.read()) in (0, 8)
            writer.close()
            taker = service.takers[1]
            await taker.until(lambda: bool(taker.downs))
            assert (taker.downs, taker.frames) == (1, [])

    run(main())
