"""`python -m phantomband_cli.target [PORT]`: the web server that the exits of a container network can reach.

It needs no files. `/` is the demo's page; `/bytes/N` is the first N bytes of a stream that nothing compresses
and anyone can make again (the demo's, content.py), up to MAX_BYTES; `/64MB.bin` is the demo's file.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from phantomband_cli.demo.content import FILE_BYTES, FILE_NAME, PAGE

DEFAULT_PORT = 80
MAX_BYTES = 1 << 30
TIMEOUT_SECONDS = 60
_BLOCK = 1 << 18


def stream(size: int) -> Iterator[bytes]:
    """The first `size` bytes of AES-256-CTR's key stream, key and counter all zero (NIST SP 800-38A)."""
    encryptor = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
    for at in range(0, size, _BLOCK):
        yield encryptor.update(bytes(min(_BLOCK, size - at)))


class Handler(BaseHTTPRequestHandler):
    """Answers GET and logs nothing."""

    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_SECONDS

    def do_GET(self) -> None:
        """Named by http.server."""
        if self.path == "/":
            page = PAGE.encode()
            self._answer("text/html; charset=utf-8", len(page), iter([page]))
        elif (size := _size(self.path)) is not None:
            self._answer("application/octet-stream", size, stream(size))
        else:
            self.send_error(404)

    def _answer(self, kind: str, size: int, body: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for block in body:
            self.wfile.write(block)

    def log_message(self, format: str, *args: object) -> None:
        """A request's time and path are nobody's business."""


def _size(path: str) -> int | None:
    if path == f"/{FILE_NAME}":
        return FILE_BYTES
    head, _, number = path.rpartition("/")
    if head != "/bytes" or not (number.isascii() and number.isdigit() and len(number) < 12):
        return None
    return int(number) if int(number) <= MAX_BYTES else None


def main() -> None:
    # The first process of a container dies of no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    port = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PORT
    ThreadingHTTPServer(("0.0.0.0", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
