"""The gRPC driver: frames as a stream of `Frames` messages (lane.proto), written and read without protobuf
objects.

A message costs gRPC 140-360 us whatever its size up to 256 KiB (DESIGN.md section 8), so whatever waits
while one message is written leaves in the next; when nothing waits a frame leaves at once, alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from phantomband.core.errors import Malformed
from phantomband.proto import lane_pb2
from phantomband.runtime.lane.attachments import Attachment, Attachments
from phantomband.runtime.lane.base import Buffer, LanePeer
from phantomband.runtime.lane.framing import MAX_MESSAGE_BYTES, decode_frames_untrusted, frames_header
from phantomband.runtime.lane.outgoing import CALL_TIMEOUT, LOW_WATER, Attached, LaneLost, Outgoing

ATTACH_METHOD = "/phantomband.Lane/Attach"

MERGE_BYTES = 256 * 1024
"""Waiting frames are merged into one message up to this size; beyond it a message's cost grows with its
size."""

SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
]
"""For the gRPC server that a `LaneServer` is added to."""

CHANNEL_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # else a new channel inherits the old one's reconnect backoff
    ("grpc.enable_retries", 0),
]

EOF: object = vars(grpc.aio)["EOF"]
"""What `read` gives at the end of a stream; the stubs of some versions do not know it."""

Context = Any
"""grpc.aio.ServicerContext; the package has no types."""


async def serve_attach(context: Context, me: LanePeer, attachments: Attachments) -> None:
    """The receiving end of one stream: hello, then frames until either end ends it."""
    over = asyncio.Event()
    attachment: Attachment | None = None
    try:
        peer = decode_hello_untrusted(await context.read())
        attachment = attachments.enter(peer, over.set)
        await context.write(lane_pb2.Welcome(service=me.service, incarnation=me.incarnation))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(_receive(context, attachment))
            await over.wait()
            reading.cancel()
    except* Malformed:
        context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    finally:
        if attachment is not None:
            attachment.end()


def decode_hello_untrusted(message: object) -> LanePeer:
    """The sender's first message: a `Frames` with nothing but `hello`.

    Raises:
        Malformed: anything else, or no message at all.
    """
    if not isinstance(message, bytes):
        raise Malformed("a lane was attached without a hello")
    try:
        frames = lane_pb2.Frames.FromString(message)
    except DecodeError as error:
        raise Malformed("a lane's hello cannot be read") from error
    if frames.frames or not frames.hello.service:
        raise Malformed("a lane's first message is not a hello")
    return LanePeer(frames.hello.service, frames.hello.incarnation)


async def _receive(context: Context, attachment: Attachment) -> None:
    try:
        while (message := await context.read()) is not EOF:
            for kind, payload in decode_frames_untrusted(message):
                if attachment.ended:
                    return
                attachment.frame(kind, payload)
    finally:
        attachment.end()


class GrpcOutgoing(Outgoing):
    """The sending end of one stream: a queue, drained by one task."""

    def __init__(self, abort: Callable[[], bool], on_writable: Callable[[], None]) -> None:
        super().__init__(on_writable)
        self._hang_up = abort
        self._waiting: deque[tuple[int, list[Buffer]]] = deque()
        self._buffered = 0
        self._wake = asyncio.Event()

    @property
    def buffered(self) -> int:
        return self._buffered

    def _queue(self, kind: int, parts: Sequence[Buffer], size: int) -> None:
        header = frames_header(kind, size)
        self._waiting.append((size + len(header), [header, *parts]))
        self._buffered += size + len(header)
        self._wake.set()

    async def drain(self, call: Any) -> None:
        """Writes what waits, for ever."""
        while await self._wake.wait():
            self._wake.clear()
            while self._waiting:
                size, parts = self._take()
                await call.write(b"".join(parts))
                self._buffered -= size
                if self._buffered < LOW_WATER:
                    self._drained()

    def _take(self) -> tuple[int, list[Buffer]]:
        """The next message: one frame, and those behind it as far as they fit."""
        total, message = self._waiting.popleft()
        while self._waiting and total + self._waiting[0][0] <= MERGE_BYTES:
            size, parts = self._waiting.popleft()
            total += size
            message += parts
        return total, message

    def abort(self) -> None:
        self._hang_up()


async def attach_by_grpc(target: str, me: LanePeer, attached: Attached, on_writable: Callable[[], None]) -> None:
    """Attaches, and returns when the attachment has ended.

    Raises:
        grpc.RpcError, TimeoutError: the receiver is not there, does not answer, or is gone.
        LaneLost: it ended the stream.
    """
    async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        attach: Any = channel.stream_stream(ATTACH_METHOD, None, lane_pb2.Welcome.FromString)
        call = attach()
        outgoing = GrpcOutgoing(call.cancel, on_writable)
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                welcome = await _greet(call, me)
            attached(LanePeer(welcome.service, welcome.incarnation), outgoing)
            async with asyncio.TaskGroup() as group:
                group.create_task(outgoing.drain(call))
                await _watch(call)
        finally:
            outgoing.alive = False
            call.cancel()


async def _greet(call: Any, me: LanePeer) -> Any:
    hello = lane_pb2.Hello(service=me.service, incarnation=me.incarnation)
    await call.write(lane_pb2.Frames(hello=hello).SerializeToString())
    welcome = await call.read()
    if welcome is EOF:
        raise LaneLost("the receiver did not accept")
    return welcome


async def _watch(call: Any) -> None:
    """Waits for the receiver to end the stream; it sends nothing after its Welcome."""
    await call.read()
    raise LaneLost("the receiver ended the stream")
