"""DNS messages (RFC 1035, section 4; RFC 6891), as far as a tunnel and a forwarder need them.

Written here because dnspython takes 60 to 100 us a message, and a tunnel through a resolver has thousands a second.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from phantomband.core.errors import Malformed

MAX_MESSAGE = 65535
MAX_NAME = 255
"""Bytes of a name on the wire, lengths and the root's 0 included (RFC 1035, section 2.3.4)."""

HEADER_BYTES = 12
PLAIN_UDP = 512
"""Bytes of a UDP answer to a query without EDNS."""
UDP_SIZE = 1232
"""EDNS size that we announce: what fits an IPv6 packet of 1,280 bytes (DNS flag day 2020)."""

A, NS, SOA, NULL, TXT, AAAA, OPT, ANY = 1, 2, 6, 10, 16, 28, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080

TUNNEL_OPTION = 65001
"""EDNS option of a direct tunnel's packets: the first of those for local use (RFC 6891, section 9)."""

PADDING_OPTION = 12

_HEADER = struct.Struct(">HHHHHH")
_RR = struct.Struct(">HHIH")
_LOWER = bytes(c + 32 if 65 <= c <= 90 else c for c in range(256))


@dataclass(frozen=True, slots=True)
class Question:
    """A query's header, its one question and its EDNS."""

    id: int
    flags: int
    name: bytes
    """As on the wire, in the case it came."""
    kind: int
    cls: int
    edns: int | None
    """Bytes that the asker takes over UDP; None: it has no EDNS."""
    edns_flags: int
    """Extended code, version and flags, as in an OPT record's TTL."""
    option: bytes
    """Data of TUNNEL_OPTION; nothing if there is none."""
    end: int
    """Offset behind the question."""

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15

    @property
    def labels(self) -> list[bytes]:
        """In lower case, the root left out."""
        return labels(self.name)

    @property
    def udp_limit(self) -> int:
        return max(PLAIN_UDP, self.edns or 0)


def labels(name: bytes) -> list[bytes]:
    """Of an uncompressed name on the wire, in lower case."""
    out, at, name = [], 0, name.translate(_LOWER)
    while name[at]:
        out.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return out


def encode_name(parts: list[bytes]) -> bytes:
    """Labels of 1 to 63 bytes."""
    return b"".join(bytes((len(p),)) + p for p in parts) + b"\0"


def parse_domain(text: str) -> list[bytes]:
    """Labels of a name as a person writes it, in lower case. Raises: ValueError: it is none."""
    parts = [p.encode("ascii") for p in text.lower().strip(".").split(".")]
    allowed = b"abcdefghijklmnopqrstuvwxyz0123456789-_"
    if not all(0 < len(p) < 64 and not p.strip(allowed) for p in parts) or len(encode_name(parts)) > MAX_NAME:
        raise ValueError("not a domain name")
    return parts


def _skip_name_untrusted(data: bytes, at: int) -> int:
    """The offset behind a name, compressed or not."""
    start = at
    while at < len(data):
        size = data[at]
        if size >= 0xC0:
            return at + 2
        if size > 63 or at - start > MAX_NAME:
            break
        at += 1 + size
        if not size:
            return at
    raise Malformed("a name in a DNS message is broken")


def _uncompressed(data: bytes, at: int, end: int) -> bool:
    """Whether the name at `at`, which ends at `end`, is whole: one that is not may end in a zero byte, too."""
    while 0 < data[at] < 64:
        at += 1 + data[at]
    return at == end - 1


def read_question_untrusted(data: bytes) -> Question:
    """A query.

    Raises:
        Malformed: it is no query with one question.
    """
    if not HEADER_BYTES < len(data) <= MAX_MESSAGE:
        raise Malformed("a DNS message has 13 to 65,535 bytes")
    ident, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if flags & QR or questions != 1:
        raise Malformed("not a DNS query with one question")
    end = _skip_name_untrusted(data, HEADER_BYTES)
    if end + 4 > len(data) or end - HEADER_BYTES > MAX_NAME or not _uncompressed(data, HEADER_BYTES, end):
        raise Malformed("a DNS question is broken")
    name = data[HEADER_BYTES:end]
    kind, cls = int.from_bytes(data[end : end + 2], "big"), int.from_bytes(data[end + 2 : end + 4], "big")
    at, edns, edns_flags, option = end + 4, None, 0, b""
    for _ in range(answers + authority + additional):
        rr, size, start, at = _record_untrusted(data, at)
        if rr == OPT:
            edns, edns_flags = size, int.from_bytes(data[start - 6 : start - 2], "big")
            option = _option_untrusted(data, start, at)
    return Question(ident, flags, name, kind, cls, edns, edns_flags, option, end + 4)


def _record_untrusted(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Type, class, offset of the data, offset behind it."""
    at = _skip_name_untrusted(data, at)
    if at + _RR.size > len(data):
        raise Malformed("a DNS record is broken")
    kind, cls, _, size = _RR.unpack_from(data, at)
    at += _RR.size
    if at + size > len(data):
        raise Malformed("a DNS record ends early")
    return kind, cls, at, at + size


def _option_untrusted(data: bytes, at: int, end: int) -> bytes:
    """TUNNEL_OPTION's data in an OPT record's."""
    while at < end:
        if at + 4 > end:
            break
        code, size = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        at += 4 + size
        if at > end:
            break
        if code == TUNNEL_OPTION:
            return data[at - size : at]
    else:
        return b""
    raise Malformed("an EDNS option is broken")


def query(ident: int, name: bytes, kind: int, option: bytes = b"", size: int = UDP_SIZE, pad: int = 0) -> bytes:
    """A query with EDNS.

    Args: option: data of TUNNEL_OPTION, empty: none; size: announced; pad: the length becomes a multiple of this, by
    the padding option (RFC 7830; RFC 8467 says 128).
    """
    rest = struct.pack(">HH", TUNNEL_OPTION, len(option)) + option if option else b""
    if pad:
        empty = HEADER_BYTES + len(name) + 4 + 1 + _RR.size + len(rest) + 4
        rest += struct.pack(">HH", PADDING_OPTION, -empty % pad) + bytes(-empty % pad)
    return b"".join(
        (
            _HEADER.pack(ident, RD, 1, 0, 0, 1), name, struct.pack(">HH", kind, IN),
            b"\0", _RR.pack(OPT, size, 0, len(rest)), rest,
        )
    )  # fmt: skip


def option_answer(q: Question, asked: bytes, option: bytes) -> bytes:
    """An answer without records, whose EDNS has `option`."""
    rest = struct.pack(">HH", TUNNEL_OPTION, len(option)) + option
    return b"".join(
        (
            _HEADER.pack(q.id, QR | RA | (q.flags & RD), 1, 0, 0, 1), asked[HEADER_BYTES : q.end],
            b"\0", _RR.pack(OPT, UDP_SIZE, 0, len(rest)), rest,
        )
    )  # fmt: skip


OPTION_OVERHEAD = 4 + 11
"""Bytes of an OPT record with one option, without its data."""


def reply(
    q: Question,
    asked: bytes,
    code: int,
    answers: list[bytes] | None = None,
    authority: list[bytes] | None = None,
    flags: int = 0,
) -> bytes:
    """An answer with records as `record` makes them; the question as it was asked."""
    answers, authority = answers or [], authority or []
    head = _HEADER.pack(
        q.id, QR | (q.flags & (RD | 0x7800)) | flags | code, 1, len(answers), len(authority), q.edns is not None
    )
    edns = b"" if q.edns is None else b"\0" + _RR.pack(OPT, UDP_SIZE, 0, 0)
    return b"".join((head, asked[HEADER_BYTES : q.end], *answers, *authority, edns))


def record(name: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    """`name`: on the wire, or a pointer such as QUESTION_NAME."""
    return name + _RR.pack(kind, IN, ttl, len(data)) + data


QUESTION_NAME = b"\xc0\x0c"
RECORD_OVERHEAD = 2 + _RR.size


def text_data(data: bytes) -> bytes:
    """As TXT has it: strings of up to 255 bytes, each behind its length."""
    return b"".join(bytes((len(data[i : i + 255]),)) + data[i : i + 255] for i in range(0, max(1, len(data)), 255))


def text_room(size: int) -> int:
    """How many bytes fit `size` bytes of TXT data."""
    return size - -(-size // 256)


def read_text_untrusted(data: bytes) -> bytes:
    """Raises: Malformed: it is no TXT data."""
    out, at = [], 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise Malformed("a TXT record ends early")
        out.append(data[at + 1 : end])
        at = end
    return b"".join(out)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, as far as a tunnel's client needs it."""

    id: int
    flags: int
    data: bytes
    """Of the first answer record of the kind asked for; nothing if there is none."""
    option: bytes
    ttl: int | None
    """The smallest of all records; None: it has none."""

    @property
    def code(self) -> int:
        return self.flags & 15

    @property
    def truncated(self) -> bool:
        return bool(self.flags & TC)


def read_response_untrusted(data: bytes, kind: int) -> Response:
    """An answer.

    Args: kind: type of the record whose data is wanted.

    Raises:
        Malformed: it is none.
    """
    if not HEADER_BYTES <= len(data) <= MAX_MESSAGE:
        raise Malformed("a DNS message has 12 to 65,535 bytes")
    ident, flags, questions, answers, authority, additional = _HEADER.unpack_from(data)
    if not flags & QR or questions > 1:
        raise Malformed("not a DNS answer")
    at = HEADER_BYTES
    for _ in range(questions):
        at = _skip_name_untrusted(data, at) + 4
    found, option, ttls = b"", b"", []
    for index in range(answers + authority + additional):
        if flags & TC and at == len(data):
            break
        rr, _, start, end = _record_untrusted(data, at)
        if rr == OPT:
            option = _option_untrusted(data, start, end)
        else:
            ttls.append(int.from_bytes(data[start - 6 : start - 2], "big"))
            if rr == kind and not found and index < answers:
                found = data[start:end]
        at = end
    return Response(ident, flags, found, option, min(ttls) if ttls else None)


DO = 0x8000
"""Of `edns_flags`: wants signatures (RFC 3225)."""


def forwarded(q: Question, asked: bytes, ident: int) -> bytes:
    """The question again under another id, with EDNS if it had it, but no options: those are between neighbours
    (RFC 6891, section 6.1.1)."""
    head = _HEADER.pack(ident, q.flags, 1, 0, 0, q.edns is not None)
    edns = b"" if q.edns is None else b"\0" + _RR.pack(OPT, UDP_SIZE, q.edns_flags & DO, 0)
    return head + asked[HEADER_BYTES : q.end] + edns


def with_id(data: bytes, ident: int) -> bytes:
    return ident.to_bytes(2, "big") + data[2:]
