"""Whoever has no token finds an ordinary DNS-over-HTTPS server and name server: probes, replays, slow and half-open
connections; and a real unbound beside ours where both are asked the same."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import socket
import struct
import time
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from doh_rig import ZONE, Rig, client_tls, http1, rig
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from phantomband.core.errors import Refused
from phantomband.transports.doh import http1_server, http2_server, message, names
from phantomband.transports.doh.driver import ClientDriver
from unbound_rig import UNBOUND, unbound

pytestmark = pytest.mark.slow


class H2:
    """One HTTP/2 client connection, by hand."""

    @classmethod
    async def open(cls, port: int) -> H2:
        self = cls()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls("h2"))
        self.http = H2Connection(H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self.writer.write(self.http.data_to_send())
        return self

    async def ask(
        self, body: bytes, method: str = "POST", path: str = "/dns-query", media: str = "application/dns-message"
    ) -> tuple[str, dict[str, str], bytes]:
        stream = self.http.get_next_available_stream_id()
        headers = [(":method", method), (":authority", "x"), (":scheme", "https"), (":path", path)]
        headers += [("content-type", media), ("content-length", str(len(body)))] if body else []
        self.http.send_headers(stream, headers, end_stream=not body)
        for at in range(0, len(body), 16384):
            self.http.send_data(stream, body[at : at + 16384], end_stream=at + 16384 >= len(body))
        self.writer.write(self.http.data_to_send())
        fields: dict[str, str] = {}
        out = b""
        while True:
            data = await self.reader.read(65536)
            assert data, "the connection ended"
            for event in self.http.receive_data(data):
                match event:
                    case ResponseReceived():
                        fields = dict(event.headers or [])  # type: ignore[arg-type]
                    case DataReceived():
                        out += event.data or b""
                    case StreamEnded():
                        self.writer.write(self.http.data_to_send())
                        return fields[":status"], fields, out
                    case StreamReset() | ConnectionTerminated():
                        return "reset", {}, b""

    def close(self) -> None:
        self.writer.transport.abort()


def queries() -> dict[str, bytes]:
    """Bodies that a prober might send."""
    dice = random.Random(9)
    plain = dns.message.make_query("a.known.test", "A").to_wire()
    return {
        "random": dice.randbytes(200),
        "random with a good header": struct.pack(">HHHHHH", 7, 256, 1, 0, 0, 0) + dice.randbytes(60),
        "tunnel's option, random": message.query(0, message.encode_name([b"www", b"x"]), 1, dice.randbytes(120), 4096),
        "tunnel's option, short": message.query(0, message.encode_name([b"www", b"x"]), 1, b"abc", 4096),
        "tunnel's name, random": message.query(
            0, names.encode(dice.randbytes(60), message.parse_domain(ZONE)), message.TXT, size=4096
        ),
        "plain": plain,
        "two questions": plain[:4] + b"\0\2" + plain[6:] + plain[12:],
        "an answer": plain[:2] + b"\x81\x80" + plain[4:],
        "status": plain[:2] + b"\x10\0" + plain[4:],
    }


def test_probes_get_what_a_resolver_gives(tmp_path: Path) -> None:
    """The option makes no difference to an ordinary query."""

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            connection = await H2.open(it.port)
            for name, body in queries().items():
                status, fields, answer = await connection.ask(body)
                if message.QR & int.from_bytes(body[2:4], "big"):
                    assert status == "400", name
                    continue
                assert status == "200", name
                assert fields["content-type"] == "application/dns-message"
                expected = dns.rcode.NOERROR if name == "plain" else None
                got = dns.message.from_wire(answer, ignore_trailing=True).rcode()
                assert expected in (None, got), name
            with_option = message.query(0, message.encode_name([b"a", b"known", b"test"]), 1, os.urandom(100), 4096)
            _, _, answer = await connection.ask(with_option)
            assert dns.message.from_wire(answer).answer[0][0].to_text() == "127.0.0.1"
            assert not it.accepted
            connection.close()

    asyncio.run(main())


def test_a_replayed_opening_is_an_ordinary_query(tmp_path: Path) -> None:
    """While its session lives, after it, and from another connection, over HTTPS and to the name server."""
    recorded: list[bytes] = []
    original = ClientDriver._ask

    def record(self: ClientDriver, carrier: object, number: int, packet: bytes) -> None:
        recorded.append(self._codec.encode(packet))
        original(self, carrier, number, packet)  # type: ignore[arg-type]

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            ClientDriver._ask = record  # type: ignore[method-assign]
            end = await it.dial()
            end.connection.write(b"hello")
            await it.accepted[0].until(5)
            for again in range(2):
                connection = await H2.open(it.port)
                for body in recorded[:8]:
                    status, _, answer = await connection.ask(body)
                    assert status == "200"
                    parsed = dns.message.from_wire(answer)
                    assert parsed.rcode() == dns.rcode.NXDOMAIN
                    assert message.TUNNEL_OPTION not in {int(o.otype) for o in parsed.options}
                connection.close()
                if not again:
                    end.connection.close()
                    await it.accepted[0].until_closed()
            assert len(it.accepted) == 1
            recorded.clear()
            end = await it.dial(it.dns_port, via="udp")
            first = recorded[0]
            end.connection.abort()
            await it.accepted[1].until_closed()
            it.listener._tunnel._sessions.clear()  # type: ignore[attr-defined]
            it.listener.name_server._kept.clear()  # type: ignore[attr-defined]
            answer = await asyncio.to_thread(udp, it.dns_port, first)
            parsed = dns.message.from_wire(answer)
            assert (parsed.rcode(), len(parsed.answer), len(parsed.authority)) == (dns.rcode.NOERROR, 0, 1)

    try:
        asyncio.run(main())
    finally:
        ClientDriver._ask = original  # type: ignore[method-assign]


def udp(port: int, raw: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        s.sendto(raw, ("127.0.0.1", port))
        return s.recv(65535)


@pytest.mark.skipif(UNBOUND is None, reason="unbound IS NOT INSTALLED: nothing to compare with")
def test_statuses_beside_unbound(tmp_path: Path) -> None:
    """What both are asked over HTTP/2. unbound is strict about paths, methods and types in the same way."""
    good = dns.message.make_query("localhost", "A").to_wire()
    text = base64.urlsafe_b64encode(good).rstrip(b"=").decode()
    asked = [
        (b"", "GET", f"/dns-query?dns={text}", ""),
        (good, "POST", "/dns-query", "application/dns-message"),
        (b"", "GET", "/", ""),
        (good, "POST", "/other", "application/dns-message"),
        (b"", "GET", "/dns-query", ""),
        (good, "POST", "/dns-query", "text/plain"),
    ]

    async def statuses(port: int) -> list[str]:
        out = []
        for body, method, path, media in asked:
            connection = await H2.open(port)
            out.append((await connection.ask(body, method, path, media))[0])
            connection.close()
        return out

    async def main() -> None:
        tmp_path.chmod(0o755)
        async with asyncio.timeout(60), rig(tmp_path) as it:
            with unbound(tmp_path, ZONE, it.dns_port) as resolver:
                theirs, ours = await statuses(resolver.https), await statuses(it.port)
        print("unbound", theirs, "ours", ours)
        assert ours == theirs

    asyncio.run(main())


def test_bytes_that_are_not_tls(tmp_path: Path) -> None:
    """An alert at most, as any TLS server's, and no connection of ours."""
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(20)

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            for probe in (random.Random(1).randbytes(1000), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", hello, b""):
                reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
                writer.write(probe)
                try:
                    async with asyncio.timeout(0.2):
                        answer = await reader.read()
                except (TimeoutError, ConnectionResetError):
                    answer = b""
                assert answer == b"" or (answer[0] == 21 and len(answer) == 7)
                writer.transport.abort()
            assert not it.accepted

    asyncio.run(main())


def test_broken_http_2_ends_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            for junk in (
                os.urandom(500),
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", it.port, ssl=client_tls("h2"))
                writer.write(junk)
                await reader.read()  # it ends
                writer.transport.abort()

    asyncio.run(main())


def test_slow_requests_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_server, "REQUEST_SECONDS", 0.3)

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            start = time.monotonic()
            assert b" 408 " in await http1(it.port, b"GET /dns-query?dns=AA")
            assert await http1(it.port, b"") == b""
            assert time.monotonic() - start < 5
            big = b"GET /dns-query HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (97 * 1024)
            assert b" 431 " in await http1(it.port, big)

    asyncio.run(main())


def test_a_thousand_half_open_connections(tmp_path: Path) -> None:
    """They are bounded, and a client is served once those over the bound are gone."""

    async def main() -> None:
        async with asyncio.timeout(120), rig(tmp_path) as it:
            held = [await asyncio.open_connection("127.0.0.1", it.port) for _ in range(1000)]
            ended = 0
            for reader, _ in held[512:]:
                try:
                    async with asyncio.timeout(5):
                        ended += await reader.read(1) == b""
                except (ConnectionResetError, TimeoutError):
                    ended += 1
            assert ended == 488
            for _, writer in held:
                writer.transport.abort()
            await patiently(it)

    asyncio.run(main())


async def patiently(it: Rig) -> None:
    while True:
        try:
            end = await it.dial(timeout=2.0)
        except Refused:
            continue
        end.connection.abort()
        await end.until_closed()
        return


def test_sessions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phantomband.transports.doh.tunnel.MAX_SESSIONS", 2)

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            ends = [await it.dial(), await it.dial()]
            with pytest.raises(Refused):
                await it.dial(timeout=1.0)
            for end in ends:
                end.connection.abort()
                await end.until_closed()

    asyncio.run(main())


def test_junk_to_the_name_server(tmp_path: Path) -> None:
    """Answered with errors or not at all; it goes on serving, over UDP and TCP."""

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            dice = random.Random(11)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                for _ in range(2000):
                    s.sendto(dice.randbytes(dice.randrange(80)), ("127.0.0.1", it.dns_port))
            _, writer = await asyncio.open_connection("127.0.0.1", it.dns_port)
            writer.write(dice.randbytes(5000))
            ask = dns.message.make_query(ZONE, "SOA").to_wire()
            await asyncio.sleep(0)  # what came before, as far as the socket held it
            answer = await again(it.dns_port, ask)
            assert dns.message.from_wire(answer).answer
            writer.transport.abort()
            assert not it.accepted

    asyncio.run(main())


async def again(port: int, raw: bytes) -> bytes:
    """Over UDP, until there is an answer."""
    while True:
        try:
            return await asyncio.to_thread(udp, port, raw)
        except TimeoutError:
            continue


def test_connections_without_requests_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phantomband.transports.doh.service.MAX_CONNECTIONS", 3)

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            held = [await H2.open(it.port) for _ in range(4)]
            for connection in held[:3]:
                assert (await connection.ask(b"", "GET", "/"))[0] == "404"
            with pytest.raises((AssertionError, OSError)):
                await held[3].ask(b"", "GET", "/")
            for connection in held:
                connection.close()
            await patiently(it)

    asyncio.run(main())


def test_an_http_2_request_that_never_ends_ends_its_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_server, "REQUEST_SECONDS", 0.2)

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            c = await H2.open(it.port)
            headers = [(":method", "POST"), (":authority", "x"), (":scheme", "https"), (":path", "/dns-query")]
            c.http.send_headers(1, headers)
            c.http.send_data(1, b"a")
            c.writer.write(c.http.data_to_send())
            while await c.reader.read(65536):
                pass
            c.close()

    asyncio.run(main())


def test_one_source_that_asks_too_often_is_told_so_as_public_resolvers_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phantomband.transports.doh.forward.A_SECOND", 0.0)
    monkeypatch.setattr("phantomband.transports.doh.forward.BURST", 5.0)

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            connection = await H2.open(it.port)
            said = []
            for i in range(8):
                query = dns.message.make_query(f"x{i}.known.test", "A").to_wire()
                status, _, answer = await connection.ask(query)
                said.append((int(status), dns.message.from_wire(answer).rcode() if answer else None))
            assert said == [(200, 0)] * 5 + [(429, None)] * 3
            connection.close()

    asyncio.run(main())


def test_a_household_does_not_meet_the_limit(tmp_path: Path) -> None:
    """Two pages of 60 names, three types each, at once."""

    async def main() -> None:
        async with asyncio.timeout(60), rig(tmp_path) as it:
            connection = await H2.open(it.port)
            for i in range(360):
                status, _, answer = await connection.ask(dns.message.make_query(f"x{i}.known.test", "A").to_wire())
                assert (int(status), dns.message.from_wire(answer).rcode()) == (200, 0)
            connection.close()

    asyncio.run(main())
