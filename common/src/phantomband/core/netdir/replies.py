"""Replies of a directory: what answers a request (requests.py).

    reply = type 1 | body                                                                    at most 4 MiB
      0x81 VIEW              certified view
      0x82 NOT_NEWER         epoch held 8 (0: none)
      0x83 ACCEPTED          -
      0x84 DESCRIPTORS       count 2 | (length 2 | signed descriptor) * count
      0x85 VOTES             count 2 | (length 4 | signed vote) * count
      0x86 CHANGES           count 2 | (length 4 | signed change) * count
      0x87 GENESIS           genesis file, JSON
      0x88 VIEW_DIFF         difference of two certified views (view_diff.py)
      0x89 TABLE             a message of the directories' table, at least one byte
      0x8a RECONCILE         ranges (core/dht/reconcile.py)
      0x8b RECORDS           count 2 | (length 2 | stamp 1+n | signed descriptor) * count
      0xff REFUSED           code 1 | text 1+n

A reply with several documents may have fewer than were asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from phantomband.core.dircall import MAX_ANSWER_BYTES
from phantomband.core.errors import Malformed
from phantomband.core.netdir.ballot import MAX_VOTE_BYTES
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES
from phantomband.core.netdir.changes import MAX_CHANGE_BYTES
from phantomband.core.netdir.codec import text_untrusted
from phantomband.core.netdir.genesis_file import MAX_FILE_BYTES
from phantomband.core.netdir.requests import MAX_DIGESTS, MAX_RECORDS, MAX_VOTES, rest_within
from phantomband.core.wire import Reader, lv8, lv16, lv32, u8, u16, u64

MAX_REPLY_BYTES = MAX_ANSWER_BYTES
"""4 MiB: what a link carries as one answer."""

MAX_CHANGES = 64
"""In one reply."""

MAX_GENESIS_BYTES = MAX_FILE_BYTES
MAX_REASON_BYTES = 200


class Kind(IntEnum):
    """First byte of a reply."""

    VIEW = 0x81
    NOT_NEWER = 0x82
    ACCEPTED = 0x83
    DESCRIPTORS = 0x84
    VOTES = 0x85
    CHANGES = 0x86
    GENESIS = 0x87
    VIEW_DIFF = 0x88
    TABLE = 0x89
    RECONCILE = 0x8A
    RECORDS = 0x8B
    REFUSED = 0xFF


class Code(IntEnum):
    """Why a request was refused."""

    MALFORMED = 1
    """Not a request, or a document in it is not one, is forged, expired or of another network."""
    BUSY = 2
    """Too many requests from this peer or altogether: ask later or elsewhere."""
    NOT_HERE = 3
    """This node's directory does not do that, or not for whom asks."""
    FULL = 4
    """No room: of all nodes, or of the sender's address, network or rate; or the stamp is out of date."""


@dataclass(frozen=True, slots=True)
class ViewReply:
    """The newest certified view."""

    certified: bytes


@dataclass(frozen=True, slots=True)
class NotNewer:
    """There is none newer than the one asked from; `epoch` is the newest here, 0 for none."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was handed in was taken, or was here already."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Signed descriptors."""

    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Votes:
    """Signed votes."""

    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """Signed changes of the directory set, by number."""

    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GenesisReply:
    """The genesis file."""

    json: bytes


@dataclass(frozen=True, slots=True)
class ViewDiffReply:
    """What leads from the view that was named to the newest."""

    diff: bytes


@dataclass(frozen=True, slots=True)
class TableReply:
    """An answer of the directories' table."""

    message: bytes


@dataclass(frozen=True, slots=True)
class ReconcileReply:
    """Ranges with what is held here."""

    ranges: bytes


@dataclass(frozen=True, slots=True)
class Records:
    """(stamp, signed descriptor) of several nodes."""

    items: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class RefusedReply:
    """The request was not served."""

    code: Code
    reason: str


Reply = (
    ViewReply
    | NotNewer
    | Accepted
    | Descriptors
    | Votes
    | Changes
    | GenesisReply
    | ViewDiffReply
    | TableReply
    | ReconcileReply
    | Records
    | RefusedReply
)


def encode_reply(reply: Reply) -> bytes:
    """Returns: at most 4 MiB, when the lists were made with `fitting`."""
    match reply:
        case ViewReply(certified):
            return u8(Kind.VIEW) + certified
        case NotNewer(epoch):
            return u8(Kind.NOT_NEWER) + u64(epoch)
        case Accepted():
            return u8(Kind.ACCEPTED)
        case Descriptors(items):
            return u8(Kind.DESCRIPTORS) + u16(len(items)) + b"".join(map(lv16, items))
        case Votes(items):
            return u8(Kind.VOTES) + u16(len(items)) + b"".join(map(lv32, items))
        case Changes(items):
            return u8(Kind.CHANGES) + u16(len(items)) + b"".join(map(lv32, items))
        case GenesisReply(text):
            return u8(Kind.GENESIS) + text
        case ViewDiffReply(diff):
            return u8(Kind.VIEW_DIFF) + diff
        case TableReply(message):
            return u8(Kind.TABLE) + message
        case ReconcileReply(ranges):
            return u8(Kind.RECONCILE) + ranges
        case Records(pairs):
            return u8(Kind.RECORDS) + u16(len(pairs)) + b"".join(lv16(lv8(stamp) + one) for stamp, one in pairs)
        case RefusedReply(code, reason):
            return u8(Kind.REFUSED) + u8(code) + lv8(_printable(reason)[:MAX_REASON_BYTES])


def _printable(reason: str) -> bytes:
    """What readers take of a reason."""
    return "".join(one if " " <= one <= "~" else "?" for one in reason).encode("ascii")


def decode_reply_untrusted(data: bytes) -> Reply:
    """Reads one reply.

    Raises:
        Malformed: too long, unknown, cut, or bytes left over.
    """
    if len(data) > MAX_REPLY_BYTES:
        raise Malformed(f"a reply of {len(data)} bytes is over the limit of {MAX_REPLY_BYTES}")
    reader = Reader(data)
    kind = reader.u8()
    reply = _carrier(kind, reader) or _list_or_code(kind, reader)
    reader.end()
    return reply


def fitting(items: Sequence[bytes]) -> tuple[bytes, ...]:
    """As many of `items`, from the first, as one reply can carry."""
    room, taken = MAX_REPLY_BYTES - 16, 0
    for item in items:
        room -= len(item) + 4
        if room < 0:
            break
        taken += 1
    return tuple(items[:taken])


def _carrier(kind: int, reader: Reader) -> Reply | None:
    """A reply that is one document; None for others."""
    match kind:
        case Kind.VIEW:
            return ViewReply(rest_within(reader, MAX_CERTIFIED_BYTES))
        case Kind.GENESIS:
            return GenesisReply(rest_within(reader, MAX_GENESIS_BYTES))
        case Kind.VIEW_DIFF:
            return ViewDiffReply(reader.rest())
        case Kind.TABLE:
            return TableReply(reader.rest())
        case Kind.RECONCILE:
            return ReconcileReply(reader.rest())
    return None


def _list_or_code(kind: int, reader: Reader) -> Reply:
    match kind:
        case Kind.NOT_NEWER:
            return NotNewer(reader.u64())
        case Kind.ACCEPTED:
            return Accepted()
        case Kind.DESCRIPTORS:
            return Descriptors(_items(reader, MAX_DIGESTS, reader.lv16))
        case Kind.VOTES:
            return Votes(_items(reader, MAX_VOTES, lambda: reader.lv32(MAX_VOTE_BYTES)))
        case Kind.CHANGES:
            return Changes(_items(reader, MAX_CHANGES, lambda: reader.lv32(MAX_CHANGE_BYTES)))
        case Kind.RECORDS:
            return Records(tuple(map(_read_record, _items(reader, MAX_RECORDS, reader.lv16))))
        case Kind.REFUSED:
            return RefusedReply(_code(reader), text_untrusted(reader.lv8(), "a reason", MAX_REASON_BYTES))
    raise Malformed(f"unknown reply type {kind}")


def _items(reader: Reader, limit: int, take: Callable[[], bytes]) -> tuple[bytes, ...]:
    count = reader.u16()
    if count > limit:
        raise Malformed(f"at most {limit} documents in one reply, not {count}")
    return tuple(take() for _ in range(count))


def _read_record(item: bytes) -> tuple[bytes, bytes]:
    reader = Reader(item)
    stamp = reader.lv8()
    return stamp, reader.rest()


def _code(reader: Reader) -> Code:
    try:
        return Code(reader.u8())
    except ValueError as e:
        raise Malformed("unknown reason code") from e
