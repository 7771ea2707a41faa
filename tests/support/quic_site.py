"""Our listener of `quic` with a site to visit and an echo behind the knock."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import web_rig
from phantomband.transports.base import Connection, Listener
from phantomband.transports.quic.transport import QuicTransport
from phantomband.transports.website.knock import knock_untrusted

BIG = random.Random(8).randbytes(3_000_000)
SINCE = 1761955200  # 2025-11-01 00:00:00 UTC

NO_ERROR, GENERAL, INTERNAL, CREATION, CRITICAL, UNEXPECTED, FRAME, LOAD, ID, SETTING, MISSING = range(0x100, 0x10B)
"""RFC 9114, section 8.1."""


class Rig:
    """A listener with an echo behind the knock."""

    def __init__(self, tmp: Path, **options: str) -> None:
        self.transport = QuicTransport()
        self.transport.configure(tmp / "gateway", options)
        self.knock = knock_untrusted(self.transport.parameters())
        self.tunnels: list[Connection] = []
        self.listener: Listener

    @property
    def port(self) -> int:
        return self.listener.port

    def accept(self, connection: Connection) -> web_rig.Echo:
        self.tunnels.append(connection)
        return web_rig.Echo(connection)

    def run(self, main: Callable[[Rig], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(90):
                self.listener = await self.transport.listen(web_rig.LOOPBACK, 0, self.accept)
                await main(self)
                await self.listener.close()

        asyncio.run(bounded())


def folder(tmp: Path) -> Path:
    root = tmp / "site"
    for path, data in {"index.html": b"<p>hello</p>\n", "sub/index.html": b"sub\n", "big.bin": BIG}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        os.utime(root / path, (SINCE, SINCE))
    (tmp / "outside.txt").write_text("not for you")
    (root / "link.txt").symlink_to(tmp / "outside.txt")
    return root
