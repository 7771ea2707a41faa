"""The receiving end of a service's lanes: `LaneServer`, added to the service's gRPC server; serves both
drivers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from phantomband.core.errors import UserError
from phantomband.proto import lane_pb2
from phantomband.runtime import unix_path
from phantomband.runtime.lane.attachments import Attachments
from phantomband.runtime.lane.base import AcceptLane, LanePeer
from phantomband.runtime.lane.grpc_driver import serve_attach
from phantomband.runtime.lane.unix_driver import TOKEN_BYTES, UnixReceiving

SERVICE_NAME: str = lane_pb2.DESCRIPTOR.services_by_name["Lane"].full_name
"""For the reflection service."""

UNIX_PATH_BYTES_MAX = 107
"""sun_path of unix(7), without its final zero."""

MEETINGS_MAX = 16
"""Tokens that may be out at once; the oldest is forgotten first. A node has four services."""

_BACKLOG = 16


class LaneServer:
    """Accepts lanes for one service, at most one live sender a service name.

    Args:
        service: our own name; the Unix socket is `unix_dir/<service>.lane`.
        incarnation: random 64 bits of this process, told to each sender.
        accept: called for each attachment; gives its receiver.
        unix_dir: an existing directory that only the node's own services can enter.
        random: source of the tokens.
    """

    def __init__(
        self,
        service: str,
        incarnation: int,
        accept: AcceptLane,
        unix_dir: Path,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._me = LanePeer(service, incarnation)
        self._attachments = Attachments(accept)
        self._path = unix_dir / f"{service}.lane"
        self._random = random
        self._meetings: dict[bytes, LanePeer] = {}
        self._meeting_lock = asyncio.Lock()
        self._listener: asyncio.Server | None = None
        self._inode = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the Lane service; make the server with `SERVER_OPTIONS`."""
        attach = grpc.stream_stream_rpc_method_handler(self._attach, None, lane_pb2.Welcome.SerializeToString)
        negotiate = grpc.unary_unary_rpc_method_handler(
            self._negotiate, lane_pb2.Hello.FromString, lane_pb2.Meeting.SerializeToString
        )
        methods = {"Attach": attach, "Negotiate": negotiate}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, methods),))

    async def _attach(self, _requests: AsyncIterator[bytes], context: Any) -> None:
        await serve_attach(context, self._me, self._attachments)

    async def _negotiate(self, hello: Any, _context: Any) -> Any:
        async with self._meeting_lock:
            if self._listener is None:
                self._listener = await self._listen()
        token = self._random(TOKEN_BYTES)
        while len(self._meetings) >= MEETINGS_MAX:
            del self._meetings[next(iter(self._meetings))]
        self._meetings[token] = LanePeer(hello.service, hello.incarnation)
        me = self._me
        return lane_pb2.Meeting(
            service=me.service, incarnation=me.incarnation, path=unix_path.quoted(self._path), token=token
        )

    async def _listen(self) -> asyncio.Server:
        path = str(self._path)
        if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
            raise UserError(f"the path of the Unix socket {path} is too long; use a shorter run directory")
        self._path.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
        self._path.chmod(0o600)
        self._inode = self._path.stat().st_ino
        return await asyncio.get_running_loop().create_unix_server(self._receiving, sock=sock, backlog=_BACKLOG)

    def _receiving(self) -> UnixReceiving:
        return UnixReceiving(lambda token: self._meetings.pop(token, None), self._attachments, self._me.incarnation)

    async def close(self) -> None:
        """Ends all attachments (their receivers are told) and takes no more over Unix sockets."""
        self._attachments.close()
        if self._listener is None:
            return
        self._listener.close()
        # A successor may already listen on the same path: leave its socket alone.
        if self._path.exists() and self._path.stat().st_ino == self._inode:
            self._path.unlink()
