"""Ordinary queries go on to a configured resolver: over UDP first, over TCP when the answer was cut short.

Each query has a socket of its own, so that its port is the system's random choice, and an id of its own (RFC 5452).

**Limits**: `MAX_QUERIES` at once, and `A_SECOND` of one address, are answered; those over it get SERVFAIL. `TIMEOUT`
seconds for each of two tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.core.errors import Malformed
from phantomband.transports.doh import message
from phantomband.transports.doh.message import Question

MAX_QUERIES = 256
A_SECOND = 50
MAX_SOURCES = 4096
"""Addresses that are counted in one second; when they are more, all are counted anew."""
TIMEOUT = 2.0
TRIES = 2
TCP_TIMEOUT = 4.0

Done = Callable[[bytes | None], None]


class Forwarder:
    """Args: host, port: of the resolver; random: for ids."""

    def __init__(self, host: str, port: int, random: Callable[[int], bytes]) -> None:
        self._host, self._port, self._random = host, port, random
        self._tasks: set[asyncio.Task[None]] = set()
        self._second = 0.0
        self._sources: dict[bytes, int] = {}

    def ask(self, q: Question, asked: bytes, ip: bytes, done: Done) -> None:
        """Calls `done` with the answer under the asker's id, or None. Args: ip: the asker's, packed."""
        if len(self._tasks) >= MAX_QUERIES or self._too_many(ip):
            done(None)
            return
        task = asyncio.get_running_loop().create_task(self._run(q, asked, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _too_many(self, ip: bytes) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self._second + 1 or len(self._sources) >= MAX_SOURCES:
            self._second = now
            self._sources.clear()
        count = self._sources[ip] = self._sources.get(ip, 0) + 1
        return count > A_SECOND

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
