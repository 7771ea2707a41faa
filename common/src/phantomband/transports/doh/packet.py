"""Packets of a tunnel's session: one in each query, one in each answer. Integers are big-endian.

    query   session 8 | number 4 | flags 1 | ack 4 | credit 2 | top 2 | bitmap 8 | [open 10] | [offset 4 | data] | mac 8
    answer  number 4 | flags 1 | backlog 1 | ack 4 | credit 2 | [offset 4 | data] | mac 8
    open    version 1 | minutes since 1970 4 | answer limit 2 | hold 2 | options 1

`ack` is how many bytes came in order (the end of the stream counts as one), `credit` how many more may come, in units
of 1,024. `top` and `bitmap` are the answers that came: `top` is the low half of the highest number, bit i of `bitmap`
is that of number top - 1 - i. Offsets and acks are the low 32 bits of 64: no more than 2^31 is ever in flight.

The MAC is the first 8 bytes of HMAC-SHA256 under a key of this session and direction; an answer's covers the session
and number of its query first. It tells the tunnel's packets from other queries, and from what resolvers make up; it
hides nothing. The link's handshake inside does that.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

from phantomband.core.errors import Forged, Malformed

TOKEN_BYTES = 32
SESSION_BYTES = 8
MAC_BYTES = 8
VERSION = 1
BITMAP_BITS = 64
CREDIT_UNIT = 1024

OPEN, DATA, FIN, RESET, HELD = 1, 2, 4, 8, 16
"""Flags. OPEN: a session begins, or has begun. FIN: the stream ends behind `data`. HELD: this answer waited."""

_QUERY = struct.Struct(">8sIBIHHQ")
_ANSWER = struct.Struct(">IBBIH")
_OPEN = struct.Struct(">BIHHB")
_OFFSET = struct.Struct(">I")

QUERY_OVERHEAD = _QUERY.size + MAC_BYTES
"""Bytes of a query's packet without data: 37."""
DATA_OVERHEAD = _OFFSET.size
OPEN_BYTES = _OPEN.size
ANSWER_OVERHEAD = _ANSWER.size + MAC_BYTES
"""Bytes of an answer's packet without data: 20."""

MAX_NUMBER = 2**32 - 1
_LABELS = (b"pb-doh-1:query", b"pb-doh-1:answer")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a client asks for."""

    minutes: int
    """Since 1970, by the client's clock."""
    limit: int
    """Bytes of a DNS answer, at most."""
    hold: int
    """Units of 10 ms for which a query may wait for data."""
    reliable: bool
    """Queries and answers are not lost while their connection lives."""


@dataclass(slots=True)
class Query:
    session: bytes
    number: int
    flags: int
    ack: int
    credit: int
    top: int
    bitmap: int
    opening: Opening | None = None
    offset: int = 0
    data: bytes | memoryview = b""


@dataclass(slots=True)
class Answer:
    number: int
    flags: int
    backlog: int
    ack: int
    credit: int
    offset: int = 0
    data: bytes | memoryview = b""


class Keys:
    """Of one session. Args: token: 32 bytes, the node's; session: 8 bytes, the client's choice."""

    __slots__ = ("_answer", "_query", "session")

    def __init__(self, token: bytes, session: bytes) -> None:
        self.session = session
        self._query, self._answer = (hmac.digest(token, label + session, "sha256") for label in _LABELS)

    def seal_query(self, q: Query) -> bytes:
        """Returns: the packet, QUERY_OVERHEAD bytes and more."""
        parts = [_QUERY.pack(q.session, q.number, q.flags, q.ack & MAX_NUMBER, q.credit, q.top & 0xFFFF, q.bitmap)]
        if q.opening is not None:
            o = q.opening
            parts.append(_OPEN.pack(VERSION, o.minutes, o.limit, o.hold, o.reliable))
        if q.flags & (DATA | FIN):
            parts += (_OFFSET.pack(q.offset & MAX_NUMBER), bytes(q.data))
        body = b"".join(parts)
        return body + hmac.digest(self._query, body, "sha256")[:MAC_BYTES]

    def check_query_untrusted(self, packet: bytes) -> None:
        """Raises: Forged: the MAC is wrong."""
        body = memoryview(packet)[:-MAC_BYTES]
        if not hmac.compare_digest(hmac.digest(self._query, body, "sha256")[:MAC_BYTES], packet[-MAC_BYTES:]):
            raise Forged("a query's MAC is wrong")

    def seal_answer(self, query: int, a: Answer) -> bytes:
        """Returns: the packet that answers query number `query`, ANSWER_OVERHEAD bytes and more."""
        parts = [_ANSWER.pack(a.number, a.flags, a.backlog, a.ack & MAX_NUMBER, a.credit)]
        if a.flags & (DATA | FIN):
            parts += (_OFFSET.pack(a.offset & MAX_NUMBER), bytes(a.data))
        body = b"".join(parts)
        return body + self._answer_mac(query, body)

    def _answer_mac(self, query: int, body: bytes | memoryview) -> bytes:
        covered = b"".join((self.session, query.to_bytes(4, "big"), body))
        return hmac.digest(self._answer, covered, "sha256")[:MAC_BYTES]

    def open_answer_untrusted(self, query: int, packet: bytes) -> Answer:
        """Raises: Malformed: too short; Forged: the MAC is wrong."""
        if len(packet) < ANSWER_OVERHEAD:
            raise Malformed("an answer's packet is too short")
        body = memoryview(packet)[:-MAC_BYTES]
        if not hmac.compare_digest(self._answer_mac(query, body), packet[-MAC_BYTES:]):
            raise Forged("an answer's MAC is wrong")
        number, flags, backlog, ack, credit = _ANSWER.unpack_from(body)
        offset, data = _data_untrusted(flags, body, _ANSWER.size)
        return Answer(number, flags, backlog, ack, credit, offset, data)


def session_untrusted(packet: bytes) -> bytes:
    """The session of what may be a query's packet. Raises: Malformed: too short."""
    if len(packet) < QUERY_OVERHEAD:
        raise Malformed("a query's packet is too short")
    return packet[:SESSION_BYTES]


def read_query_untrusted(packet: bytes) -> Query:
    """A packet whose MAC has been checked. Raises: Malformed: it is not of this form."""
    if len(packet) < QUERY_OVERHEAD:
        raise Malformed("a query's packet is too short")
    body = memoryview(packet)[:-MAC_BYTES]
    session, number, flags, ack, credit, top, bitmap = _QUERY.unpack_from(body)
    at = _QUERY.size
    opening = None
    if flags & OPEN:
        if len(body) < at + OPEN_BYTES:
            raise Malformed("a packet's opening is too short")
        version, minutes, limit, hold, options = _OPEN.unpack_from(body, at)
        if version != VERSION or options > 1:
            raise Malformed("a session of an unknown version")
        opening = Opening(minutes, limit, hold, bool(options))
        at += OPEN_BYTES
    offset, data = _data_untrusted(flags, body, at)
    return Query(session, number, flags, ack, credit, top, bitmap, opening, offset, data)


def _data_untrusted(flags: int, body: memoryview, at: int) -> tuple[int, memoryview | bytes]:
    if not flags & (DATA | FIN):
        if len(body) != at:
            raise Malformed("bytes behind a packet without data")
        return 0, b""
    if len(body) < at + DATA_OVERHEAD:
        raise Malformed("a packet's data is too short")
    return _OFFSET.unpack_from(body, at)[0], body[at + DATA_OVERHEAD :]


def near(low: int, known: int) -> int:
    """The number closest to `known` whose low 32 bits are `low`."""
    return known + ((low - known + 2**31) & MAX_NUMBER) - 2**31
