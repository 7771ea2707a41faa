"""The doh port as an ordinary DNS-over-HTTPS server (RFC 8484), and as its zone's name server."""

from __future__ import annotations

import asyncio
import base64
import random
import shutil
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import dns.message
import pytest
from doh_rig import ZONE, End, Rig, http1, rig
from phantomband.core.errors import Refused, UserError
from phantomband.transports.doh.parameters import Options
from phantomband.transports.doh.transport import DohTransport
from unbound_rig import free_port


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} IS NOT INSTALLED: this test proves nothing without it")
    return found


def run(main: Callable[[Rig], Coroutine[Any, Any, None]], folder: Path, **options: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60), rig(folder, **options) as it:
            await main(it)

    asyncio.run(bounded())


async def output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode()


def wire(name: str, kind: str = "A") -> bytes:
    query = dns.message.make_query(name, kind)
    query.id = 0
    return query.to_wire()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def test_curl_finds_names_by_it(tmp_path: Path) -> None:
    curl = program("curl")

    async def main(it: Rig) -> None:
        async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
            writer.close()

        web = await asyncio.start_server(page, "127.0.0.1", 0)
        port = web.sockets[0].getsockname()[1]
        out = await output(
            curl, "-sS", "--noproxy", "*", "--doh-insecure", "--doh-url", f"https://127.0.0.1:{it.port}/dns-query",
            f"http://www.known.test:{port}/",
        )  # fmt: skip
        assert out == "hello"
        web.close()

    run(main, tmp_path)


@pytest.mark.parametrize("get", [False, True])
def test_kdig_asks_it(tmp_path: Path, get: bool) -> None:
    kdig = program("kdig")

    async def main(it: Rig) -> None:
        flags = ("+https", "+https-get") if get else ("+https",)
        base = (kdig, *flags, "@127.0.0.1", "-p", str(it.port))
        out = await output(*base, "a.known.test", "A")
        assert "NOERROR" in out
        assert "127.0.0.1" in out
        assert "HTTP/2" in out
        assert "NXDOMAIN" in await output(*base, "nowhere.test", "A")
        assert (await output(*base, "big.known.test", "TXT")).count("\tTXT\t") == 200

    run(main, tmp_path)


def test_kdig_sees_a_name_server(tmp_path: Path) -> None:
    kdig = program("kdig")

    async def main(it: Rig) -> None:
        base = (kdig, "@127.0.0.1", "-p", str(it.dns_port), "+norec")
        for extra in ((), ("+tcp",)):
            soa = await output(*base, *extra, ZONE, "SOA")
            assert "NOERROR" in soa
            assert " aa" in soa
            assert f"ns.{ZONE}. hostmaster.{ZONE}." in soa
        assert f"ns.{ZONE}." in await output(*base, ZONE, "NS")
        assert "127.0.0.1" in await output(*base, f"ns.{ZONE}", "A")
        for name, kind in ((f"a.{ZONE}", "A"), (f"x.y.{ZONE}", "TXT"), (f"abc.{ZONE}", "NS"), (ZONE, "TXT")):
            out = await output(*base, name, kind)
            assert "NOERROR" in out
            assert "ANSWER: 0; AUTHORITY: 1" in out
        for name in ("example.test", "example.com", f"no{ZONE}"):
            assert "REFUSED" in await output(*base, name, "A")
        assert "REFUSED" in await output(kdig, "+https", "@127.0.0.1", "-p", str(it.port), "x.test", "A")

    run(main, tmp_path, upstream=False)


async def h1(it: Rig, line: str, *fields: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    head = "\r\n".join((line, "Host: x", "Connection: close", *fields, "", "")).encode()
    raw = await http1(it.port, head + body)
    top, _, rest = raw.partition(b"\r\n\r\n")
    lines = top.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(x.split(": ", 1) for x in lines[1:]), rest


def test_http_1_1_says_what_rfc_8484_says(tmp_path: Path) -> None:
    async def main(it: Rig) -> None:
        query = wire("a.known.test")
        post = ("Content-Type: application/dns-message", f"Content-Length: {len(query)}")
        status, fields, body = await h1(it, "POST /dns-query HTTP/1.1", *post, body=query)
        assert (status, fields["content-type"], fields["cache-control"]) == (
            200,
            "application/dns-message",
            "max-age=77",
        )
        answer = dns.message.from_wire(body)
        assert answer.id == 0
        assert answer.answer[0].to_text() == "a.known.test. 77 IN A 127.0.0.1"
        status, fields, again = await h1(it, f"GET /dns-query?dns={b64(query)} HTTP/1.1")
        assert (status, again) == (200, body)
        status, fields, none = await h1(it, f"HEAD /dns-query?dns={b64(query)} HTTP/1.1")
        assert (status, none, fields["content-length"]) == (200, b"", str(len(body)))
        _, fields, _ = await h1(it, f"GET /dns-query?dns={b64(wire('big.known.test', 'TXT'))} HTTP/1.1")
        assert fields["cache-control"] == "max-age=50"
        for expected, line, *rest in (
            (404, "GET / HTTP/1.1"), (404, "GET /dns-quer?dns=AAAA HTTP/1.1"), (400, "GET /dns-query HTTP/1.1"),
            (400, "GET /dns-query?dns=*** HTTP/1.1"), (400, "GET /dns-query?dns=AAAA HTTP/1.1"),
            (405, "PUT /dns-query HTTP/1.1"), (405, "DELETE /dns-query HTTP/1.1"),
            (415, "POST /dns-query HTTP/1.1", "Content-Type: text/plain", "Content-Length: 0"),
            (413, "POST /dns-query HTTP/1.1", post[0], "Content-Length: 65536"),
            (411, "POST /dns-query HTTP/1.1", post[0]), (400, "nonsense"), (505, "GET / HTTP/3.0"),
        ):  # fmt: skip
            assert (await h1(it, line, *rest))[0] == expected, line

    run(main, tmp_path)


def test_a_resolver_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phantomband.transports.doh.forward.TIMEOUT", 0.05)

    async def main(it: Rig) -> None:
        _, _, body = await h1(it, f"GET /dns-query?dns={b64(wire('slow.test'))} HTTP/1.1")
        assert dns.message.from_wire(body).rcode() == 2
        assert it.upstream.asked.count("slow.test.") == 2

    run(main, tmp_path)


def test_forwarded_queries_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phantomband.transports.doh.forward.MAX_QUERIES", 0)

    async def main(it: Rig) -> None:
        _, _, body = await h1(it, f"GET /dns-query?dns={b64(wire('a.known.test'))} HTTP/1.1")
        assert dns.message.from_wire(body).rcode() == 2
        assert not it.upstream.asked

    run(main, tmp_path)


@pytest.mark.parametrize(
    "more",
    [{}, {"method": "get"}, *({"via": via, "rr": rr} for via in ("udp", "tcp") for rr in ("txt", "null"))],
    ids=lambda more: "-".join(more.values()) or "post",
)
def test_the_tunnel_on_the_same_ports(tmp_path: Path, more: dict[str, str]) -> None:
    """`via` our own name server, as a resolver would ask it."""
    via = more.get("via", "")

    async def main(it: Rig) -> None:
        end = await it.dial(it.dns_port if via else None, **more)
        (far,) = it.accepted
        assert far.connection.peer_ip == (b"" if via else b"\x7f\0\0\1")
        data = bytes(range(256)) * 100
        end.connection.write(data)
        far.connection.write(data * 4)
        await far.until(len(data))
        await end.until(4 * len(data))
        assert (far.data, end.data) == (data, data * 4)
        end.connection.close()
        await far.until_closed()
        await end.until_closed()
        assert (end.ends, far.ends) == ([None], [None])

    run(main, tmp_path)


def test_answers_that_do_not_fit_are_asked_for_over_tcp(tmp_path: Path) -> None:
    """A resolver that cuts every answer over UDP short."""

    async def main(it: Rig) -> None:
        loop = asyncio.get_running_loop()
        port = free_port()
        over_tcp = 0

        class Short(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                cut = bytes((data[0], data[1], 0x82, 0)) + data[4:]
                self.transport.sendto(cut, addr)  # type: ignore[attr-defined]

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal over_tcp
            there, back = await asyncio.open_connection("127.0.0.1", it.dns_port)

            async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                nonlocal over_tcp
                while data := await source.read(65536):
                    over_tcp += len(data)
                    sink.write(data)
                sink.close()

            await asyncio.gather(carry(reader, back), carry(there, writer))

        udp, _ = await loop.create_datagram_endpoint(Short, local_addr=("127.0.0.1", port))
        tcp = await asyncio.start_server(forward, "127.0.0.1", port)
        end = await it.dial(port, via="udp")
        it.accepted[0].connection.write(bytes(20_000))
        await end.until(20_000)
        assert over_tcp > 20_000
        end.connection.abort()
        await end.until_closed()
        udp.close()
        tcp.close()

    run(main, tmp_path)


def test_a_resolver_that_leaves_out_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TCP: what is never answered does not use up what may be asked."""
    monkeypatch.setattr("phantomband.transports.doh.dns_client.MAX_OUT", 20)
    monkeypatch.setattr("phantomband.transports.doh.dns_client.STALE_SECONDS", 0.5)

    async def main(it: Rig) -> None:
        dice = random.Random(1)
        dropped = 0

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", it.dns_port)

            async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, share: float) -> None:
                nonlocal dropped
                try:
                    while True:
                        size = await source.readexactly(2)
                        raw = await source.readexactly(int.from_bytes(size, "big"))
                        if dice.random() < share:
                            dropped += 1
                        else:
                            sink.write(size + raw)
                except (asyncio.IncompleteReadError, OSError):
                    sink.close()

            await asyncio.gather(carry(reader, back, 0.15), carry(there, writer, 0))

        server = await asyncio.start_server(forward, "127.0.0.1", 0)
        end = await it.dial(server.sockets[0].getsockname()[1], via="tcp")
        data = dice.randbytes(200_000)
        it.accepted[0].connection.write(data)
        await end.until(len(data))
        assert end.data == data
        assert dropped > 20
        end.connection.abort()
        await end.until_closed()
        server.close()

    run(main, tmp_path)


def test_another_token_opens_nothing(tmp_path: Path) -> None:
    async def main(it: Rig) -> None:
        for more in ({}, {"via": "udp"}):
            with pytest.raises(Refused):
                await it.dial(it.dns_port if more else None, timeout=0.5, token=b64(bytes(32)), **more)
        assert not it.accepted

    run(main, tmp_path)


def test_a_clock_that_is_wrong_opens_nothing(tmp_path: Path) -> None:
    async def main(it: Rig) -> None:
        it.transport.parameters()
        from phantomband.transports.base import Address

        for wrong in (-7200.0, 7200.0):
            import time

            client = DohTransport(clock=lambda wrong=wrong: time.time() + wrong)  # type: ignore[misc]
            with pytest.raises(Refused):
                await client.dial(Address("doh", "127.0.0.1", it.port, it.transport.parameters()), End, 0.5)

    run(main, tmp_path)


def test_the_token_lasts_and_is_private(tmp_path: Path) -> None:
    first, second = DohTransport(), DohTransport()
    first.configure(tmp_path, {})
    second.configure(tmp_path, {})
    assert first.parameters() == second.parameters()
    (key,) = tmp_path.iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        DohTransport().configure(tmp_path, {})


def test_an_operators_certificate(tmp_path: Path) -> None:
    """curl verifies it, and finds names by it."""
    curl = program("curl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
         "2", "-subj", "/CN=dns.example.org", "-addext", "subjectAltName=DNS:dns.example.org", "-keyout", key,
         "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip

    async def main(it: Rig) -> None:
        assert it.transport.parameters()["sni"] == "dns.example.org"
        query = b64(wire("a.known.test"))
        status = await output(
            curl, "-sS", "--noproxy", "*", "--cacert", str(certificate),
            "--resolve", f"dns.example.org:{it.port}:127.0.0.1",
            "-o", str(tmp_path / "answer"), "-w", "%{http_code} %{http_version}",
            f"https://dns.example.org:{it.port}/dns-query?dns={query}",
        )  # fmt: skip
        assert status == "200 2"
        assert dns.message.from_wire((tmp_path / "answer").read_bytes()).answer
        end = await it.dial()
        end.connection.abort()
        await end.until_closed()

    run(main, tmp_path, certificate=str(certificate), key=str(key), sni="dns.example.org")


def test_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    values = {"certificate": str(tmp_path / "no"), "key": str(tmp_path / "no"), "sni": "x.org"}
    with pytest.raises(UserError, match="PEM"):
        DohTransport().configure(tmp_path, values)


@pytest.mark.parametrize(
    "options",
    [{"zone": ZONE}, {"dns": "127.0.0.1:53"}, {"zone": "a b", "dns": "1.1.1.1"}, {"what": "x"}, {"path": "x"},
     {"upstream": "dns.example"}, {"upstream": "1.1.1.1:x"}, {"zone": ZONE, "dns": "localhost:53"},
     {"certificate": "x", "key": "y"}, {"sni": "x.org"}],
)  # fmt: skip
def test_options_that_cannot_be_used_say_so(options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="doh://"):
        Options.parse(options)


@pytest.mark.parametrize(
    "change",
    [{"token": "x"}, {"via": "x"}, {"via": "udp", "zone": ""}, {"method": "put"}, {"rr": "a"}, {"size": "100"},
     {"zone": "a" * 64, "via": "udp"}, {"path": "no"}, {"zone": ".".join(["a" * 60] * 4), "via": "udp"}],
)  # fmt: skip
def test_addresses_that_cannot_be_dialled_are_refused(change: dict[str, str]) -> None:
    from phantomband.transports.base import Address

    async def main() -> None:
        values = {"token": b64(bytes(32)), "zone": ZONE} | change
        with pytest.raises(Refused):
            await DohTransport().dial(Address("doh", "127.0.0.1", 1, values), End, 0.5)

    asyncio.run(main())
