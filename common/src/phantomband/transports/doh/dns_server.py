"""The name server of a tunnel's zone, over UDP and TCP (RFC 1035, 6891, 7766).

Below the zone every name exists and has no records, whatever it is: a resolver that asks label by label (RFC 9156) must
not be told that a name does not exist. TXT and NULL questions for names that are packets of a session get its answers.
Names outside the zone are refused: it resolves for nobody.

**Limits**: `MAX_KEPT` answers kept for resolvers that ask twice; `MAX_PENDING` names that wait; `MAX_TCP` connections.
"""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from collections.abc import Callable

from phantomband.core.errors import Malformed
from phantomband.transports.base import Buffer, Connection
from phantomband.transports.doh import message, names
from phantomband.transports.doh.message import NULL, TXT, Question
from phantomband.transports.doh.parameters import Options
from phantomband.transports.doh.tunnel import Tunnel
from phantomband.transports.tcp.transport import TcpListener, TcpTransport, cannot_listen

UDP_MOST = 4096
"""Bytes of an answer over UDP, whatever the asker takes: no amplification worth the name, no fragments in vain."""

MAX_KEPT = 4096
KEPT_BYTES = 4096
MAX_PENDING = 4096
MAX_TCP = 256
TCP_IDLE_SECONDS = 15.0
MAX_REPEATS = 4

TTL = 60
"""Seconds, of all that is not a tunnel's: short, since it costs nothing."""

Respond = Callable[[bytes], None]


class _Udp:
    congested = False


class Zone:
    """What the zone says of itself. Args: as in `Options`."""

    def __init__(self, options: Options) -> None:
        self.labels = message.parse_domain(options.zone)
        self._ns_labels = message.parse_domain(options.ns)
        ns, ns_name = message.encode_name(self._ns_labels), message.encode_name(self.labels)
        admin = message.encode_name([b"hostmaster", *self.labels][: len(self.labels) + 1])
        soa = ns + (admin if len(admin) <= message.MAX_NAME else ns) + struct.pack(">IIIII", 1, 3600, 600, 604800, TTL)
        self.soa = message.record(ns_name, message.SOA, TTL, soa)
        self.ns = message.record(ns_name, message.NS, TTL, ns)
        self.address = ipaddress.ip_address(options.dns[0]) if options.dns else None

    def answer(self, q: Question, labels: list[bytes], raw: bytes) -> bytes:
        """To a question that is no session's. Args: labels: of its name."""
        if q.opcode:
            return message.reply(q, raw, message.NOTIMP)
        if q.cls != message.IN or not names.under(labels, self.labels):
            return message.reply(q, raw, message.REFUSED)
        found = self._records(q.kind, labels)
        return message.reply(q, raw, message.NOERROR, found, [] if found else [self.soa], message.AA)

    def _records(self, asked: int, labels: list[bytes]) -> list[bytes]:
        if labels == self.labels:
            return {message.SOA: [self.soa], message.NS: [self.ns], message.ANY: [self.soa, self.ns]}.get(asked, [])
        if labels == self._ns_labels and self.address is not None and not self.address.is_unspecified:
            kind = message.A if self.address.version == 4 else message.AAAA
            if asked == kind:
                return [message.record(message.QUESTION_NAME, kind, TTL, self.address.packed)]
        return []


class NameServer:
    """One zone's, on one address. Args: options: with `zone` and `dns`; tunnel: of the listener."""

    def __init__(self, options: Options, tunnel: Tunnel) -> None:
        self.zone = Zone(options)
        self._tunnel = tunnel
        self._kept: dict[bytes, bytes] = {}
        self._pending: dict[bytes, list[Callable[[bytes], None]]] = {}
        self._way = _Udp()
        self._udp: asyncio.DatagramTransport | None = None
        self._listener: TcpListener
        self.connections: set[_TcpClient] = set()
        self.port = 0

    @classmethod
    async def listen(cls, host: str, port: int, options: Options, tunnel: Tunnel) -> NameServer:
        """Raises: UserError: the port cannot be bound."""
        self = cls(options, tunnel)
        loop = asyncio.get_running_loop()
        listener = await TcpTransport().listen(host, port, lambda c: _TcpClient(c, self))
        assert isinstance(listener, TcpListener)  # noqa: S101  (TcpTransport gives no other)
        self._listener = listener
        self.port = self._listener.port
        try:
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _UdpServer(self), local_addr=(host, self.port))
        except OSError as error:
            await self._listener.close()
            raise cannot_listen(port, error) from None
        return self

    def close_soon(self) -> None:
        if self._udp is not None:
            udp, self._udp = self._udp, None
            udp.close()
            self._listener.stop()
            for connection in list(self.connections):
                connection.close()

    # questions

    def datagram(self, raw: bytes, send: Respond) -> None:
        """One over UDP."""
        self.question(raw, None, self._way, send)

    def question(self, raw: bytes, most: int | None, way: _Udp | _TcpClient, send: Respond) -> None:
        """Args: most: bytes that the answer may have; None: what the question's EDNS says."""
        try:
            q = message.read_question_untrusted(raw)
        except Malformed:
            if len(raw) >= message.HEADER_BYTES and not raw[2] & 0x80:
                send(raw[:2] + bytes((raw[2] & 0x79 | 0x80, message.FORMERR)) + bytes(8))
            return
        most = most or min(q.udp_limit, UDP_MOST)
        labels = q.labels
        ours = q.kind in (TXT, NULL) and q.cls == message.IN and not q.opcode and len(labels) > len(self.zone.labels)
        if not (ours and names.under(labels, self.zone.labels) and self._is_ours(q, labels, raw, most, way, send)):
            answer = self.zone.answer(q, labels, raw)
            send(answer if len(answer) <= most else message.reply(q, raw, message.NOERROR, flags=message.TC))

    def _is_ours(
        self, q: Question, labels: list[bytes], raw: bytes, most: int, way: _Udp | _TcpClient, send: Respond
    ) -> bool:
        """Whether it is a packet of a session; it is then answered, or will be."""
        key = bytes((q.kind,)) + q.name.lower()
        edns = q.edns is not None

        def room(size: int) -> int:
            left = size - q.end - message.RECORD_OVERHEAD - (11 if edns else 0)
            return message.text_room(left) if q.kind == TXT else left

        def respond(packet: bytes) -> None:
            if len(packet) > room(most):
                send(message.reply(q, raw, message.NOERROR, flags=message.TC | message.AA))
                return
            data = message.text_data(packet) if q.kind == TXT else packet
            found = [message.record(message.QUESTION_NAME, q.kind, 0, data)]
            send(message.reply(q, raw, message.NOERROR, found, flags=message.AA))

        kept = self._kept.get(key)
        if kept is not None:
            respond(kept)
            return True
        waiting = self._pending.get(key)
        if waiting is not None:
            if len(waiting) < MAX_REPEATS:
                waiting.append(respond)
            return True
        try:
            packet = names.decode_untrusted(labels, self.zone.labels)
            self._pending[key] = [respond]
            self._tunnel.query_untrusted(packet, most, room, way, lambda answer: self._answered(key, answer), b"")
        except Malformed:
            self._pending.pop(key, None)
            return False
        if len(self._pending) > MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        return True

    def _answered(self, key: bytes, packet: bytes) -> None:
        if len(packet) <= KEPT_BYTES:
            self._kept[key] = packet
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
        for respond in self._pending.pop(key, ()):
            respond(packet)

    def send_udp(self, data: bytes, to: tuple[str, int]) -> None:
        if self._udp is not None:
            self._udp.sendto(data, to)

    # TCP

    def tcp_lost(self, connection: _TcpClient) -> None:
        self.connections.discard(connection)
        self._tunnel.way_lost(connection)

    def writable(self, connection: _TcpClient) -> None:
        self._tunnel.writable(connection)


class _UdpServer(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.datagram(data, lambda answer: self._server.send_udp(answer, addr))


class _TcpClient:
    """A resolver's TCP connection: messages behind two bytes of length, answered in any order (RFC 7766)."""

    def __init__(self, lower: Connection, server: NameServer) -> None:
        self._lower, self._server = lower, server
        self._data = bytearray()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TCP_IDLE_SECONDS, self._late)
        self._last = self._loop.time()
        if len(server.connections) >= MAX_TCP:
            self._loop.call_soon(lower.abort)
        server.connections.add(self)

    @property
    def congested(self) -> bool:
        return self._lower.congested

    def received(self, data: Buffer) -> None:
        self._data += data
        while len(self._data) >= 2 and len(self._data) >= 2 + (size := int.from_bytes(self._data[:2], "big")):
            raw = bytes(self._data[2 : 2 + size])
            del self._data[: 2 + size]
            self._last = self._loop.time()
            self._server.question(raw, message.MAX_MESSAGE, self, self._send)

    def _send(self, answer: bytes) -> None:
        self._lower.write(len(answer).to_bytes(2, "big") + answer)

    def _late(self) -> None:
        left = self._last + TCP_IDLE_SECONDS - self._loop.time()
        if left <= 0:
            self._lower.close()
        else:
            self._timer = self._loop.call_later(left, self._late)

    def close(self) -> None:
        self._lower.close()

    def writable(self) -> None:
        self._server.writable(self)

    def closed(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._server.tcp_lost(self)
