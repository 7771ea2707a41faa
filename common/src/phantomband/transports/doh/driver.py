"""A client's session over one way to its server: carries packets there and back, and renews the way when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Accept
from phantomband.transports.doh import message, names
from phantomband.transports.doh.client import ClientSession
from phantomband.transports.doh.connection import DohConnection
from phantomband.transports.doh.packet import QUERY_OVERHEAD
from phantomband.transports.doh.parameters import Target

REDIALS = 4
"""Connections in a row that may fail or end without an answer, before the session is given up."""

REDIAL_SECONDS = 5.0

DIRECT_ROOM = 60_000
"""Bytes of a packet in a POST: the message stays under 65,535, its body under the usual stream window."""
GET_ROOM = 3000
"""Bytes of a packet in a GET: 4,000 characters of a path, which usual servers take."""


HTTPS_SIZE = 4096
PAD = 128
"""EDNS size and padding of Chromium's queries over HTTPS."""


class Carrier(Protocol):
    """One connection to whoever answers queries."""

    @property
    def free(self) -> int: ...

    @property
    def leaving(self) -> bool: ...

    def ask(self, number: int, message: bytes) -> None: ...

    def close(self) -> None: ...


class Codec:
    """Packets as DNS messages: in an EDNS option towards the node itself, in names through a resolver."""

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self._name = message.encode_name(message.parse_domain(name))
        if target.via:
            self.room = names.capacity(target.zone)
        else:
            self.room = GET_ROOM if target.get else DIRECT_ROOM
        self.limit = target.size if target.via else message.MAX_MESSAGE
        if self.room < QUERY_OVERHEAD + 20:
            raise Malformed("the zone's name is too long")

    def encode(self, packet: bytes) -> bytes:
        if not self._target.via:
            return message.query(0, self._name, message.A, packet, HTTPS_SIZE, PAD)
        name = names.encode(packet, self._target.zone)
        if self._target.via == "doh":
            return message.query(0, name, self._target.kind, size=HTTPS_SIZE, pad=PAD)
        return message.query(0, name, self._target.kind)

    def decode_untrusted(self, raw: bytes) -> bytes:
        """The packet of an answer. Raises: Malformed: it has none."""
        response = message.read_response_untrusted(raw, self._target.kind)
        if not self._target.via:
            return response.option
        if self._target.kind == message.TXT:
            return message.read_text_untrusted(response.data)
        return response.data


Dial = Callable[["ClientDriver", float], Awaitable[Carrier]]
"""Connects within so many seconds, and tells the driver what comes. Raises: Refused."""


class ClientDriver:
    """Args: session: new; codec, dial: of its way; accept: called once the session is open."""

    def __init__(self, session: ClientSession, codec: Codec, dial: Dial, accept: Accept) -> None:
        self._session, self._codec, self._dial, self._accept = session, codec, dial, accept
        self._loop = asyncio.get_running_loop()
        self.connection = DohConnection(session, self._flush, self._end)
        self.settled: asyncio.Future[Exception | None] = self._loop.create_future()
        self._carrier: Carrier | None = None
        self._out: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._ended = False

    async def open(self, timeout: float) -> DohConnection:
        """Raises: Refused: no session within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                self._carrier = await self._dial(self, timeout)
                self.connection.moved()
                failure = await self.settled
        except BaseException as error:
            self.connection.abort()
            self._end()
            if isinstance(error, TimeoutError):
                raise Refused(f"no doh session within {timeout} seconds") from None
            raise
        if failure is not None:
            raise Refused(f"no doh session: {failure}")
        return self.connection

    # from the carrier

    def answered(self, number: int, body: bytes) -> None:
        self._out.discard(number)
        try:
            self._session.answer_untrusted(number, self._codec.decode_untrusted(body), self._loop.time())
        except Malformed:
            self._session.refused(number)
        else:
            self._failures = 0
            if self._session.opened and not self.settled.done():
                self.connection.begin(self._accept)
                self.settled.set_result(None)
        self.connection.moved()

    def failed(self, number: int) -> None:
        self._out.discard(number)
        self._session.refused(number)
        self.connection.moved()

    def given_up(self, number: int) -> None:
        self._out.discard(number)
        self._session.failed(number)
        self.connection.moved()

    def room(self) -> None:
        self.connection.moved()

    def lost(self, error: Exception | None) -> None:
        """All that was asked has no answer; what is to be asked waits for another connection."""
        self._carrier = None
        out, self._out = self._out, set()
        for number in out:
            self._session.failed(number)
        if not self._ended:
            self.connection.moved()

    def _redial_soon(self) -> None:
        if self._task is None and not self._ended:
            if self._failures >= REDIALS:
                self._session.give_up("there is no connection to the server")
                self.connection.moved()
                return
            self._failures += 1
            self._task = self._loop.create_task(self._redial())

    async def _redial(self) -> None:
        """At once, and then after 1, 3 and 7 s."""
        try:
            await asyncio.sleep(2 ** (self._failures - 1) - 1)
            self._carrier = await self._dial(self, REDIAL_SECONDS)
        except Refused:
            if self._session.direct:
                self._session.give_up("there is no connection to the server")
        finally:
            self._task = None
        self.connection.moved()

    # from the connection

    def _flush(self) -> None:
        now = self._loop.time()
        while not self._ended:
            carrier = self._carrier
            if carrier is not None and carrier.leaving:
                carrier = None
            if carrier is None:
                if self._session.wants(now):
                    self._redial_soon()
                return
            if carrier.free <= 0:
                return
            due = self._session.query(self._codec.room, now)
            if due is None:
                return
            self._ask(carrier, *due)

    def _ask(self, carrier: Carrier, number: int, packet: bytes) -> None:
        self._out.add(number)
        carrier.ask(number, self._codec.encode(packet))

    def _end(self) -> None:
        """The session is over."""
        if self._ended:
            return
        if self._carrier is not None and not self._carrier.leaving and self._session.last_ack():
            self._ask(self._carrier, *self._session.final(self._codec.room, self._loop.time()))
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        if self._carrier is not None:
            self._carrier.close()
        if not self.settled.done():
            self.settled.set_result(self._session.error or Refused("the session ended"))
