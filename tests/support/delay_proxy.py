"""A way with a delay and losses in front of a local port, in user space, for TCP and UDP.

    async with DelayProxy(("127.0.0.1", 443), 0.05, loss=0.05, seed=1) as proxy:
        ...  # dial 127.0.0.1 at proxy.port: 100 ms there and back

UDP: each datagram is dropped with probability `loss`, or comes `delay_seconds` later.

TCP: bytes come `delay_seconds` later, in order. A lost segment of 1,460 bytes makes it and all behind it one round trip
later, and no more is on the way than a TCP sender's window under such loss: 1.22 / sqrt(loss) segments, 10 at least
(Mathis, Semke, Mahdavi and Ott, 1997). So speed under loss is about a real
one's; TCP's slow start is not there.

Run: python delay_proxy.py HOST PORT DELAY_SECONDS [LOSS] [SEED] [LISTEN_PORT]; prints its port.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
from collections import deque
from types import TracebackType
from typing import Any

SEGMENT = 1460
WINDOW = 8 * 1024 * 1024
"""Bytes on the way of one TCP direction without loss."""


class DelayProxy:
    """Args: target: host and port; delay_seconds: one way; loss: 0 to 1; seed: of the losses; port: 0: any."""

    def __init__(
        self, target: tuple[str, int], delay_seconds: float, loss: float = 0.0, seed: int = 1, port: int = 0
    ) -> None:
        self.target, self.delay, self.loss, self.port = target, delay_seconds, loss, port
        self.window = WINDOW if not loss else max(10, int(1.22 / math.sqrt(loss))) * SEGMENT
        self.dice = random.Random(seed)
        self.lost = self.passed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._udp_sides: dict[Any, asyncio.DatagramTransport] = {}

    async def __aenter__(self) -> DelayProxy:
        self.loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._udp, _ = await self.loop.create_datagram_endpoint(
            lambda: _Datagrams(self._from_client), local_addr=("127.0.0.1", self.port)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._udp.close()
        for side in self._udp_sides.values():
            side.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drops(self) -> bool:
        dropped = self.dice.random() < self.loss
        self.lost += dropped
        self.passed += not dropped
        return dropped

    # UDP

    def _from_client(self, data: bytes, addr: Any) -> None:
        if not self.drops():
            self.loop.call_later(self.delay, self._to_target, data, addr)

    def _to_target(self, data: bytes, addr: Any) -> None:
        side = self._udp_sides.get(addr)
        if side is not None:
            side.sendto(data)
            return
        task = self.loop.create_task(self._open(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, data: bytes, addr: Any) -> None:
        side, _ = await self.loop.create_datagram_endpoint(
            lambda: _Datagrams(lambda answer, _: self._from_target(answer, addr)), remote_addr=self.target
        )
        self._udp_sides.setdefault(addr, side)
        side.sendto(data)

    def _from_target(self, data: bytes, addr: Any) -> None:
        if not self.drops():
            self.loop.call_later(self.delay, self._back, data, addr)

    def _back(self, data: bytes, addr: Any) -> None:
        if not self._udp.is_closing():
            self._udp.sendto(data, addr)

    # TCP

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.sleep(2 * self.delay)  # the handshake
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        except OSError:
            pass
        finally:
            writer.transport.abort()
            back.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction."""
        queue: deque[tuple[float, bytes]] = deque()
        came, room = asyncio.Event(), asyncio.Event()
        on_the_way = 0
        last = 0.0

        async def deliver() -> None:
            while True:
                while not queue:
                    came.clear()
                    await came.wait()
                when, data = queue[0]
                await asyncio.sleep(max(0.0, when - self.loop.time()))
                queue.popleft()
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
                self.loop.call_later(self.delay, acknowledge, len(data))

        def acknowledge(size: int) -> None:
            nonlocal on_the_way
            on_the_way -= size
            room.set()

        task = self.loop.create_task(deliver())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                while on_the_way >= self.window:
                    room.clear()
                    await room.wait()
                data = await reader.read(min(65536, self.window - on_the_way))
                late = sum(self.drops() for _ in range(-(-len(data) // SEGMENT))) if self.loss else 0
                last = max(last, self.loop.time() + self.delay * (3 if late else 1))
                on_the_way += len(data)
                queue.append((last, data))
                came.set()
                if not data:
                    await task
                    return
        finally:
            task.cancel()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Any) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._received(data, addr)


async def main(arguments: list[str]) -> None:
    host, port, delay, *rest = arguments
    loss, seed, listen = (rest + ["0", "1", "0"][len(rest) :])[:3]
    async with DelayProxy((host, int(port)), float(delay), float(loss), int(seed), int(listen)) as proxy:
        print(proxy.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
