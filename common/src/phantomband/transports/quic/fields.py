"""Header fields of HTTP/3 requests and answers, by nginx's rules (RFC 9114, section 4.3, has the pseudo-headers)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from phantomband.transports.quic.frames import Code, H3Error
from phantomband.transports.quic.qpack import huffman_bytes
from phantomband.transports.website import answers
from phantomband.transports.website.exchange import Answer
from phantomband.transports.website.http import (
    HOST,
    MAX_HEAD,
    MAX_LINE,
    METHOD,
    NAME,
    BadRequest,
    Request,
    is_target,
    joined,
)

Fields = Sequence[tuple[bytes, bytes]]

VERSION = (3, 0)

_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_BREAKS = re.compile(rb"[\0\r\n]")
_BAD_NAME = re.compile(rb"[\0- A-Z:\x7f]")
_OF_ONE_HOP = frozenset(("connection", "transfer-encoding", "keep-alive", "upgrade"))
"""MUST NOT be sent in HTTP/3 (RFC 9114, section 4.2)."""


def request_untrusted(fields: Fields) -> Request:
    """A request's head.

    Raises:
        BadRequest: it is none; says how to answer.
        H3Error: a line is longer than nginx reads.
    """
    pseudo: dict[bytes, str] = {}
    lines: list[tuple[str, str]] = []
    left = MAX_HEAD
    for name, value in fields:
        _short_enough_untrusted(name, value)
        left -= len(name) + len(value)
        if left < 0:
            raise BadRequest(494, "the head is too long")
        if name.startswith(b":"):
            if lines or name not in _PSEUDO or name in pseudo or not value:
                raise BadRequest(400, "a pseudo-header that cannot stand there")
            pseudo[name] = value.decode("latin-1")
            continue
        if _BREAKS.search(value) or _BAD_NAME.search(name):
            raise BadRequest(400, "a header that cannot be one")
        lines.append((name.decode("latin-1"), value.decode("latin-1").strip(" ")))
    return _checked_untrusted(pseudo, [line for line in lines if NAME.fullmatch(line[0])])


def _short_enough_untrusted(name: bytes, value: bytes) -> None:
    """nginx measures a name or value as it is sent, that is mostly in Huffman's code."""
    for text in (name, value):
        if len(text) > MAX_LINE and huffman_bytes(text) > MAX_LINE:
            raise H3Error(Code.EXCESSIVE_LOAD)


def _checked_untrusted(pseudo: dict[bytes, str], lines: list[tuple[str, str]]) -> Request:
    method, target = pseudo.get(b":method", ""), pseudo.get(b":path", "")
    if not METHOD.fullmatch(method) or not is_target(target) or not _SCHEME.fullmatch(pseudo.get(b":scheme", "")):
        raise BadRequest(400, "no method, path or scheme")
    hosts = [value for name, value in lines if name == "host"]
    host = pseudo.get(b":authority") or (hosts[0] if hosts else "")
    if len(hosts) > 1 or not HOST.fullmatch(host) or (hosts and hosts[0] != host):
        raise BadRequest(400, "not one good authority")
    lengths = [value for name, value in lines if name == "content-length"]
    if len(lengths) > 1 or any(not n.isascii() or not n.isdecimal() or len(n) > 18 for n in lengths):
        raise BadRequest(400, "no good content-length")
    cookies = "; ".join(value for name, value in lines if name == "cookie")
    all_lines = [("host", host), *(line for line in lines if line[0] not in ("host", "cookie"))]
    if cookies:  # may come in parts (RFC 9114, section 4.2.1)
        all_lines.append(("cookie", cookies))
    whole = tuple(all_lines)
    return Request(method, target, VERSION, joined(whole), whole)


def fields_of(answer: Answer, now: float) -> list[tuple[bytes, bytes]]:
    """An answer's head: names in small letters, without what HTTP/3 has not."""
    ours = (("server", answers.SERVER), ("date", answers.http_date(now)))
    lines = [(n.lower(), v) for n, v in (*answer.lines, *answer.more) if n.lower() not in _OF_ONE_HOP]
    all_lines = ((":status", answer.status[:3]), *ours, *lines)
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in all_lines]
