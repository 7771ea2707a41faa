"""Servers that end-to-end tests reach through the network: web pages and files, TLS, and plain TCP."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from e2e_socks import Address
from phantomband_cli.target import stream

IMAGES = 6
PAGE = (
    "<!doctype html><title>loading</title><h1>A page</h1>"
    + "".join(f'<img src="/image/{i}.png">' for i in range(IMAGES))
    + "<script>onload = () => document.title = [...document.images].map(i => i.naturalWidth).join()</script>"
)
"""Its title becomes the widths of its images, once all are there."""


@lru_cache(maxsize=8)
def content(size: int) -> bytes:
    """Bytes that nothing compresses, the same each time."""
    return b"".join(stream(size))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def png(width: int) -> bytes:
    """A black image of `width` times one pixels (PNG, second edition, section 11)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1 + width))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


class _Handler(BaseHTTPRequestHandler):
    """`/` a page, `/image/N.png`, `/bytes/N`, files below the server's `root`; PUT answers with SHA-256."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: WebServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        body = self._body()
        if body is None:
            self.send_error(404)
        else:
            self._answer(body, "text/html" if self.path == "/" else "application/octet-stream")

    def do_PUT(self) -> None:
        self.server.paths.append(self.path)
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            part = self.rfile.read(min(left, 1 << 18))
            if not part:
                return
            digest.update(part)
            left -= len(part)
        self._answer(digest.hexdigest().encode(), "text/plain")

    def _body(self) -> bytes | None:
        path = self.path.partition("?")[0]
        if path == "/":
            return PAGE.encode()
        first, _, last = path.strip("/").partition("/")
        if first == "image":
            return png(10 + int(last.removesuffix(".png")))
        if first == "bytes":
            return content(int(last))
        file = self.server.root / path.strip("/") if self.server.root else None
        return file.read_bytes() if file and file.is_file() else None

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """pytest shows what matters."""


class WebServer(ThreadingHTTPServer):
    """Counts its connections and notes each path that was asked for."""

    request_queue_size = 256
    daemon_threads = True

    def __init__(self, host: str, root: Path | None, tls: ssl.SSLContext | None, handler: Any = _Handler) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), handler)
        self.paths: list[str] = []
        self.connections = 0
        self.root = root
        self._tls = tls

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        self.connections += 1
        return super().get_request()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread."""
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True)
        with suppress(OSError):
            super().finish_request(request, client_address)
        if self._tls is not None:
            request.close()


@contextmanager
def web(
    host: str = "127.0.0.1",
    root: Path | None = None,
    tls: ssl.SSLContext | None = None,
    handler: Any = _Handler,
) -> Iterator[WebServer]:
    """A web server that runs."""
    with WebServer(host, root, tls, handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def tcp(serve: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[Address]:
    """A TCP server: `serve` runs in a thread of its own for each connection, which is closed after it."""
    listener = socket.create_server((host, 0), backlog=512)

    def one(connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            connection.settimeout(600)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=one, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Address(host, listener.getsockname()[1])
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def echo(connection: socket.socket) -> None:
    """Sends back what comes, then its end."""
    while data := connection.recv(65_536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def reset(s: socket.socket) -> None:
    """Ends a connection with RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


@contextmanager
def blackhole() -> Iterator[Address]:
    """An address whose connections are never answered: a listener that never accepts, with its queue full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(listener.getsockname())
            fillers.append(filler)
        try:
            yield Address(*listener.getsockname())
        finally:
            for filler in fillers:
                filler.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port: int = s.getsockname()[1]
        return port


def make_tls(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for localhost, and the file of the CA that vouches for it."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of a test")])
    names = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]

    def certificate(subject: x509.Name, public: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca = certificate(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(True, 0), critical=True)
    own = certificate(x509.Name([]), key.public_key()).add_extension(x509.SubjectAlternativeName(names), critical=True)
    ca_file, chain = directory / "ca.pem", directory / "server.pem"
    ca_file.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + own.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, ca_file
