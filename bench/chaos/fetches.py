"""Fetches that know every byte they must get.

    request   POST /OFFSET/SIZE, a body of B bytes of the block from OFFSET on
    answer    X-Body: SHA-256 of the body as the server got it; SIZE bytes of the block from OFFSET on

The block is random and each fetch has an offset of its own, so a byte of another stream, or out of its place, shows.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from places import Place

SMALLEST, LARGEST = 64 * 1024, 16 * 1024 * 1024
MOST_BODY = 128 * 1024
BLOCK_BYTES = LARGEST + 4 * 1024 * 1024
PIECE = 64 * 1024

PATIENCE_SECONDS = 60.0
"""Without any byte: then a fetch hangs."""
REPLY_PATIENCE_SECONDS = 75.0
"""The same for the proxy's answer: it has 60 s by its configuration, and may itself be stopped for 12 s."""

AT_ONCE = 3
"""Fetches of a client under way."""


def make_block(seed: int) -> bytes:
    return random.Random(f"block {seed}").randbytes(BLOCK_BYTES)


class Wrong(Exception):
    """A byte that is not what it should be."""


class Hung(Exception):
    """Nothing came for longer than the patience."""


@dataclass
class Seen:
    """What the fetches met."""

    good: int = 0
    failed: int = 0
    wrong: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    why: dict[str, int] = field(default_factory=dict)
    bytes: int = 0

    @property
    def fetches(self) -> int:
        return self.good + self.failed + len(self.wrong) + len(self.hung)

    def count(self, error: Exception | None, said: str) -> None:
        """Counts how one ended. Args: said: who and when, for those that are faults of ours."""
        if isinstance(error, Wrong):
            self.wrong.append(f"{said}: {error}")
        elif isinstance(error, Hung):
            self.hung.append(f"{said}: {error}")
        elif error is not None:
            self.failed += 1
            name = str(error) or type(error).__name__
            self.why[name] = self.why.get(name, 0) + 1
        else:
            self.good += 1


@dataclass(frozen=True)
class Way:
    """How a client's applications reach the web server."""

    client: str
    place: Place | None
    socks: int
    hosts: tuple[str, ...]
    """Of the web server: an address, and perhaps a name."""
    port: int
    block: bytes


async def _within(seconds: float, what: str, work: Callable[[], object]) -> object:
    try:
        async with asyncio.timeout(seconds):
            return await work()  # type: ignore[misc]
    except TimeoutError:
        raise Hung(f"{seconds:.0f} s without a byte, {what}") from None


async def _negotiate(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: str, host: str, port: int
) -> None:
    name = user.encode()
    writer.write(b"\x05\x01\x02" + b"\x01" + bytes((len(name),)) + name + b"\x01x")
    if (await reader.readexactly(4))[3]:
        raise OSError("SOCKS login")
    writer.write(b"\x05\x01\x00\x03" + bytes((len(host),)) + host.encode() + port.to_bytes(2, "big"))
    answer = await reader.readexactly(10)
    if answer[1]:
        raise OSError(f"SOCKS reply {answer[1]}")


async def fetch(way: Way, user: str, random: random.Random, size: int) -> None:
    """One fetch.

    Raises:
        Wrong, Hung: what must not be.
        OSError, EOFError: it failed.
    """
    offset, host = random.randrange(BLOCK_BYTES - size), random.choice(way.hosts)
    body = way.block[offset : offset + random.choice((0, 0, 1000, MOST_BODY))]
    loop = asyncio.get_running_loop()
    if way.place is not None:
        made = way.place.socket()
        try:
            await asyncio.wait_for(loop.sock_connect(made, ("127.0.0.1", way.socks)), 10)
        except BaseException:
            made.close()
            raise
        reader, writer = await asyncio.open_connection(sock=made, limit=1024 * 1024)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", way.socks, limit=1024 * 1024)
    try:
        await _within(REPLY_PATIENCE_SECONDS, "in SOCKS", lambda: _negotiate(reader, writer, user, host, way.port))
        writer.write(
            b"POST /%d/%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (offset, size, len(body)) + body
        )
        head = await _within(PATIENCE_SECONDS, "before the head", lambda: reader.readuntil(b"\r\n\r\n"))
        if hashlib.sha256(body).hexdigest().encode() not in head:  # type: ignore[operator]
            raise Wrong("the server got another body")
        await _body(reader, way.block[offset : offset + size])
    finally:
        writer.transport.abort()


async def _body(reader: asyncio.StreamReader, expected: bytes) -> None:
    got, have = hashlib.sha256(), 0
    try:
        while have < len(expected):
            piece = await _within(PATIENCE_SECONDS, f"at {have} of {len(expected)}", lambda: reader.read(PIECE))
            if not piece:
                raise EOFError("ended too early")
            got.update(piece)  # type: ignore[arg-type]
            have += len(piece)  # type: ignore[arg-type]
    finally:
        if have > len(expected) or got.digest() != hashlib.sha256(expected[:have]).digest():
            raise Wrong(f"{have} bytes have another SHA-256")  # also when it failed on the way


class Load:
    """Fetches one after the other, `AT_ONCE` at a time for each client, while `on`."""

    def __init__(self, ways: list[Way], seed: int) -> None:
        self.ways, self.seen = ways, Seen()
        self.on = asyncio.Event()
        self.under_way = 0
        self._seed = seed
        self._begun = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for way in self.ways:
                for i in range(AT_ONCE):
                    tasks.create_task(self._one_after_the_other(way, i))

    async def _one_after_the_other(self, way: Way, index: int) -> None:
        draw = random.Random(f"{self._seed} {way.client} {index}")
        count = 0
        while True:
            await self.on.wait()
            count += 1
            size = int(SMALLEST * (LARGEST / SMALLEST) ** draw.random())
            self.under_way += 1
            try:
                await self.one(way, f"load-{index}-{count // 4}", draw, size, self.seen)
            finally:
                self.under_way -= 1
            await asyncio.sleep(draw.uniform(0.1, 1.0))

    async def one(self, way: Way, user: str, draw: random.Random, size: int, seen: Seen) -> bool:
        """One fetch, counted. Returns: whether it was good."""
        error: Exception | None = None
        begun = time.monotonic() - self._begun
        try:
            await fetch(way, user, draw, size)
            seen.bytes += size
        except (OSError, EOFError, Wrong, Hung) as e:
            error = e
        seen.count(error, f"{way.client} {user}, begun at {begun:.0f} s, {size} bytes")
        return error is None

    async def rest(self) -> None:
        """No new fetches; returns when none is under way."""
        self.on.clear()
        while self.under_way:  # noqa: ASYNC110 - a tenth of a second does not matter here
            await asyncio.sleep(0.1)


def web(block: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
    """The server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(300):
                head = await reader.readuntil(b"\r\n\r\n")
                _, offset, size = head.split(b" ")[1].split(b"/")
                body = await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2]))
                said = hashlib.sha256(body).hexdigest().encode()
                writer.write(b"HTTP/1.1 200 OK\r\nX-Body: %s\r\nContent-Length: %s\r\n\r\n" % (said, size))
                view = memoryview(block)[int(offset) : int(offset) + int(size)]
                for at in range(0, len(view), PIECE):
                    writer.write(view[at : at + PIECE])
                    await writer.drain()
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # cancelled only at the very end, and Python 3.11's server would tell of each
        finally:
            writer.close()

    return serve
