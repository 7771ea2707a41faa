"""Directory requests over links: ours to other nodes, and others' to the directory service of this node."""

from __future__ import annotations

import asyncio
from functools import partial

import grpc
import grpc.aio
from phantomband.core.dircall import MAX_OPEN, DirectoryMessage
from phantomband.core.errors import Refused
from phantomband.proto import directory_pb2, directory_pb2_grpc
from phantomband.runtime.contained import Contained
from phantomband.runtime.link_driver import LinkDriver
from phantomband.runtime.rpc import local_channel

from phantomband_gateway.links import MAX_CALL_DIALS, Links, PeerContact

CALL_SECONDS = 15.0
"""A request that is not answered by then has failed."""

MAX_WAITING = 64
"""Requests for one link, those included that wait for their turn; one more has failed. At once on the way are no more
than the peer takes (`MAX_OPEN`)."""

Slot = tuple[LinkDriver, int]


class DirectoryCalls:
    """Both directions of directory requests."""

    def __init__(self, directory: str, links: Links, contained: Contained) -> None:
        """Args: directory: gRPC target of this node's directory service."""
        self._target = directory
        self._links = links
        self._contained = contained
        self._turns: dict[LinkDriver, _Turns] = {}
        self._waiting: dict[Slot, asyncio.Future[bytes]] = {}
        self._serving: dict[LinkDriver, int] = {}
        self._next = 0
        self._channel: grpc.aio.Channel | None = None

    def start(self) -> None:
        """From now on, requests are served."""
        self._channel = local_channel(self._target)

    async def call(self, peer: PeerContact, request: bytes) -> tuple[bytes, bytes]:
        """Returns: the answer of `peer`'s directory service, and the IP address of the link's other end.

        Raises:
            Refused: it cannot be reached, or does not answer in time.
        """
        driver = await self._links.to(peer, MAX_CALL_DIALS)
        turns = self._turns.get(driver)
        if turns is None:
            turns = self._turns[driver] = _Turns()
        if turns.asked >= MAX_WAITING:
            raise Refused("too many requests wait for the node's directory")
        turns.asked += 1
        try:
            async with asyncio.timeout(CALL_SECONDS), turns.free:
                return await self._ask(driver, request), self._links.ip_of(driver)
        except TimeoutError:
            raise Refused("the node's directory does not answer") from None
        finally:
            turns.asked -= 1
            if not turns.asked:
                self._turns.pop(driver, None)

    async def _ask(self, driver: LinkDriver, request: bytes) -> bytes:
        self._next += 1
        slot = (driver, self._next & 0xFFFFFFFF)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[slot] = future
        driver.send_directory(slot[1], request, answer=False)
        try:
            return await future
        finally:
            self._waiting.pop(slot, None)

    def message(self, driver: LinkDriver, message: DirectoryMessage) -> None:
        """A whole request or answer that came over a link."""
        if message.answer:
            future = self._waiting.get((driver, message.request))
            if future is not None and not future.done():
                future.set_result(message.data)
            return
        if self._channel is None or self._serving.get(driver, 0) >= MAX_OPEN:
            # The peer's directory asks for others too, who have circuits on this link: it is told no, and goes on.
            driver.send_directory(message.request, b"", answer=True)
            return
        self._serving[driver] = self._serving.get(driver, 0) + 1
        failed = partial(driver.send_directory, message.request, b"", answer=True)
        self._contained.spawn(self._serve(driver, message), failed)

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


class _Turns:
    """The requests for one link."""

    def __init__(self) -> None:
        self.asked = 0
        self.free = asyncio.Semaphore(MAX_OPEN)
