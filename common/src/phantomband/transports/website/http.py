"""Heads of HTTP/1.1 requests, as a web server reads them (RFC 9112); limits and answers are nginx's defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from phantomband.core.errors import Malformed

MAX_LINE = 8 * 1024
"""Bytes of the request line and of each header line (nginx: large_client_header_buffers)."""

MAX_HEAD = 32 * 1024
"""Bytes of a head."""

METHOD = re.compile(r"[A-Z_-]+")
_REQUEST_LINE = re.compile(r"([A-Z_-]+) (\S+)(?: +HTTP/(\d{1,3})\.(\d{1,3}))? *")
NAME = re.compile(r"[0-9A-Za-z-]+")
_BEGINNING = re.compile(rb"[A-Z_-]*(?: +(?:[/A-Za-z].*)?)?", re.DOTALL)
HOST = re.compile(r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]+")


class BadRequest(Malformed):
    """A request that is answered with an error at once, and the connection closed. Args: status: of the answer."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request's head."""

    method: str
    target: str
    """Path and query."""
    version: tuple[int, int]
    headers: Mapping[str, str]
    """Names in small letters; of lines with the same name the values are joined by commas."""
    lines: tuple[tuple[str, str], ...] = ()
    """As they came."""

    @property
    def keep_alive(self) -> bool:
        asked = tokens(self.headers.get("connection", ""))
        return "close" not in asked and (self.version >= (1, 1) or "keep-alive" in asked)


def tokens(value: str) -> set[str]:
    """Members of a comma-separated list, in small letters."""
    return {word.strip().lower() for word in value.split(",")}


def parse_lines_untrusted(lines: bytes) -> tuple[tuple[str, str], ...]:
    """Header lines, separated by CR LF or LF. Lines that are none are left out, as nginx does.

    Raises:
        Malformed: there is a zero byte.
    """
    out = []
    for raw in lines.split(b"\n"):
        line = raw.removesuffix(b"\r").decode("latin-1")
        if "\0" in line:
            raise Malformed("a header has a zero byte")
        name, colon, value = line.partition(":")
        if colon and NAME.fullmatch(name) and "\r" not in value:
            out.append((name, value.strip(" \t")))
    return tuple(out)


def parse_headers_untrusted(lines: bytes) -> dict[str, str]:
    """The same as a mapping; see `Request.headers`. Raises: Malformed."""
    return joined(parse_lines_untrusted(lines))


def joined(lines: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Header lines as `Request.headers` has them."""
    out: dict[str, str] = {}
    for name, value in lines:
        key = name.lower()
        out[key] = f"{out[key]}, {value}" if key in out else value
    return out


def head_end_untrusted(data: bytearray) -> int:
    """Returns: bytes of the head that `data` begins with, its empty line included; 0 if it is not there whole yet.

    Raises:
        BadRequest: it grows too long.
    """
    ends = [at + len(mark) for mark in (b"\n\r\n", b"\n\n") if (at := data.find(mark, 0, MAX_HEAD + 4)) >= 0]
    newline = data.find(b"\n")
    if not _BEGINNING.fullmatch(data[: newline if newline >= 0 else len(data)][:64].rstrip(b"\r")):
        raise BadRequest(400, "no request line")
    if newline > MAX_LINE or (newline < 0 and len(data) > MAX_LINE):
        raise BadRequest(414, "the request line is too long")
    if ends:
        return min(ends)
    if newline >= 0 and not re.search(rb"HTTP/\d", data[:newline]):
        return newline + 1  # HTTP/0.9, or nothing that we know
    if len(data) > MAX_HEAD or len(data) - data.rfind(b"\n") > MAX_LINE:
        raise BadRequest(494, "the head is too long")
    return 0


def parse_untrusted(head: bytes) -> Request:
    """A request from its head.

    Raises:
        BadRequest: it is none; says how to answer.
    """
    first, _, rest = head.partition(b"\n")
    if any(len(line) > MAX_LINE for line in rest.split(b"\n")):
        raise BadRequest(494, "a header line is too long")
    match = _REQUEST_LINE.fullmatch(first.removesuffix(b"\r").decode("latin-1"))
    if match is None:
        raise BadRequest(400, "no request line")
    version = (int(match[3]), int(match[4])) if match[3] else (0, 9)
    target = _ABSOLUTE.sub("", match[2], count=1) or "/"
    if not is_target(target):
        raise BadRequest(400, "no path")
    if version[0] > 1:
        raise BadRequest(505, "a version of HTTP that is not ours")
    if version == (0, 9):
        if match[1] != "GET":
            raise BadRequest(400, "HTTP/0.9 has GET only")
        return Request("GET", target, version, {})
    try:
        lines = parse_lines_untrusted(rest.rstrip(b"\r\n"))
    except Malformed as e:
        raise BadRequest(400, str(e)) from None
    return _checked(Request(match[1], target, version, joined(lines), lines))


def is_target(text: str) -> bool:
    """Whether it is a path, maybe with a query."""
    return text.startswith("/") and not any(c < "!" or c == "\x7f" for c in text)


def _checked(request: Request) -> Request:
    hosts = [value for name, value in request.lines if name.lower() == "host"]
    if len(hosts) > 1 or (not hosts and request.version >= (1, 1)) or not all(HOST.fullmatch(h) for h in hosts):
        raise BadRequest(400, "not one good Host header")
    lengths = [value for name, value in request.lines if name.lower() == "content-length"]
    chunked = request.headers.get("transfer-encoding")
    if len(lengths) > 1 or (lengths and (chunked or not lengths[0].isdecimal() or len(lengths[0]) > 18)):
        raise BadRequest(400, "no good Content-Length header")
    if chunked is not None and chunked.lower() != "chunked":
        raise BadRequest(501, "an encoding that is not ours")
    return request


class Chunks:
    """Reads a body in chunks (RFC 9112, section 7.1)."""

    def __init__(self) -> None:
        self._left = 0  # of the chunk
        self._last = self._between = False

    def skip_untrusted(self, data: bytearray) -> bool:
        """`take_untrusted` for who does not want the body. Returns: whether that was its end. Raises: BadRequest."""
        return self.take_untrusted(data)[1]

    def take_untrusted(self, data: bytearray) -> tuple[bytes, bool]:
        """Takes what belongs to the body off `data`.

        Returns: what is in the chunks, and whether that was the end.

        Raises:
            BadRequest: it is none.
        """
        out = bytearray()
        while data:
            taken = min(self._left, len(data))
            out += data[:taken]
            del data[:taken]
            self._left -= taken
            end = data.find(b"\n")
            if self._left or (end < 0 and len(data) <= MAX_LINE):
                break
            if end < 0 or end > MAX_LINE:
                raise BadRequest(400, "a chunk's line is too long")
            line = bytes(data[:end]).rstrip(b"\r")
            del data[: end + 1]
            if self._last:
                if not line:
                    return bytes(out), True
                continue  # a trailer
            if self._between:
                if line:
                    raise BadRequest(400, "a chunk is longer than its size")
                self._between = False
                continue
            size = line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                raise BadRequest(400, "a chunk has no size")
            self._left = int(size, 16)
            self._last, self._between = not self._left, bool(self._left)
        return bytes(out), False
