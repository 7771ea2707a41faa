"""A real nginx in front: it ends TLS, serves a site, and passes the secret path on."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import web_rig
from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.websocket.transport import WebSocketTransport

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(web_rig.NGINX is None, reason="nginx is not installed: nothing to stand behind"),
]

SIZE = 5_000_000
FORWARD = """
    location = {path} {{
        proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;
        proxy_set_header X-Forwarded-For 203.0.113.9; proxy_read_timeout 1d; proxy_send_timeout 1d;
        proxy_intercept_errors on;
    }}
"""


class Collector:
    def __init__(self, connection: Connection) -> None:
        self.data = bytearray()
        self.done = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()

    def received(self, data: Buffer) -> None:
        self.data += data
        if len(self.data) >= SIZE and not self.done.done():
            self.done.set_result(None)

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None:
        self.ended.set_result(error)


async def echo(port: int, parameters: Mapping[str, str]) -> None:
    ends: list[Collector] = []

    def accept(connection: Connection) -> Collector:
        ends.append(Collector(connection))
        return ends[0]

    async with asyncio.timeout(60):
        connection = await WebSocketTransport().dial(Address("websocket", "127.0.0.1", port, parameters), accept, 10)
        data = os.urandom(SIZE)
        connection.write(data)
        await ends[0].done
        assert hashlib.sha256(ends[0].data).digest() == hashlib.sha256(data).digest()
        connection.close()
        ended = await ends[0].ended
        assert ended is None, repr(ended)


def test_tunnel_and_site_on_one_port_behind_nginx(tmp_path: Path) -> None:
    cert, key = web_rig.certificate(tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("the site\n")
    with ExitStack() as stack:
        mine = stack.enter_context(web_rig.ours(tmp_path / "gateway", {"plain": "yes", "forwarded": "yes"}))
        server = f"listen 127.0.0.1:PORT ssl; ssl_certificate {cert}; ssl_certificate_key {key};"
        server += f"root {tmp_path}/site;" + FORWARD.format(path=mine.parameters["path"], port=mine.port)
        port = stack.enter_context(web_rig.nginx(tmp_path, server))
        asyncio.run(echo(port, {**mine.parameters, "sni": "www.example.org"}))
        assert [t.peer_ip for t in mine.tunnels] == [bytes((203, 0, 113, 9))]
        with web_rig.tls_socket(port) as visitor:
            answer, _ = web_rig.talk(visitor, b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
        assert answer.endswith(b"the site\n")
        with pytest.raises(Refused, match="404"):
            asyncio.run(echo(port, {"path": "/another", "sni": "www.example.org"}))
        path = mine.parameters["path"]
        answers = []
        for target in (path, "/nothing"):  # without an upgrade the secret path is one more missing page
            with web_rig.tls_socket(port) as visitor:
                answer, _ = web_rig.talk(visitor, f"GET {target} HTTP/1.1\r\nHost: www.example.org\r\n\r\n".encode())
            answers.append([line for line in answer.split(b"\r\n") if not line.startswith(b"Date:")])
        assert answers[0] == answers[1]


def test_the_site_may_be_another_server(tmp_path: Path) -> None:
    """Ours in front, nginx behind it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("x" * 100_000)
    with ExitStack() as stack:
        behind = stack.enter_context(web_rig.nginx(tmp_path, f"listen 127.0.0.1:PORT; root {tmp_path}/site;"))
        options = {"site": f"http://127.0.0.1:{behind}"}
        mine = stack.enter_context(web_rig.ours(tmp_path / "gateway", options))
        with web_rig.tls_socket(mine.port) as visitor:
            for _ in range(2):  # the connection is kept
                answer, ended = web_rig.talk(visitor, b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 OK\r\nServer: nginx\r\n")
                assert answer.endswith(b"\r\n\r\n" + b"x" * 100_000)
                assert not ended
            answer, _ = web_rig.talk(visitor, b"HEAD / HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\n")
            answer, _ = web_rig.talk(visitor, b"GET /nothing HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
        asyncio.run(echo(mine.port, mine.parameters))


def test_a_server_that_is_not_there_is_a_bad_gateway(tmp_path: Path) -> None:
    options = {"site": f"http://127.0.0.1:{web_rig.free_port()}"}
    with web_rig.ours(tmp_path / "gateway", options) as mine, web_rig.tls_socket(mine.port) as visitor:
        answer, _ = web_rig.talk(visitor, b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n")


def test_a_site_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="private network"):
        WebSocketTransport().configure(tmp_path, {"site": "http://8.8.8.8"})
