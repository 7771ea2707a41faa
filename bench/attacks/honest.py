"""Ten honest users beside an attack: small pages through the network's SOCKS port, and new links to the guard."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hostile import Attacker
from phantomband.core.errors import Refused
from phantomband.core.netdir.replies import ViewReply, decode_reply_untrusted
from phantomband.core.netdir.requests import GetView, encode_request

USERS = 10
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 20.0
"""A page that has not begun by then has failed."""

PAGES_A_CIRCUIT = 2
"""Then a user takes another name, and so another circuit."""


@dataclass
class Seen:
    """What the users met."""

    seconds: list[float] = field(default_factory=list)
    """To the first byte of each page."""
    links: int = 0
    """New links that were made."""
    failures: list[str] = field(default_factory=list)

    @property
    def p50(self) -> float:
        return statistics.median(self.seconds) if self.seconds else float("inf")


async def page(socks: int, host: str, port: int, user: str) -> float:
    """Seconds to the first byte of a page, the name's lookup at the exit included.

    Raises:
        OSError: it failed.
    """
    begun = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", socks)
    try:
        name = user.encode()
        writer.write(b"\x05\x01\x02")
        if await reader.readexactly(2) != b"\x05\x02":
            raise OSError("method")
        writer.write(b"\x01" + bytes((len(name),)) + name + b"\x01x")
        if (await reader.readexactly(2))[1]:
            raise OSError("login")
        writer.write(b"\x05\x01\x00\x03" + bytes((len(host),)) + host.encode() + port.to_bytes(2, "big"))
        answer = await reader.readexactly(10)
        if answer[1]:
            raise OSError(f"SOCKS reply {answer[1]}")
        writer.write(b"GET /1000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        if not (await reader.read(65536)).startswith(b"HTTP/1.1 200"):
            raise OSError("no page")
        return time.monotonic() - begun
    finally:
        writer.transport.abort()


async def user(socks: int, host: str, port: int, name: str, seen: Seen, over: asyncio.Event) -> None:
    """Pages one after the other until `over`."""
    count = 0
    while not over.is_set():
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                seen.seconds.append(await page(socks, host, port, f"{name}-{count // PAGES_A_CIRCUIT}"))
        except TimeoutError:
            seen.failures.append("time-out")
        except (OSError, EOFError) as e:
            seen.failures.append(str(e) or type(e).__name__)
        count += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def newcomer(attackable: Attacker, nodes: list[Any], seen: Seen, over: asyncio.Event) -> None:
    """A new link each second, to the nodes in turn, and a whole view asked for over it: as a client that starts."""
    ask = encode_request(GetView(0))
    while not over.is_set():
        node = nodes[seen.links % len(nodes)]
        link = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                link = await attackable.link(node)
                seen.links += 1
                if not isinstance(decode_reply_untrusted(await link.directory_call(ask)), ViewReply):
                    seen.failures.append("a view was refused")
        except (TimeoutError, Refused) as e:
            seen.failures.append(f"no new link: {e!r}")
        finally:
            if link is not None:
                link.close()
        await asyncio.sleep(1.0)


async def users(
    socks: int, host: str, port: int, label: str, seconds: float, newcomers: Callable[[Seen, asyncio.Event], Any] | None
) -> Seen:
    """What all users, and newcomers, meet within `seconds`."""
    seen, over = Seen(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        if newcomers is not None:
            tasks.create_task(newcomers(seen, over))
        for i in range(USERS):
            tasks.create_task(user(socks, host, port, f"{label}-{i}", seen, over))
            await asyncio.sleep(PAUSE_SECONDS / USERS)
        await asyncio.sleep(seconds)
        over.set()
    return seen


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """GET /N: N bytes. GET /endless: zeros until the other side goes."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        what = head.split(b" ")[1].strip(b"/")
        if what == b"endless":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        size = int(what)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % size + bytes(size))
        await writer.drain()
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


class Names(asyncio.DatagramProtocol):
    """A DNS server: names under fast.test are 127.0.0.1, those under silent.test never answered."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, query: bytes, where: tuple[str, int]) -> None:
        at, labels = 12, []
        while at < len(query) and query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].lower())
            at += 1 + query[at]
        if labels[-2:] == [b"silent", b"test"]:
            return
        question = query[12 : at + 5]
        is_a = question[-4:-2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("127.0.0.1") if is_a else b""
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
        self.transport.sendto(head + question + answer, where)  # type: ignore[attr-defined]
