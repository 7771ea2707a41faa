"""QUIC against another implementation (aioquic) in both roles, and datagrams that are broken on purpose."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import socket
import ssl
from typing import Any, ClassVar

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.quic.transport import DATAGRAM_BYTES
from phantomband.transports.registry import make
from phantomband.transports.tls_layer.identity import Identity
from phantomband.transports.website.knock import KNOCK_BYTES, knock_untrusted

SIZE = 1_000_000
KNOCK = "AAECAwQFBgcICQoLDA0ODw"


class Echo:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def received(self, data: Buffer) -> None:
        self.connection.write(bytes(data))

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


class Collect(Echo):
    data = b""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self.all = asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.data += bytes(data)
        if len(self.data) >= SIZE:
            self.all.set()


class TheirEcho(QuicConnectionProtocol):
    """Of stream 0, behind the knock; what comes on HTTP/3's own streams is passed over."""

    first = b""
    streams: ClassVar[set[int]] = set()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self.streams.add(event.stream_id)
        if isinstance(event, StreamDataReceived) and event.stream_id == 0:
            data = event.data
            if len(self.first) < KNOCK_BYTES:
                taken = KNOCK_BYTES - len(self.first)
                TheirEcho.first, data = self.first + data[:taken], data[taken:]
            self._quic.send_stream_data(event.stream_id, data, event.end_stream)


def test_their_client_and_our_listener() -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            transport = make("quic")
            listener = await transport.listen("127.0.0.1", 0, Echo)
            configuration = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, max_datagram_size=1200)
            async with connect("127.0.0.1", listener.port, configuration=configuration) as client:
                reader, writer = await client.create_stream()
                sent = os.urandom(SIZE)
                writer.write(knock_untrusted(transport.parameters()) + sent)
                assert await reader.readexactly(SIZE) == sent
                writer.write_eof()
                assert await reader.read() == b""
            await listener.close()

    asyncio.run(main())


def test_our_client_and_their_server(tmp_path: Any) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    identity = Identity(os.urandom, datetime.datetime.now(datetime.UTC))
    configuration.certificate, configuration.private_key = identity.certificate, identity.key

    async def main() -> None:
        async with asyncio.timeout(60):
            server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=TheirEcho)
            port = server._transport.get_extra_info("sockname")[1]  # type: ignore[union-attr]
            ends: list[Collect] = []

            def accept(connection: Connection) -> Collect:
                ends.append(Collect(connection))
                return ends[-1]

            address = Address("quic", "127.0.0.1", port, {"knock": KNOCK})
            connection = await make("quic").dial(address, accept, 10)
            sent = os.urandom(SIZE)
            connection.write(sent)
            await ends[0].all.wait()
            assert ends[0].data == sent
            assert TheirEcho.first == knock_untrusted(address.parameters)
            assert TheirEcho.streams == {0, 2, 6, 10}, "HTTP/3's control and QPACK streams, as a browser's"
            connection.close()
            server.close()

    asyncio.run(main())


class Tap(asyncio.DatagramProtocol):
    """Between a client and a server; what the client sends is written down."""

    def __init__(self, port: int) -> None:
        self.port, self.seen = port, list[bytes]()
        self.client: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr[1] == self.port:
            self.transport.sendto(data, self.client)
        else:
            self.client = addr
            self.seen.append(data)
            self.transport.sendto(data, ("127.0.0.1", self.port))


@pytest.mark.parametrize("seed", range(4))
def test_broken_datagrams_harm_nobody_and_sizes_hold(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        async with asyncio.timeout(60):
            transport = make("quic")
            listener = await transport.listen("127.0.0.1", 0, Echo)
            endpoint, tap = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Tap(listener.port), ("127.0.0.1", 0)
            )
            port = endpoint.get_extra_info("sockname")[1]
            ends: list[Collect] = []

            def accept(connection: Connection) -> Collect:
                ends.append(Collect(connection))
                return ends[-1]

            parameters = transport.parameters()
            connection = await transport.dial(Address("quic", "127.0.0.1", port, parameters), accept, 10)
            connection.write(bytes(SIZE))
            await ends[0].all.wait()
            assert max(map(len, tap.seen)) <= DATAGRAM_BYTES
            assert max(map(len, tap.seen)) > 1200
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                attacker.connect(("127.0.0.1", listener.port))
                for _ in range(1500):
                    raw = bytearray(dice.choice(tap.seen[:6] + tap.seen[-6:]))
                    for _ in range(dice.randrange(1, 9)):
                        raw[dice.randrange(min(len(raw), 64 if dice.random() < 0.5 else len(raw)))] = dice.randrange(
                            256
                        )
                    del raw[dice.randrange(1, len(raw) + 1) :]
                    attacker.send(raw)
                    await asyncio.sleep(0)
            # The connection that was imitated, and a new one, both work.
            ends[0].data = b""
            ends[0].all.clear()
            connection.write(bytes(SIZE))
            await ends[0].all.wait()
            second = await transport.dial(Address("quic", "127.0.0.1", listener.port, parameters), accept, 10)
            second.write(bytes(SIZE))
            await ends[1].all.wait()
            connection.close()
            second.close()
            endpoint.close()
            await listener.close()

    asyncio.run(main())
