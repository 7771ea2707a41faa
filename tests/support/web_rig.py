"""A real nginx, our websocket listener in a thread of its own, and requests byte by byte."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from phantomband.transports.base import Buffer, Connection, Transport
from phantomband.transports.websocket.transport import WebSocketTransport

LOOPBACK = "127.0.0.1"
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PATIENCE = 20.0


class Echo:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def received(self, data: Buffer) -> None:
        self.connection.write(bytes(data))

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...


@dataclass
class Ours:
    port: int
    parameters: Mapping[str, str]
    tunnels: list[Connection]


@contextmanager
def ours(folder: Path, options: Mapping[str, str], transport: Transport | None = None) -> Iterator[Ours]:
    """Our listener with an echo behind the tunnel.

    Args: folder: for the secret; options: of the address; transport: by default websocket.
    """
    loop = uvloop.new_event_loop()  # as the gateway has
    transport = transport or WebSocketTransport()
    transport.configure(folder, options)
    tunnels: list[Connection] = []

    def accept(connection: Connection) -> Echo:
        tunnels.append(connection)
        return Echo(connection)

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        listener = asyncio.run_coroutine_threadsafe(transport.listen(LOOPBACK, 0, accept), loop).result(PATIENCE)
        yield Ours(listener.port, transport.parameters(), tunnels)
        asyncio.run_coroutine_threadsafe(listener.close(), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def free_port() -> int:
    with socket.socket() as s:
        s.bind((LOOPBACK, 0))
        return int(s.getsockname()[1])


def certificate(folder: Path, name: str = "www.example.org") -> tuple[Path, Path]:
    """Returns: certificate and key of `name`, self-signed, as PEM files."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    )
    subprocess.run([*command, "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key),
                    "-out", str(cert)], check=True, capture_output=True)  # fmt: skip
    return cert, key


@contextmanager
def nginx(folder: Path, server: str) -> Iterator[int]:
    """A real nginx. Args: server: inside of its `server` block, where PORT stands for the port. Returns: the port."""
    assert NGINX is not None
    port = free_port()
    conf = folder / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ include /etc/nginx/mime.types; default_type application/octet-stream; access_log off;\n"
        f"server_tokens off; {temporary} server {{ {server.replace('PORT', str(port))} }} }}\n"
    )
    process = subprocess.Popen([NGINX, "-c", str(conf), "-e", f"{folder}/error.log"], stderr=subprocess.DEVNULL)
    try:
        until_open(port)
        yield port
    finally:
        process.terminate()
        process.wait()


def until_open(port: int) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((LOOPBACK, port), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the server does not listen"
            time.sleep(0.02)


def tls_socket(port: int, alpn: tuple[str, ...] = ("http/1.1",), name: str = "www.example.org") -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context.wrap_socket(socket.create_connection((LOOPBACK, port), PATIENCE), server_hostname=name)


def talk(sock: socket.socket, data: bytes, quiet: float = 0.3) -> tuple[bytes, bool]:
    """Sends `data`. Returns: what came until `quiet` seconds brought nothing, and whether the peer closed."""
    try:
        sock.sendall(data)
    except OSError:
        pass
    sock.settimeout(quiet)
    answer = b""
    while True:
        try:
            part = sock.recv(65536)
        except TimeoutError:
            return answer, False
        except OSError:
            return answer, True
        if not part:
            return answer, True
        answer += part
