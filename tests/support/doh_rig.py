"""A doh listener with a made-up resolver behind it, ends of connections, and raw HTTPS to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from phantomband.transports.base import Address, Buffer, Connection, Listener
from phantomband.transports.doh.transport import DohTransport
from unbound_rig import free_port

ZONE = "t.example.test"


class End:
    """A receiver that keeps what it was told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.data = bytearray()
        self.ends: list[Exception | None] = []
        self.changed = asyncio.Event()

    def received(self, data: Buffer) -> None:
        self.data += data
        self.changed.set()

    def writable(self) -> None:
        self.changed.set()

    def closed(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.changed.set()

    async def until(self, size: int) -> None:
        while len(self.data) < size and not self.ends:
            self.changed.clear()
            await self.changed.wait()
        assert len(self.data) == size, f"{len(self.data)} of {size} bytes, then {self.ends}"

    async def until_closed(self) -> None:
        while not self.ends:
            self.changed.clear()
            await self.changed.wait()


class Upstream(asyncio.DatagramProtocol):
    """A resolver that knows *.known.test (127.0.0.1, TTL 77), cuts big.known.test short over UDP, and never answers
    slow.test."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def start(self) -> None:
        self.port = free_port()
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", self.port))
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def stop(self) -> None:
        self._udp.close()
        self._tcp.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self.answer(data, udp=True)
        if answer:
            self._udp.sendto(answer, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self.answer(raw, udp=False) or b""
        writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    def answer(self, raw: bytes, udp: bool) -> bytes | None:
        query = dns.message.from_wire(raw)
        name = query.question[0].name.to_text().lower()
        self.asked.append(name)
        if name.endswith("slow.test."):
            return None
        reply = dns.message.make_response(query, recursion_available=True)
        if not name.endswith("known.test."):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif name.startswith("big.") and udp:
            reply.flags |= dns.flags.TC
        elif name.startswith("big."):
            for i in range(200):
                reply.answer.append(dns.rrset.from_text(name, 50 + i, "IN", "TXT", f'"{i:0>200}"'))
        elif query.question[0].rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text(name, 77, "IN", "A", "127.0.0.1"))
        return reply.to_wire(max_size=65535)


class Rig:
    """One listener."""

    def __init__(self, transport: DohTransport, upstream: Upstream, dns_port: int) -> None:
        self.transport, self.upstream, self.dns_port = transport, upstream, dns_port
        self.accepted: list[End] = []
        self.listener: Listener

    def accept(self, connection: Connection) -> End:
        self.accepted.append(End(connection))
        return self.accepted[-1]

    @property
    def port(self) -> int:
        return self.listener.port

    async def dial(self, port: int | None = None, timeout: float = 10.0, **parameters: str) -> End:
        ends: list[End] = []

        def accept(connection: Connection) -> End:
            ends.append(End(connection))
            return ends[0]

        values = {**self.transport.parameters(), **parameters}
        await DohTransport().dial(Address("doh", "127.0.0.1", port or self.port, values), accept, timeout)
        return ends[0]


@asynccontextmanager
async def rig(folder: Path, upstream: bool = True, **options: str) -> AsyncIterator[Rig]:
    """Args: folder: for the key; options: more of the address's."""
    resolver, transport, dns_port = Upstream(), DohTransport(), free_port()
    await resolver.start()
    values = {"zone": ZONE, "dns": f"127.0.0.1:{dns_port}", **options}
    if upstream:
        values["upstream"] = f"127.0.0.1:{resolver.port}"
    transport.configure(folder / "gateway", values)
    it = Rig(transport, resolver, dns_port)
    it.listener = await transport.listen("127.0.0.1", 0, it.accept)
    try:
        yield it
    finally:
        for end in it.accepted:
            end.connection.abort()
        await it.listener.close()
        resolver.stop()
        await asyncio.sleep(0)


def client_tls(*alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def http1(port: int, request: bytes, patience: float = 10.0) -> bytes:
    """What comes back until the server closes, or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls("http/1.1"))
    writer.write(request)
    try:
        async with asyncio.timeout(patience):
            return await reader.read()
    finally:
        writer.transport.abort()
