"""TLS records are cut independently of what was written."""

from __future__ import annotations

import asyncio
import random

from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls.transport import TlsTransport

CELL_BYTES = 2048
APPLICATION_DATA = 23
RECORD_HEADER_BYTES = 5


class Quiet:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ended = asyncio.Event()

    def received(self, data: Buffer) -> None:
        pass

    def writable(self) -> None:
        pass

    def closed(self, error: Exception | None) -> None:
        self.ended.set()


class Tap(Quiet):
    """Between client and server: copies one way into the other, and keeps what the client sent."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.seen = bytearray()
        self.other: Tap | None = None

    def received(self, data: Buffer) -> None:
        self.seen += data
        assert self.other is not None
        self.other.connection.write(bytes(data))

    def closed(self, error: Exception | None) -> None:
        super().closed(error)
        if self.other is not None:
            self.other.connection.close()


def record_sizes(stream: bytes) -> list[int]:
    sizes, at = [], 0
    while at < len(stream):
        length = int.from_bytes(stream[at + 3 : at + 5], "big")
        if stream[at] == APPLICATION_DATA:
            sizes.append(length)
        at += RECORD_HEADER_BYTES + length
    return sizes


def test_record_sizes_do_not_show_cells() -> None:
    dice = random.Random(4)

    async def main() -> list[int]:
        tls, tcp = TlsTransport(dice.randbytes), TcpTransport()
        listener = await tls.listen("127.0.0.1", 0, Quiet)
        taps: list[Tap] = []

        def tap(connection: Connection) -> Tap:
            taps.append(Tap(connection))
            connection.pause_reading()
            arrived.set()
            return taps[-1]

        arrived = asyncio.Event()
        front = await tcp.listen("127.0.0.1", 0, tap)
        address = Address("tls", "127.0.0.1", front.port, tls.parameters())
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(tls.dial(address, Quiet, 5.0))
            await arrived.wait()
            await tcp.dial(Address("tcp", "127.0.0.1", listener.port), tap, 5.0)
            taps[0].other, taps[1].other = taps[1], taps[0]
            for each in taps:
                each.connection.resume_reading()
        connection = dialling.result()
        for _ in range(40):
            connection.write(bytes(CELL_BYTES * dice.randint(1, 12) + 40))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        connection.close()
        await taps[0].ended.wait()
        await listener.close()
        await front.close()
        return record_sizes(bytes(taps[0].seen))

    sizes = asyncio.run(main())
    overhead = 17  # content type and tag
    beyond_handshake = [size - overhead for size in sizes[1:-1]]
    assert max(beyond_handshake) == 16 * 1024
    cell_shaped = [size for size in beyond_handshake if size % CELL_BYTES == 40]
    assert len(cell_shaped) <= 2, "records have the shape of cells"
