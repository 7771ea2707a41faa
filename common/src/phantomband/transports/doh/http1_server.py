"""The same service over HTTP/1.1 (RFC 9112), for clients without HTTP/2: one request after the other.

**Limits**: `MAX_HEAD` bytes of request line and headers, 65,535 of a body, `REQUEST_SECONDS` for a request,
`IDLE_SECONDS` between them.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from phantomband.transports.base import Buffer, Connection
from phantomband.transports.doh.request import MAX_BODY, Request, Result, Service

MAX_HEAD = 96 * 1024
REQUEST_SECONDS = 15.0
IDLE_SECONDS = 75.0
MAX_FIELDS = 100

_METHOD = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Http1Server:
    """The receiver of the connection below. Args: lower: TLS; service: answers."""

    def __init__(self, lower: Connection, service: Service) -> None:
        self.lower = lower
        self._service = service
        self._data = bytearray()
        self._busy = self._ended = self._keep = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(REQUEST_SECONDS, self._late)

    @property
    def congested(self) -> bool:
        return self.lower.congested or self._ended

    # from the network

    def received(self, data: Buffer) -> None:
        if self._ended:
            return
        if not self._data and not self._busy:
            self._wait(REQUEST_SECONDS)
        self._data += data
        if len(self._data) > MAX_HEAD + MAX_BODY:
            self.lower.pause_reading()
        self._next()

    def _next(self) -> None:
        """Answers the request that is whole, if no other is being answered."""
        if self._busy or self._ended:
            return
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > MAX_HEAD:
                self._refuse(431)
            return
        try:
            request, size, self._keep = _head(bytes(self._data[:end]))
        except _Bad as bad:
            self._refuse(bad.status)
            return
        if len(self._data) < end + 4 + size:
            return
        request.body += self._data[end + 4 : end + 4 + size]
        del self._data[: end + 4 + size]
        self._busy = True
        self._timer.cancel()
        self._service.request(request, self, self._answer)

    def _answer(self, result: Result) -> None:
        if self._ended or not self._busy:
            return
        self._busy = False
        self._write(result)
        if not self._keep:
            self._close()
            return
        self._wait(REQUEST_SECONDS if self._data else IDLE_SECONDS)
        self.lower.resume_reading()
        if self._data:
            self._loop.call_soon(self._next)

    def _write(self, result: Result) -> None:
        lines = [f"HTTP/1.1 {result.status} {HTTPStatus(result.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in result.headers()]
        if not self._keep:
            lines.append("connection: close")
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        self.lower.write(head if result.head else head + result.body)

    def _refuse(self, status: int) -> None:
        self._keep = False
        self._write(Result(status))
        self._close()

    def _wait(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._refuse(408) if self._data else self._close()

    def _close(self) -> None:
        self._ended = True
        self._timer.cancel()
        self.lower.close()

    def writable(self) -> None:
        self._service.writable(self)

    def closed(self, error: Exception | None) -> None:
        self._ended = True
        self._timer.cancel()
        self._service.way_lost(self)


class _Bad(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def _head(head: bytes) -> tuple[Request, int, bool]:
    """Request, length of its body, and whether the connection stays. Raises: _Bad."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[0] or not set(words[0]) <= _METHOD or not words[1].startswith("/"):
        raise _Bad(400)
    if words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise _Bad(505 if words[2].startswith("HTTP/") else 400)
    if len(lines) > MAX_FIELDS:
        raise _Bad(431)
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line:
            raise _Bad(400)
        key = name.lower()
        if key in fields and key in ("content-length", "host", "transfer-encoding"):
            raise _Bad(400)
        fields[key] = value.strip()
    if "host" not in fields and words[2] == "HTTP/1.1":
        raise _Bad(400)
    if "transfer-encoding" in fields:
        raise _Bad(411)
    text = fields.get("content-length", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _Bad(400)
    if int(text) > MAX_BODY:
        raise _Bad(413)
    if words[0] == "POST" and "content-length" not in fields:
        raise _Bad(411)
    keep = fields.get("connection", "").lower() != "close" and words[2] == "HTTP/1.1"
    request = Request(words[0], words[1], fields.get("content-type", ""))
    return request, int(text), keep
