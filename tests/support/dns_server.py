"""A DNS server of a test's own: IPv4 addresses of a few names, over UDP on this machine; no others exist."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

A = 1
NO_SUCH_NAME = 3


def answer(query: bytes, known: Mapping[str, str]) -> bytes:
    """A whole response."""
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1").lower())
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack(">H", question[-4:-2])
    address = known.get(".".join(labels))
    record = b""
    if address is not None and kind == A:
        record = b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 60, 4) + socket.inet_aton(address)
    code = 0 if address is not None else NO_SUCH_NAME
    return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, bool(record), 0, 0) + question + record


@contextmanager
def dns_server(known: Mapping[str, str]) -> Iterator[str]:
    """Gives what stands behind `nameserver` in resolv.conf."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            with suppress(OSError):
                while True:
                    query, where = sock.recvfrom(4096)
                    with suppress(IndexError, struct.error):
                        sock.sendto(answer(query, known), where)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{sock.getsockname()[1]}"
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
