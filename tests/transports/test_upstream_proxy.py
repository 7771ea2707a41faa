"""A proxy of the user's: every TCP-based transport goes through it, and nothing goes around it."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import shutil
import subprocess
from pathlib import Path

import proxies
import pytest
import web_rig
from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.browser.persona import load_all
from phantomband.transports.registry import TRANSPORTS, make
from phantomband.transports.tcp.proxy import Proxy, http_request

OVER_TCP = [name for name in TRANSPORTS if name != "quic"]
TINYPROXY = shutil.which("tinyproxy")
SIZE = 300_000


class Collector:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.data = bytearray()
        self.done = asyncio.get_running_loop().create_future()

    def received(self, data: Buffer) -> None:
        self.data += data
        if len(self.data) >= SIZE and not self.done.done():
            self.done.set_result(None)

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("closed"))


async def echoed(name: str, proxy: Proxy) -> None:
    """Bytes to a server and back, through `proxy`."""
    server = make(name)
    listener = await server.listen("127.0.0.1", 0, web_rig.Echo)
    ends: list[Collector] = []

    def accept(connection: Connection) -> Collector:
        ends.append(Collector(connection))
        return ends[0]

    address = Address(name, "127.0.0.1", listener.port, server.parameters())
    async with asyncio.timeout(30):
        connection = await make(name, proxy, load_all()[0]).dial(address, accept, 10)
        data = os.urandom(SIZE)
        connection.write(data)
        await ends[0].done
        assert ends[0].data == data
        connection.abort()
        await listener.close()


@pytest.mark.parametrize("name", OVER_TCP)
@pytest.mark.parametrize(("serve", "url"), [
    (proxies.http, "http://127.0.0.1:{}"), (proxies.http, "http://me:s%40cret@127.0.0.1:{}"),
    (proxies.socks5, "socks5://127.0.0.1:{}"), (proxies.socks5, "socks5://me:secret@127.0.0.1:{}"),
])  # fmt: skip
def test_bytes_go_through_the_proxy(name: str, serve: proxies.Serve, url: str) -> None:
    with proxies.proxy(serve) as seen:
        asyncio.run(echoed(name, Proxy.parse(url.format(seen.port))))
        assert len(seen.targets) == 1
        if "s%40cret" in url:
            assert base64.b64encode(b"me:s@cret") in seen.requests[0]
        if serve is proxies.http:
            assert b"\r\nUser-Agent: Mozilla/5.0 " in seen.requests[0]


GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n", "random": bytes(range(200)), "nothing": b"",
    "407": b"HTTP/1.1 407 X\r\n\r\n", "403": b"HTTP/1.1 403 Forbidden\r\n\r\n", "no status": b"HTTP/1.1\r\n\r\n",
    "endless": b"HTTP/1.1 200 " + b"a" * 40_000, "half": b"HTTP/1.1 200 OK\r\n",
}  # fmt: skip


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("name", list(GARBAGE))
def test_a_proxy_that_does_not_connect_is_a_refusal(name: str, scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    """And never a direct connection."""
    caplog.set_level(logging.DEBUG)

    async def main(port: int) -> None:
        arrived: list[Connection] = []
        listener = await make("tcp").listen("127.0.0.1", 0, lambda c: arrived.append(c) or web_rig.Echo(c))  # type: ignore[func-returns-value]
        proxy = Proxy.parse(f"{scheme}://me:hunter2@127.0.0.1:{port}")
        with pytest.raises(Refused, match="proxy") as caught:
            await make("tcp", proxy).dial(Address("tcp", "127.0.0.1", listener.port), web_rig.Echo, 0.5)
        assert not any(word in str(caught.value) for word in ("hunter2", "127.0.0.1", str(port)))
        assert not arrived
        await listener.close()

    with proxies.proxy(proxies.answering(GARBAGE[name])) as seen:
        asyncio.run(main(seen.port))
    assert "hunter2" not in caplog.text


def test_a_proxy_that_is_not_there_is_a_refusal() -> None:
    proxy = Proxy.parse(f"http://127.0.0.1:{web_rig.free_port()}")
    with pytest.raises(Refused, match="no connection to the proxy"):
        asyncio.run(make("tls", proxy).dial(Address("tls", "127.0.0.1", 1, {"knock": "A" * 22}), web_rig.Echo, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("url", [
    "http://proxy.example.org:3128", "ftp://127.0.0.1:1", "http://127.0.0.1", "127.0.0.1:3128", "", "http://[::1",
    "http://u:hunter2@127.0.0.1:99999", "http://u:hunter2@127.0.0.1:1/path", f"socks5://u:{'hunter2' * 40}@127.0.0.1:1",
])  # fmt: skip
def test_a_url_that_cannot_be_used_says_so_without_repeating_it(url: str) -> None:
    with pytest.raises(UserError, match="upstream_proxy") as caught:
        Proxy.parse(url)
    assert "hunter2" not in str(caught.value)


def test_quic_cannot_go_through_a_proxy() -> None:
    with pytest.raises(UserError, match=r"quic cannot go through upstream_proxy"):
        make("quic", Proxy.parse("http://127.0.0.1:1"))


def test_the_password_is_in_no_repr() -> None:
    assert repr(Proxy.parse("http://me:hunter2@127.0.0.1:3128")) == "Proxy()"


def test_ipv6_addresses_have_brackets() -> None:
    request = http_request(Proxy.parse("http://[::1]:3128"), Address("tcp", "2001:db8::1", 443))
    assert request.startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n")


@pytest.mark.slow
@pytest.mark.skipif(TINYPROXY is None, reason="tinyproxy is not installed: no real HTTP proxy to go through")
@pytest.mark.parametrize("name", OVER_TCP)
def test_bytes_go_through_a_real_proxy(name: str, tmp_path: Path) -> None:
    port = web_rig.free_port()
    (tmp_path / "conf").write_text(
        f"Port {port}\nListen 127.0.0.1\nTimeout 60\nBasicAuth me secret\nMaxClients 20\nLogLevel Error\n"
        f'LogFile "{tmp_path}/log"\n'
    )
    assert TINYPROXY is not None
    process = subprocess.Popen([TINYPROXY, "-d", "-c", str(tmp_path / "conf")], stdout=subprocess.DEVNULL)
    try:
        web_rig.until_open(port)
        asyncio.run(echoed(name, Proxy.parse(f"http://me:secret@127.0.0.1:{port}")))
        with pytest.raises(Refused, match=r"\(40[17]\)"):
            asyncio.run(echoed(name, Proxy.parse(f"http://me:wrong@127.0.0.1:{port}")))
    finally:
        process.terminate()
        process.wait()
