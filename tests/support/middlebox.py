"""A censor's box on the way to a TCP port: it lets everything through, slows it down, or swallows it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

READ_BYTES = 16 * 1024
LOOK_SECONDS = 0.05


@dataclass
class Middlebox:
    """Tests set `rate`; connections that are open feel it too."""

    target: int
    rate: float | None = None
    """Bytes a second of each connection and direction; None: as fast as it goes; 0: nothing passes."""
    port: int = 0
    opened: int = 0
    """Connections so far."""
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await reader.read(READ_BYTES):
                begun = loop.time()
                while self.rate is not None and (  # noqa: ASYNC110 - another thread sets the rate
                    not self.rate or loop.time() - begun < len(data) / self.rate
                ):
                    await asyncio.sleep(LOOK_SECONDS)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()


@contextmanager
def middlebox(target: int) -> Iterator[Middlebox]:
    """A box before 127.0.0.1:`target`, in a thread of its own."""
    box, ready = Middlebox(target), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def main() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(box.run(ready, stop))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
