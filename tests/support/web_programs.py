"""Server programs of webtunnel and meek, of which Debian has the clients only (lyrebird's): run as managed programs.

    python web_programs.py               what TOR_PT_SERVER_TRANSPORTS asks for

webtunnel: one HTTP/1.1 upgrade, then the bytes as they are. meek: bodies of POSTs, kept together by X-Session-Id.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_HEAD = 16 * 1024
MEEK_BODY = 0x10000
"""Bytes in one body, at most (meek's maxPayloadLength)."""
MEEK_WAIT = 0.02
"""Seconds that an answer waits for the first byte."""


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _say(*words: str) -> None:
    print(*words, flush=True)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, sink):
            one.close()


def _tunnel(visitor: socket.socket, target: tuple[str, int]) -> None:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < MAX_HEAD and (data := visitor.recv(4096)):
        head += data
    head, _, rest = head.partition(b"\r\n\r\n")
    if b"upgrade: websocket" not in head.lower():
        visitor.close()
        return
    inside = socket.create_connection(target)
    visitor.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    inside.sendall(rest)
    threading.Thread(target=_pump, args=(inside, visitor), daemon=True).start()
    _pump(visitor, inside)


def webtunnel(listen: tuple[str, int], target: tuple[str, int]) -> str:
    """Returns: where it says that it listens. As the real one, at an address made up from its URL."""
    listener = socket.create_server(listen)

    def serve() -> None:
        while True:
            threading.Thread(target=_tunnel, args=(listener.accept()[0], target), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return "[2001:db8:8485:ad44:4436:6a1b:6ac6:3b3c]:443"


def meek(listen: tuple[str, int], target: tuple[str, int]) -> str:
    """Returns: where it listens."""
    sessions: dict[str, socket.socket] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            name = self.headers["X-Session-Id"]
            if name not in sessions:
                sessions[name] = socket.create_connection(target)
            inside = sessions[name]
            inside.sendall(self.rfile.read(int(self.headers["Content-Length"])))
            ready = select.select([inside], [], [], MEEK_WAIT)[0]
            body = inside.recv(MEEK_BODY) if ready else b""
            if ready and not body:  # the far end is gone
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(listen, Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"{listen[0]}:{listen[1]}"


def main() -> None:
    name = os.environ["TOR_PT_SERVER_TRANSPORTS"]
    listen = _address(os.environ["TOR_PT_SERVER_BINDADDR"].removeprefix(f"{name}-"))
    options = os.environ.get("TOR_PT_SERVER_TRANSPORT_OPTIONS", "").replace("\\", "")
    pairs = [pair.removeprefix(f"{name}:") for pair in options.split(";") if pair]
    serve = {"webtunnel": webtunnel, "meek_lite": meek}[name]
    at = serve(listen, _address(os.environ["TOR_PT_ORPORT"]))
    _say("VERSION 1")
    _say("SMETHOD", name, at, f"ARGS:{','.join(pairs)}")
    _say("SMETHODS DONE")
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
