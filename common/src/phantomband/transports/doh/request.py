"""A DNS-over-HTTPS request and its result, whatever version of HTTP carries them (RFC 8484, sections 4 and 5)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs

from phantomband.transports.doh.server import Way

MAX_BODY = 65535
MEDIA_TYPE = "application/dns-message"


@dataclass(slots=True)
class Request:
    method: str
    target: str
    media_type: str
    since: float = 0.0
    """When its headers came."""
    body: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class Result:
    """What is answered. `max_age`: seconds, for `cache-control`; None: without."""

    status: int
    body: bytes = b""
    media_type: str = ""
    max_age: int | None = None
    allow: str = ""
    head: bool = field(default=False)

    def headers(self) -> list[tuple[str, str]]:
        out = []
        if self.media_type:
            out.append(("content-type", self.media_type))
        out.append(("content-length", str(len(self.body))))
        if self.max_age is not None:
            out.append(("cache-control", f"max-age={self.max_age}"))
        if self.allow:
            out.append(("allow", self.allow))
        return out


Answer = Callable[[Result], None]


class Service(Protocol):
    """Who answers."""

    def request(self, request: Request, way: Way, answer: Answer) -> None: ...

    def writable(self, way: Way) -> None: ...

    def way_lost(self, way: Way) -> None: ...


def message_of(request: Request, path: str) -> bytes | Result:
    """The DNS message of a request, or what is answered without looking at one."""
    place, _, query = request.target.partition("?")
    if place != path:
        return Result(404)
    match request.method:
        case "POST":
            if request.media_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
                return Result(415)
            return bytes(request.body) if len(request.body) <= MAX_BODY else Result(413)
        case "GET" | "HEAD":
            return _from_query(query)
        case _:
            return Result(405, allow="GET, HEAD, POST")


def _from_query(query: str) -> bytes | Result:
    try:
        (text,) = parse_qs(query, strict_parsing=True, max_num_fields=16)["dns"]
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (KeyError, ValueError, binascii.Error):
        return Result(400)
    return raw if len(raw) <= MAX_BODY else Result(413)
