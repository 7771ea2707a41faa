"""The Unix driver: frames over a stream socket that Negotiate has arranged.

    sender -> receiver   token 16 | { length 4 | kind 1 | payload } ...
    receiver -> sender   incarnation 8, big-endian: the token was good, the attachment stands

Either end closing the socket ends the attachment. Frames are given to the receiver straight out of the read
buffer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import cast

import grpc.aio

from phantomband.proto import lane_pb2, lane_pb2_grpc
from phantomband.runtime import unix_path
from phantomband.runtime.lane.attachments import Attachment, Attachments
from phantomband.runtime.lane.base import MAX_FRAME_BYTES, Buffer, LanePeer
from phantomband.runtime.lane.framing import UNIX_HEADER
from phantomband.runtime.lane.grpc_driver import CHANNEL_OPTIONS
from phantomband.runtime.lane.outgoing import CALL_TIMEOUT, LOW_WATER, Attached, LaneLost, Outgoing
from phantomband.transports.pieces import write_pieces

TOKEN_BYTES = 16
INCARNATION_BYTES = 8

READ_BUFFER_BYTES = 2 * MAX_FRAME_BYTES + UNIX_HEADER.size
"""Holds any frame, and a good deal of the next: a cut frame is moved to the front only when it would not
fit."""

SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
"""The kernel's share of a lane; on Unix sockets only the sender's counts."""

SO_SNDBUFFORCE = 32
"""socket(7), Linux: like SO_SNDBUF, beyond net.core.wmem_max; needs CAP_NET_ADMIN."""

Redeem = Callable[[bytes], LanePeer | None]
"""Who a one-time token was given to, once; None if to nobody."""


class UnixReceiving(asyncio.BufferedProtocol):
    """The receiving end of one connection: token, then frames."""

    def __init__(self, redeem: Redeem, attachments: Attachments, incarnation: int) -> None:
        self._redeem = redeem
        self._attachments = attachments
        self._incarnation = incarnation
        self._attachment: Attachment | None = None
        self._view = memoryview(bytearray(READ_BUFFER_BYTES))
        self._start = 0
        self._end = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._patience = asyncio.get_running_loop().call_later(CALL_TIMEOUT, self._transport.abort)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        attachment = self._attachment or self._admit()
        if attachment is not None:
            self._deliver(attachment)
            self._make_room()

    def _admit(self) -> Attachment | None:
        if self._end < TOKEN_BYTES:
            return None
        self._patience.cancel()
        peer = self._redeem(bytes(self._view[:TOKEN_BYTES]))
        if peer is None:
            self._transport.abort()
            return None
        self._start = TOKEN_BYTES
        self._attachment = self._attachments.enter(peer, self._transport.abort)
        self._transport.write(self._incarnation.to_bytes(INCARNATION_BYTES, "big"))
        return self._attachment

    def _deliver(self, attachment: Attachment) -> None:
        """Hands on every frame that has come whole."""
        view, start, end = self._view, self._start, self._end
        while end - start >= UNIX_HEADER.size and not attachment.ended:
            length, kind = UNIX_HEADER.unpack_from(view, start)
            if length > MAX_FRAME_BYTES:
                attachment.end()
                return
            stop = start + UNIX_HEADER.size + length
            if stop > end:
                break
            attachment.frame(kind, view[start + UNIX_HEADER.size : stop])
            start = stop
        self._start = start

    def _make_room(self) -> None:
        """Moves a cut frame to the front if the buffer's end is too near for the largest frame."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start > MAX_FRAME_BYTES:
            kept = self._end - self._start
            self._view[:kept] = self._view[self._start : self._end]
            self._start, self._end = 0, kept

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        if self._attachment is not None:
            self._attachment.end()


class UnixOutgoing(asyncio.Protocol, Outgoing):
    """The sending end of one connection. Frames of one loop iteration leave in one system call."""

    def __init__(self, token: bytes, incarnation: int, on_writable: Callable[[], None]) -> None:
        super().__init__(on_writable)
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._call_soon = loop.call_soon
        self._token = token
        self._expected = incarnation.to_bytes(INCARNATION_BYTES, "big")
        self._answer = b""
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # One mark for both: then a transport that is not paused has less than LOW_WATER waiting.
        self._transport.set_write_buffer_limits(high=LOW_WATER, low=LOW_WATER)
        self._transport.write(self._token)

    def data_received(self, data: bytes) -> None:
        self._answer += data[:INCARNATION_BYTES]
        if len(self._answer) < INCARNATION_BYTES:
            return
        if self._answer != self._expected:
            self._transport.abort()
        elif not self.welcomed.done():
            self.welcomed.set_result(None)

    @property
    def buffered(self) -> int:
        return self._waiting_bytes + self._transport.get_write_buffer_size()

    def _queue(self, kind: int, parts: Sequence[Buffer], size: int) -> None:
        if not self._waiting:
            self._call_soon(self._flush)
        self._waiting.append(UNIX_HEADER.pack(size, kind))
        self._waiting.extend(parts)
        self._waiting_bytes += UNIX_HEADER.size + size

    def _flush(self) -> None:
        waiting, size = self._waiting, self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0
        if not self.alive:
            return
        write_pieces(self._transport, waiting, size)
        if not self._paused:
            self._drained()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._waiting:  # else the flush that is due will look
            self._drained()

    def abort(self) -> None:
        self._transport.abort()

    def close(self) -> None:
        """Writes what waits, then ends the attachment."""
        self._flush()
        self.alive = False
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        for future in (self.welcomed, self.lost):
            if not future.done():
                future.set_result(None)


async def attach_by_unix(target: str, me: LanePeer, attached: Attached, on_writable: Callable[[], None]) -> None:
    """Arranges a socket, attaches, and returns when the attachment has ended.

    Raises:
        grpc.RpcError, OSError, TimeoutError: the receiver is not there, or does not answer.
        LaneLost: it did not accept.
    """
    async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
        hello = lane_pb2.Hello(service=me.service, incarnation=me.incarnation)
        meeting = await lane_pb2_grpc.LaneStub(channel).Negotiate(hello, timeout=CALL_TIMEOUT)
    outgoing = await _connect(
        unix_path.unquoted(meeting.path), lambda: UnixOutgoing(meeting.token, meeting.incarnation, on_writable)
    )
    try:
        async with asyncio.timeout(CALL_TIMEOUT):
            await outgoing.welcomed
        if not outgoing.alive:
            raise LaneLost("the receiver did not take the token")
        attached(LanePeer(meeting.service, meeting.incarnation), outgoing)
        await outgoing.lost
    finally:
        outgoing.close()


async def _connect(path: str, protocol: Callable[[], UnixOutgoing]) -> UnixOutgoing:
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _enlarge(sock)
        async with asyncio.timeout(CALL_TIMEOUT):
            await loop.sock_connect(sock, path)
        _, outgoing = await loop.create_unix_connection(protocol, sock=sock)
    except BaseException:
        sock.close()
        raise
    return outgoing


def _enlarge(sock: socket.socket) -> None:
    """Asks for a large send buffer: by force if we may, else as far as the system's limit."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
