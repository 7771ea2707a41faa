"""A tunnel's queries to a plain resolver, over UDP or TCP.

Ids are random, and an answer is taken only with the id and question of a query that is out. A UDP answer that was cut
short (TC) is asked for again over TCP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.core.errors import Refused
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.doh import message
from phantomband.transports.doh.http2_client import Asked
from phantomband.transports.tcp.transport import TcpTransport, reason

MAX_OUT = 250
"""Queries out at once on one socket."""
MAX_KNOWN = 1024
"""Queries that are waited for, those included that the session has given up; the oldest is forgotten at the bound."""
TCP_SECONDS = 5.0
STALE_SECONDS = 10.0
"""After which a query that a resolver did not answer over TCP is forgotten: it has been asked again long since."""

RandomSource = Callable[[int], bytes]


class _Ids:
    """Queries that are out, by their id."""

    def __init__(self, random: RandomSource) -> None:
        self._random = random
        self._out: dict[int, tuple[int, bytes, float]] = {}

    def waiting(self, now: float) -> int:
        """How many are out; those that are too old are forgotten."""
        while self._out and next(iter(self._out.values()))[2] < now - STALE_SECONDS:
            del self._out[next(iter(self._out))]
        return len(self._out)

    def add(self, number: int, raw: bytes, now: float) -> bytes:
        """The message under a new id."""
        while (ident := int.from_bytes(self._random(2), "big")) in self._out:
            pass
        while len(self._out) >= MAX_KNOWN:
            del self._out[next(iter(self._out))]
        named = message.with_id(raw, ident)
        self._out[ident] = number, named, now
        return named

    def take(self, raw: bytes) -> tuple[int, bytes] | None:
        """Number and message of the query that `raw` answers."""
        found = self._out.get(int.from_bytes(raw[:2], "big")) if len(raw) >= message.HEADER_BYTES else None
        if found is None:
            return None
        asked = found[1]
        end = asked.index(b"\0", message.HEADER_BYTES) + 5
        if raw[message.HEADER_BYTES : end].lower() != asked[message.HEADER_BYTES : end].lower():
            return None
        del self._out[int.from_bytes(raw[:2], "big")]
        return found[:2]


class DnsUdpCarrier(asyncio.DatagramProtocol):
    """One connected socket; and one TCP connection once an answer was cut short."""

    leaving = False

    def __init__(self, tcp: TcpTransport, address: Address, asked: Asked, random: RandomSource) -> None:
        self._tcp, self._address, self._asked, self._random = tcp, address, asked, random
        self._ids = _Ids(random)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._long: DnsTcpCarrier | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, tcp: TcpTransport, address: Address, asked: Asked, random: RandomSource) -> DnsUdpCarrier:
        """Raises: Refused: there is no way there."""
        self = cls(tcp, address, asked, random)
        place = (address.host, address.port)
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, remote_addr=place)
        except OSError as error:
            raise Refused(f"no way to the resolver: {reason(error)}") from None
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    @property
    def free(self) -> int:
        return 0 if self._closed else MAX_OUT

    def ask(self, number: int, raw: bytes) -> None:
        if not self._closed:
            self._transport.sendto(self._ids.add(number, raw, self._loop.time()))  # type: ignore[attr-defined]

    def datagram_received(self, data: bytes, addr: object) -> None:
        found = self._ids.take(data)
        if found is None or self._closed:
            return
        if data[2] << 8 & message.TC:
            self._ask_again(*found)
        else:
            self._asked.answered(found[0], data)

    def _ask_again(self, number: int, raw: bytes) -> None:
        """Over TCP. What finds no connection is lost: the session asks once more in its time."""
        if self._long is not None and self._long.free > 0:
            self._long.ask(number, raw)
        else:
            if self._task is None and (self._long is None or self._long.leaving):
                self._task = self._loop.create_task(self._connect())
            self._asked.given_up(number)

    async def _connect(self) -> None:
        try:
            made = await DnsTcpCarrier.dial(self._tcp, self._address, _Quiet(self._asked), self._random, TCP_SECONDS)
        except Refused:
            return
        finally:
            self._task = None
        self._long = made

    def error_received(self, exc: Exception) -> None:
        """The system says that nobody listens there. Queries time out; a resolver may come back."""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.close()
            if self._task is not None:
                self._task.cancel()
            if self._long is not None:
                self._long.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._asked.lost(exc)


class DnsTcpCarrier:
    """One connection; messages behind two bytes of length, answers in any order."""

    def __init__(self, lower: Connection, asked: Asked, random: RandomSource) -> None:
        self._lower, self._asked = lower, asked
        self._ids = _Ids(random)
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._closed = False

    @classmethod
    async def dial(
        cls, tcp: TcpTransport, address: Address, asked: Asked, random: RandomSource, seconds: float
    ) -> DnsTcpCarrier:
        """Raises: Refused."""
        made: list[DnsTcpCarrier] = []

        def connected(lower: Connection) -> DnsTcpCarrier:
            made.append(cls(lower, asked, random))
            return made[0]

        await tcp.dial(Address(tcp.name, address.host, address.port), connected, seconds)
        return made[0]

    @property
    def free(self) -> int:
        return 0 if self._closed or self._lower.congested else MAX_OUT - self._ids.waiting(self._loop.time())

    @property
    def leaving(self) -> bool:
        return self._closed

    def ask(self, number: int, raw: bytes) -> None:
        named = self._ids.add(number, raw, self._loop.time())
        self._lower.write(len(named).to_bytes(2, "big") + named)

    def received(self, data: Buffer) -> None:
        self._data += data
        while len(self._data) >= 2 and len(self._data) >= 2 + (size := int.from_bytes(self._data[:2], "big")):
            raw = bytes(self._data[2 : 2 + size])
            del self._data[: 2 + size]
            found = self._ids.take(raw)
            if found is not None and not self._closed:
                self._asked.answered(found[0], raw)

    def writable(self) -> None:
        self._asked.room()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._lower.close()

    def closed(self, error: Exception | None) -> None:
        self._closed = True
        self._asked.lost(error)


class _Quiet:
    """Tells of answers only: that a second connection ends is no event of the first."""

    def __init__(self, asked: Asked) -> None:
        self.answered, self.failed, self.given_up, self.room = asked.answered, asked.failed, asked.given_up, asked.room

    def lost(self, error: Exception | None) -> None:
        """Queries time out."""
