"""Directory requests over links: ours to other nodes, and others' to the directory service of this node."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio
from phantomband.core.dircall import MAX_OPEN, DirectoryMessage
from phantomband.core.errors import Refused
from phantomband.proto import directory_pb2, directory_pb2_grpc
from phantomband.runtime.link_driver import LinkDriver
from phantomband.runtime.rpc import local_channel

from phantomband_gateway.links import Links, PeerContact

CALL_SECONDS = 15.0
"""A request that is not answered by then has failed."""

Slot = tuple[LinkDriver, int]


class DirectoryCalls:
    """Both directions of directory requests."""

    def __init__(self, directory: str, links: Links) -> None:
        """Args: directory: gRPC target of this node's directory service."""
        self._target = directory
        self._links = links
        self._waiting: dict[Slot, asyncio.Future[bytes]] = {}
        self._serving: dict[LinkDriver, int] = {}
        self._next = 0
        self._tasks: asyncio.TaskGroup | None = None
        self._channel: grpc.aio.Channel | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """From now on, requests are served in `tasks`."""
        self._tasks = tasks
        self._channel = local_channel(self._target)

    async def call(self, peer: PeerContact, request: bytes) -> tuple[bytes, bytes]:
        """Returns: the answer of `peer`'s directory service, and the IP address of the link's other end.

        Raises:
            Refused: it cannot be reached, or does not answer in time.
        """
        driver = await self._links.to(peer)
        self._next += 1
        slot = (driver, self._next & 0xFFFFFFFF)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[slot] = future
        driver.send_directory(slot[1], request, answer=False)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await future, self._links.ip_of(driver)
        except TimeoutError:
            raise Refused("the node's directory does not answer") from None
        finally:
            self._waiting.pop(slot, None)

    def message(self, driver: LinkDriver, message: DirectoryMessage) -> None:
        """A whole request or answer that came over a link."""
        if message.answer:
            future = self._waiting.get((driver, message.request))
            if future is not None and not future.done():
                future.set_result(message.data)
            return
        if self._tasks is None or self._serving.get(driver, 0) >= MAX_OPEN:
            driver.fail()
            return
        self._serving[driver] = self._serving.get(driver, 0) + 1
        self._spawn(self._serve(driver, message))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None  # noqa: S101 - checked by the caller
        self._tasks.create_task(work)

    async def _serve(self, driver: LinkDriver, message: DirectoryMessage) -> None:
        try:
            stub = directory_pb2_grpc.DirectoryStub(self._channel)
            request = directory_pb2.PeerRequestMessage(
                request=message.data,
                peer_link_key=self._links.peer_of(driver) or b"",
                peer_ip=self._links.ip_of(driver),
            )
            reply = await stub.PeerRequest(request, timeout=CALL_SECONDS)
            driver.send_directory(message.request, reply.response, answer=True)
        except grpc.RpcError:
            driver.send_directory(message.request, b"", answer=True)
        finally:
            left = self._serving.get(driver, 1) - 1
            if left:
                self._serving[driver] = left
            else:
                self._serving.pop(driver, None)

    def closed(self, driver: LinkDriver) -> None:
        """The link is gone: what waits for it has failed."""
        for slot, future in list(self._waiting.items()):
            if slot[0] is driver and not future.done():
                future.set_exception(Refused("the link went down"))
