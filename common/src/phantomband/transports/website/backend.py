"""The site as another web server on this machine or its network: requests are passed on to it, as nginx's `proxy_pass`.

One connection to it for each request, which asks it to close afterwards; the answer goes back as it comes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Address, Buffer, Connection
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.website import answers
from phantomband.transports.website.exchange import Answer, Exchange, Out
from phantomband.transports.website.http import MAX_HEAD, Chunks, Request, parse_lines_untrusted

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""For the first byte of an answer (nginx: proxy_read_timeout)."""

MAX_EXCHANGES = 256
"""Requests under way; one more is answered 502."""

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "proxy-authorization", "expect",
    "transfer-encoding", "content-length",
})  # fmt: skip
"""Not passed on: they are about one connection (RFC 9110, section 7.6.1), or about bodies, which are not passed on."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([ -~]*))?\r?")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the other server is."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Origin:
        """From `http://IP:PORT`. Raises: ValueError: it is anything else."""
        url = urlsplit(text)
        if url.scheme != "http" or url.hostname is None or url.path not in ("", "/") or url.query or url.username:
            raise ValueError("write http://IP:PORT")
        host = ipaddress.ip_address(url.hostname)
        if not host.is_private:
            raise ValueError("only a server on this machine or a private network can be passed on to")
        return cls(str(host), url.port or 80)


class Backend:
    """A site that is another server."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._tcp = TcpTransport()
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, request: Request, out: Out) -> Exchange | None:
        passing = _Passing(request, out)
        if request.method not in ("GET", "HEAD"):
            # Bodies are not passed on: a site of files, as a decoy mostly is, takes none.
            passing.fail(405)
            return None
        if len(self._tasks) >= MAX_EXCHANGES:
            passing.fail(502)
            return None
        task = asyncio.get_running_loop().create_task(self._pass(passing))
        self._tasks.add(task)
        passing.task = task
        task.add_done_callback(self._tasks.discard)
        return passing

    async def _pass(self, passing: _Passing) -> None:
        """The one owner of a request's connection."""
        address = Address("tcp", self._origin.host, self._origin.port)
        try:
            await self._tcp.dial(address, passing.attach, CONNECT_SECONDS)
            async with asyncio.timeout(ANSWER_SECONDS):
                await passing.begun.wait()
            await passing.ended.wait()
        except Refused:
            passing.fail(502)
        except TimeoutError:
            passing.fail(504)
        finally:
            passing.abort()


class _Passing:
    """One request and its answer: the receiver of the connection to the other server."""

    def __init__(self, request: Request, out: Out) -> None:
        self._request, self._out = request, out
        self._lower: Connection | None = None
        self._head = bytearray()
        self._left: int | None = None  # bytes of a body of known length
        self._chunks: Chunks | None = None  # a body in chunks for a visitor whose HTTP has none
        self._over = False
        self.task: asyncio.Task[None] | None = None
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    def attach(self, connection: Connection) -> _Passing:
        self._lower = connection
        r = self._request
        lines = [(n, v) for n, v in r.lines if n.lower() not in HOP_BY_HOP]
        version = "1.1" if self._takes_chunks else "1.0"
        text = "".join((f"{r.method} {r.target} HTTP/{version}\r\n", *(f"{n}: {v}\r\n" for n, v in lines)))
        if "host" not in r.headers:
            text += "Host: localhost\r\n"
        asyncio.get_running_loop().call_soon(connection.write, (text + "Connection: close\r\n\r\n").encode("latin-1"))
        return self

    # from the other server

    def received(self, data: Buffer) -> None:
        if self._over:
            return
        if self.begun.is_set():
            self._body(bytes(data))
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= MAX_HEAD:
            return
        try:
            if end < 0:
                raise Malformed("the head is too long")
            self._answer(bytes(self._head[:end]))
        except Malformed:
            self.fail(502)
            return
        rest, self._head = bytes(self._head[end + 4 :]), bytearray()
        self._body(rest)

    def _answer(self, head: bytes) -> None:
        first, _, rest = head.partition(b"\n")
        match = _STATUS.fullmatch(first)
        if match is None or match[1] < b"200":
            raise Malformed("no answer")
        lines = parse_lines_untrusted(rest)
        names = {n.lower(): v for n, v in lines}
        bare = self._request.method == "HEAD" or match[1] in (b"204", b"304")
        chunked = names.get("transfer-encoding", "").lower() == "chunked"
        if bare:
            self._left = 0
        elif chunked:
            self._chunks = None if self._takes_chunks else Chunks()
        else:
            length = names.get("content-length", "")
            self._left = int(length) if length.isdecimal() and len(length) < 19 else None
        passed = [(n, v) for n, v in lines if n.lower() not in {"server", "date", "connection", "keep-alive"}]
        kinds = [line for line in passed if line[0].lower() in ("content-type", "content-length", "transfer-encoding")]
        others = [line for line in passed if line not in kinds]
        status = f"{match[1].decode()} {(match[2] or b'').decode()}"
        self.begun.set()
        endless = self._left is None and not (chunked and self._takes_chunks)  # its end is the connection's
        self._out.head(Answer(status, tuple(kinds), tuple(others), endless))

    @property
    def _takes_chunks(self) -> bool:
        """Whether a body in chunks can be passed on as it is."""
        return self._request.version < (2, 0)

    def _body(self, data: bytes) -> None:
        ended = False
        if self._chunks is not None:
            data, ended = self._unchunked(data)
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            ended = self._left == 0
        if data:
            self._out.send(data)
        if ended:
            self._finish(True)
        elif self._out.congested and self._lower is not None:
            self._lower.pause_reading()

    def _unchunked(self, data: bytes) -> tuple[bytes, bool]:
        assert self._chunks is not None  # noqa: S101  (the caller looked)
        self._head += data
        try:
            return self._chunks.take_untrusted(self._head)
        except Malformed:
            self._finish(False)
            return b"", False

    def writable(self) -> None:
        if self._lower is not None and not self._over:
            self._lower.resume_reading()

    def closed(self, error: Exception | None) -> None:
        if not self.begun.is_set():
            self.fail(502)
        else:
            self._finish(error is None and not self._left and self._chunks is None)

    # ends

    def _finish(self, whole: bool) -> None:
        if not self._over:
            self._over = True
            self.begun.set()
            self.ended.set()
            self._out.done(whole)

    def fail(self, status: int) -> None:
        if self._over:
            return
        if self.begun.is_set():
            self._finish(False)
            return
        self._over = True
        self.begun.set()
        self.ended.set()
        answers.refuse(status, self._request, self._out)

    def abort(self) -> None:
        if self._lower is not None:
            self._lower.abort()

    def cancel(self) -> None:
        """The visitor is gone."""
        self._over = True
        if self.task is not None:
            self.task.cancel()
