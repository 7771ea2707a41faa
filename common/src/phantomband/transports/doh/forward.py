"""Ordinary queries go on to a configured resolver: over UDP first, over TCP when the answer was cut short.

Each query has a socket of its own, so that its port is the system's random choice, and an id of its own (RFC 5452).

**Limits**: of one source `BURST` at once and `A_SECOND` after that, which a household's browsers do not meet; over it a
query is refused, and the server says 429 Too Many Requests (RFC 6585), as public resolvers do. `MAX_QUERIES` under way
in all, and no source may have more than half of the places that are free; over it SERVFAIL, as from a resolver that is
busy. `TIMEOUT` seconds for each of two tries.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from phantomband.core.errors import Malformed
from phantomband.transports.doh import message
from phantomband.transports.doh.message import Question

MAX_QUERIES = 1024
"""Under way at once: a socket and some 4 KB each."""

A_SECOND = 200.0
BURST = 1000.0
"""Queries of one source: a page of 60 names asks some 180 (A, AAAA, HTTPS) within a second."""

MAX_SOURCES = 4096
"""Sources that are remembered; the one that asked last longest ago is forgotten, and has its burst anew."""

TIMEOUT = 2.0
TRIES = 2
TCP_TIMEOUT = 4.0

Done = Callable[[bytes | None], None]


class Forwarder:
    """Args: host, port: of the resolver; random: for ids."""

    def __init__(self, host: str, port: int, random: Callable[[int], bytes]) -> None:
        self._host, self._port, self._random = host, port, random
        self._tasks: set[asyncio.Task[None]] = set()
        self._sources: OrderedDict[bytes, _Source] = OrderedDict()

    def ask(self, q: Question, asked: bytes, ip: bytes, done: Done) -> bool:
        """Calls `done` with the answer under the asker's id, or None. Args: ip: the asker's, packed.

        Returns: whether the query was taken; if not, its source asks too often, and `done` is not called.
        """
        source = self._source(ip)
        if not source.spend(asyncio.get_running_loop().time()):
            return False
        if source.under_way >= (MAX_QUERIES - len(self._tasks)) / 2:
            done(None)
            return True
        source.under_way += 1
        task = asyncio.get_running_loop().create_task(self._run(q, asked, done))
        self._tasks.add(task)

        def over(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            source.under_way -= 1

        task.add_done_callback(over)
        return True

    def _source(self, ip: bytes) -> _Source:
        """An IPv6 source is a /64: whoever has one address has them all."""
        key = ip[:8] if len(ip) == 16 else ip
        source = self._sources.pop(key, None) or _Source(asyncio.get_running_loop().time())
        self._sources[key] = source
        if len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return source

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _run(self, q: Question, asked: bytes, done: Done) -> None:
        answer = None
        for _ in range(TRIES):
            answer = await self._udp(q, asked)
            if answer is not None:
                break
        if answer is not None and answer[2] << 8 & message.TC:
            answer = await self._tcp(q, asked)
        done(answer)

    async def _udp(self, q: Question, asked: bytes) -> bytes | None:
        loop = asyncio.get_running_loop()
        ident = int.from_bytes(self._random(2), "big")
        waiter: asyncio.Future[bytes] = loop.create_future()
        try:
            socket, _ = await loop.create_datagram_endpoint(
                lambda: _Waiter(waiter, q, asked, ident), remote_addr=(self._host, self._port)
            )
        except OSError:
            return None
        try:
            socket.sendto(message.forwarded(q, asked, ident))
            async with asyncio.timeout(TIMEOUT):
                return message.with_id(await waiter, q.id)
        except (TimeoutError, OSError):
            return None
        finally:
            socket.close()

    async def _tcp(self, q: Question, asked: bytes) -> bytes | None:
        ident = int.from_bytes(self._random(2), "big")
        writer = None
        try:
            async with asyncio.timeout(TCP_TIMEOUT):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                query = message.forwarded(q, asked, ident)
                writer.write(len(query).to_bytes(2, "big") + query)
                raw = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        except (OSError, TimeoutError, EOFError):
            return None
        finally:
            if writer is not None:
                writer.close()
        return message.with_id(raw, q.id) if answers(raw, q, asked, ident) else None


class _Source:
    """One source's queries."""

    __slots__ = ("_left", "_since", "under_way")

    def __init__(self, now: float) -> None:
        self._left, self._since = BURST, now
        self.under_way = 0

    def spend(self, now: float) -> bool:
        self._left = min(BURST, self._left + (now - self._since) * A_SECOND)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def answers(raw: bytes, q: Question, asked: bytes, ident: int) -> bool:
    """Whether `raw` answers the question under this id. The case of its letters may differ."""
    end = q.end
    return (
        len(raw) >= end
        and int.from_bytes(raw[:2], "big") == ident
        and bool(raw[2] & 0x80)
        and raw[message.HEADER_BYTES : end].lower() == asked[message.HEADER_BYTES : end].lower()
    )


class _Waiter(asyncio.DatagramProtocol):
    def __init__(self, waiter: asyncio.Future[bytes], q: Question, asked: bytes, ident: int) -> None:
        self._waiter, self._q, self._asked, self._ident = waiter, q, asked, ident

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._waiter.done() and answers(data, self._q, self._asked, self._ident):
            try:
                message.read_response_untrusted(data, self._q.kind)
            except Malformed:
                return
            self._waiter.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._waiter.done():
            self._waiter.set_exception(exc)
