"""`python -m phantomband.runtime.healthcheck [--alive] SOCKET`: exit code 0 if it is SERVING, else 1.

With --alive any answer is enough: a service that waits for its neighbours is not yet serving, and need not be
restarted.

Containers ask this every few seconds, so it imports no gRPC (a tenth of a second of CPU each time): one unary
call of `grpc.health.v1.Health/Check` is written by hand. Sources: RFC 9113 (frames: length 3 | type 1 |
flags 1 | stream 4 | payload), RFC 7541 section 6.2.2 (header fields as literals without Huffman coding), the
gRPC wire protocol (message: compressed 1 | length 4 | protobuf) and health.proto (HealthCheckResponse:
field 1, SERVING = 1).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence

TIMEOUT_SECONDS = 3.0

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, END_HEADERS = 1, 4
FRAME_HEADER_BYTES = 9
MESSAGE_HEADER_BYTES = 5

SERVING = b"\x08\x01"
"""HealthCheckResponse with status = SERVING: tag of field 1, varint 1."""

_FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/grpc.health.v1.Health/Check"),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


def request() -> bytes:
    """All that the client says: preface, empty SETTINGS, HEADERS and an empty request on stream 1."""
    fields = b"".join(b"\0" + bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in _FIELDS)
    return (
        PREFACE
        + _frame(SETTINGS, 0, 0, b"")
        + _frame(HEADERS, END_HEADERS, 1, fields)
        + _frame(DATA, END_STREAM, 1, bytes(MESSAGE_HEADER_BYTES))
    )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def is_serving(path: str) -> bool:
    """Whether the service at the Unix socket `path` says that it serves."""
    return ask(path) == SERVING


def ask(path: str) -> bytes:
    """Returns: HealthCheckResponse, never empty; empty if nothing sensible answers."""
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(TIMEOUT_SECONDS)
            s.connect(path)
            s.sendall(request())
            return _answer(s)
    except OSError:
        return b""


def _answer(s: socket.socket) -> bytes:
    """The message that came on stream 1; empty if the call failed."""
    message = b""
    for kind, flags, stream, payload in _frames(s):
        if stream == 1 and kind == DATA:
            message += payload
        if kind == GOAWAY or (stream == 1 and flags & END_STREAM and kind in (DATA, HEADERS)):
            break
    return message[MESSAGE_HEADER_BYTES:]


def _frames(s: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    while len(header := _exactly(s, FRAME_HEADER_BYTES)) == FRAME_HEADER_BYTES:
        yield (
            header[3],
            header[4],
            int.from_bytes(header[5:], "big"),
            _exactly(s, int.from_bytes(header[:3], "big")),
        )


def _exactly(s: socket.socket, size: int) -> bytes:
    """So many bytes; fewer only at the end of the connection."""
    got = b""
    while len(got) < size and (more := s.recv(size - len(got))):
        got += more
    return got


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    match arguments:
        case ["--alive", path]:
            good = bool(ask(path))
        case [path] if not path.startswith("-"):
            good = is_serving(path)
        case _:
            print("usage: python -m phantomband.runtime.healthcheck [--alive] SOCKET", file=sys.stderr)
            return 2
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
