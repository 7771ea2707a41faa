"""Small proxies in a thread, that do what a test says: to see what a client sends, and how it takes bad answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LOOPBACK = "127.0.0.1"


@dataclass
class Seen:
    """What came to the proxy."""

    port: int
    requests: list[bytes] = field(default_factory=list)
    targets: list[tuple[str, int]] = field(default_factory=list)


Serve = Callable[[socket.socket, Seen], None]


@contextmanager
def proxy(serve: Serve) -> Iterator[Seen]:
    """Args: serve: what is done with each connection, in a thread of its own."""
    listener = socket.create_server((LOOPBACK, 0))
    seen = Seen(listener.getsockname()[1])

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()

    def guarded(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection, seen)
            except OSError:
                pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def http(connection: socket.socket, seen: Seen) -> None:
    """CONNECT, as asked."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    seen.requests.append(request)
    host, _, port = request.split(b" ")[1].decode().rpartition(":")
    relay(connection, (host.strip("[]"), int(port)), seen, b"HTTP/1.1 200 Connection established\r\n\r\n")


def socks5(connection: socket.socket, seen: Seen) -> None:
    """SOCKS5 with the user `me` and the password `secret` if a password is offered."""
    _, count = exactly(connection, 2)
    methods = exactly(connection, count)
    connection.sendall(bytes((5, methods[0])))
    if methods[0] == 2:
        (_, size) = exactly(connection, 2)
        user = exactly(connection, size)
        password = exactly(connection, exactly(connection, 1)[0])
        good = (user, password) == (b"me", b"secret")
        connection.sendall(bytes((1, 0 if good else 1)))
        if not good:
            return
    kind = exactly(connection, 4)[3]
    host = socket.inet_ntop(*((socket.AF_INET, exactly(connection, 4)) if kind == 1 else
                              (socket.AF_INET6, exactly(connection, 16))))  # fmt: skip
    port = int.from_bytes(exactly(connection, 2), "big")
    relay(connection, (host, port), seen, bytes((5, 0, 0, 1)) + bytes(6))


def answering(answer: bytes) -> Serve:
    """A proxy that says `answer` to whatever comes, and closes once the client does."""

    def serve(connection: socket.socket, seen: Seen) -> None:
        seen.requests.append(connection.recv(4096))
        connection.sendall(answer)
        while connection.recv(4096):
            pass

    return serve


def exactly(connection: socket.socket, size: int) -> bytes:
    """Raises: ConnectionError."""
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the other end closed")
        data += part
    return data


def relay(near: socket.socket, target: tuple[str, int], seen: Seen, hello: bytes) -> None:
    seen.targets.append(target)
    with socket.create_connection(target) as far:
        near.sendall(hello)
        threading.Thread(target=pump, args=(far, near), daemon=True).start()
        pump(near, far)


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
