"""A visitor of an HTTP/3 port: aioquic's HTTP/3, and frames and bytes as one likes them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pylsqpack
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

HOST = "www.example.org"
PATIENCE = 30.0

DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
"""Types of frames (RFC 9114, section 7.2)."""

Lines = list[tuple[str, str]]


@dataclass
class Answer:
    """What came on one request's stream."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    reset: int | None = None
    stopped: int | None = None

    @property
    def status(self) -> str:
        return dict(self.lines).get(":status", "")

    @property
    def over(self) -> bool:
        return self.whole or self.reset is not None


def lines_of(path: str = "/", method: str = "GET", more: Sequence[tuple[str, str]] = ()) -> Lines:
    """A request's, in the order of browsers."""
    return [(":method", method), (":authority", HOST), (":scheme", "https"), (":path", path), *more]


def frame(kind: int, payload: bytes) -> bytes:
    return encode_uint_var(kind) + encode_uint_var(len(payload)) + payload


def section(lines: Sequence[tuple[str, str]]) -> bytes:
    """Header lines by QPACK's static table."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    return bytes(pylsqpack.Encoder().encode(0, raw)[1])


def headers(lines: Sequence[tuple[str, str]]) -> bytes:
    """A HEADERS frame."""
    return frame(HEADERS, section(lines))


class Visitor(QuicConnectionProtocol):
    """One connection. `http` is aioquic's HTTP/3 on it, made by whoever wants its control streams."""

    def __init__(self, quic: QuicConnection, stream_handler: object = None) -> None:
        super().__init__(quic)
        self.http: H3Connection | None = None
        self.answers: dict[int, Answer] = {}
        self.raw: dict[int, bytearray] = {}
        self.closed: tuple[int, str] | None = None
        self.changed = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case HandshakeCompleted():
                self.http = H3Connection(self._quic) if self.speaks else None
            case StreamDataReceived(stream_id=stream, data=data):
                self.raw.setdefault(stream, bytearray()).extend(data)
            case StreamReset(stream_id=stream, error_code=code):
                self.answer(stream).reset = code
            case StopSendingReceived(stream_id=stream, error_code=code):
                self.answer(stream).stopped = code
            case ConnectionTerminated(error_code=code, reason_phrase=reason):
                self.closed = (code, reason)
            case _:
                pass
        for got in self.http.handle_event(event) if self.http is not None else ():
            match got:
                case HeadersReceived(stream_id=stream, headers=lines, stream_ended=end):
                    answer = self.answer(stream)
                    answer.lines += [(n.decode("latin-1"), v.decode("latin-1")) for n, v in lines]
                    answer.whole |= end
                case DataReceived(stream_id=stream, data=data, stream_ended=end):
                    answer = self.answer(stream)
                    answer.body += data
                    answer.whole |= end
                case _:
                    pass
        self.changed.set()

    speaks = True
    """Whether it opens its HTTP/3 streams."""

    def answer(self, stream: int) -> Answer:
        return self.answers.setdefault(stream, Answer())

    def send(self, stream: int, data: bytes, end: bool = False) -> None:
        """Bytes of any stream, as they are."""
        self._quic.send_stream_data(stream, data, end)
        self.transmit()

    def reset(self, stream: int, code: int = 0x10C) -> None:
        self._quic.reset_stream(stream, code)
        self.transmit()

    def ask(self, lines: Sequence[tuple[str, str]], body: bytes = b"", end: bool = True) -> int:
        """Sends a request. Returns: its stream."""
        stream = int(self._quic.get_next_available_stream_id())
        self.send(stream, headers(lines) + (frame(DATA, body) if body else b""), end)
        return stream

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    async def get(
        self, path: str = "/", method: str = "GET", more: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> Answer:
        """A whole answer, or how it failed."""
        stream = self.ask(lines_of(path, method, more), body)
        await self.until(lambda: self.answer(stream).over or self.closed is not None)
        return self.answer(stream)


class Mute(Visitor):
    speaks = False


@asynccontextmanager
async def visitor(port: int, kind: type[Visitor] = Visitor, **options: object) -> AsyncIterator[Visitor]:
    """Args: options: of aioquic's configuration."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        verify_mode=ssl.CERT_NONE,
        server_name=HOST,
        **options,  # type: ignore[arg-type]
    )
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=kind) as made:
        assert isinstance(made, Visitor)
        yield made
