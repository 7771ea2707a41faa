"""Requests to a directory and its replies: what DIRECTORY cells and PeerCall carry.

    request = type 1 | body                                                                  at most 64 KiB
      0x01 GET_VIEW          epoch held 8 (0: none)
      0x02 PUBLISH           signed descriptor
      0x03 GET_DESCRIPTORS   count 2 | digest 32 * count, sorted
      0x04 VOTE, 0x05 ECHO, 0x06 SIGNATURE   the signed message (ballot.py)
      0x07 GET_VOTES         epoch 8 | count 1 | digest 32 * count, sorted

    reply = type 1 | body                                                                    at most 4 MiB
      0x81 VIEW              certified view
      0x82 NOT_NEWER         epoch held 8 (0: none)
      0x83 ACCEPTED          -
      0x84 DESCRIPTORS       count 2 | (length 2 | signed descriptor) * count
      0x85 VOTES             count 2 | (length 4 | signed vote) * count
      0xff REFUSED           code 1 | text 1+n

A reply with several documents may have fewer than were asked for. Unknown types are refused as malformed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from phantomband.core.errors import Malformed
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES
from phantomband.core.netdir.codec import DIGEST_BYTES, sorted_unique, text_untrusted
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES
from phantomband.core.netdir.genesis import MAX_DIRECTORIES
from phantomband.core.netdir.voting_events import BallotKind
from phantomband.core.wire import Reader, lv8, lv16, lv32, u8, u16, u64

MAX_REQUEST_BYTES = 64 * 1024
MAX_REPLY_BYTES = 4 * 1024 * 1024

MAX_DIGESTS = 768
"""In one GET_DESCRIPTORS: as many as a vote can name."""

MAX_VOTES = 2 * MAX_DIRECTORIES
"""In one GET_VOTES or its reply."""

MAX_REASON_BYTES = 200


class Kind(IntEnum):
    """First byte of a request or reply."""

    GET_VIEW = 0x01
    PUBLISH = 0x02
    GET_DESCRIPTORS = 0x03
    VOTE = 0x04
    ECHO = 0x05
    SIGNATURE = 0x06
    GET_VOTES = 0x07
    VIEW = 0x81
    NOT_NEWER = 0x82
    ACCEPTED = 0x83
    DESCRIPTORS = 0x84
    VOTES = 0x85
    REFUSED = 0xFF


class Code(IntEnum):
    """Why a request was refused."""

    MALFORMED = 1
    """Not a request, or a document in it is not one, is forged, expired or of another network."""
    BUSY = 2
    """Too many requests from this peer or altogether: ask later or elsewhere."""
    NOT_HERE = 3
    """This node's directory does not do that: it is not of the genesis set."""
    FULL = 4
    """No room for another node."""


@dataclass(frozen=True, slots=True)
class GetView:
    """Wants a view newer than the epoch held (0: any)."""

    have_epoch: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Hands in a signed descriptor."""

    descriptor: bytes


@dataclass(frozen=True, slots=True)
class GetDescriptors:
    """Wants descriptors by digest, sorted."""

    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ballot:
    """Delivers a VOTE, ECHO or SIGNATURE."""

    kind: BallotKind
    data: bytes


@dataclass(frozen=True, slots=True)
class GetVotes:
    """Wants votes of an epoch by digest, sorted."""

    epoch: int
    digests: tuple[bytes, ...]


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
class RefusedReply:
    """The request was not served."""

    code: Code
    reason: str


Request = GetView | Publish | GetDescriptors | Ballot | GetVotes
Reply = ViewReply | NotNewer | Accepted | Descriptors | Votes | RefusedReply


def encode_request(request: Request) -> bytes:
    """Returns: at most 64 KiB."""
    match request:
        case GetView(have_epoch):
            return u8(Kind.GET_VIEW) + u64(have_epoch)
        case Publish(descriptor):
            return u8(Kind.PUBLISH) + descriptor
        case GetDescriptors(digests):
            return u8(Kind.GET_DESCRIPTORS) + u16(len(digests)) + b"".join(digests)
        case Ballot(kind, data):
            return u8(_BALLOT_KINDS[kind]) + data
        case GetVotes(epoch, digests):
            return u8(Kind.GET_VOTES) + u64(epoch) + u8(len(digests)) + b"".join(digests)


def decode_request_untrusted(data: bytes) -> Request:
    """Reads one request; what it carries is read by its own decoder.

    Raises:
        Malformed: too long, unknown, cut, or bytes left over.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise Malformed(f"a request of {len(data)} bytes is over the limit of {MAX_REQUEST_BYTES}")
    reader = Reader(data)
    kind = reader.u8()
    if kind in _BALLOTS:
        return Ballot(_BALLOTS[kind], reader.rest())
    match kind:
        case Kind.GET_VIEW:
            request: Request = GetView(reader.u64())
        case Kind.PUBLISH:
            request = Publish(_rest(reader, MAX_DESCRIPTOR_BYTES))
        case Kind.GET_DESCRIPTORS:
            request = GetDescriptors(_digests(reader, reader.u16(), MAX_DIGESTS))
        case Kind.GET_VOTES:
            request = GetVotes(reader.u64(), _digests(reader, reader.u8(), MAX_VOTES))
        case _:
            raise Malformed(f"unknown request type {kind}")
    reader.end()
    return request


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
        case RefusedReply(code, reason):
            return u8(Kind.REFUSED) + u8(code) + lv8(reason.encode("ascii", "replace")[:MAX_REASON_BYTES])


def decode_reply_untrusted(data: bytes) -> Reply:
    """Reads one reply.

    Raises:
        Malformed: too long, unknown, cut, or bytes left over.
    """
    if len(data) > MAX_REPLY_BYTES:
        raise Malformed(f"a reply of {len(data)} bytes is over the limit of {MAX_REPLY_BYTES}")
    reader = Reader(data)
    match kind := reader.u8():
        case Kind.VIEW:
            reply: Reply = ViewReply(_rest(reader, MAX_CERTIFIED_BYTES))
        case Kind.NOT_NEWER:
            reply = NotNewer(reader.u64())
        case Kind.ACCEPTED:
            reply = Accepted()
        case Kind.DESCRIPTORS:
            reply = Descriptors(_items(reader, MAX_DIGESTS, reader.lv16))
        case Kind.VOTES:
            reply = Votes(_items(reader, MAX_VOTES, lambda: reader.lv32(MAX_REQUEST_BYTES)))
        case Kind.REFUSED:
            reply = RefusedReply(_code(reader), text_untrusted(reader.lv8(), "a reason", MAX_REASON_BYTES))
        case _:
            raise Malformed(f"unknown reply type {kind}")
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


_BALLOT_KINDS = {
    BallotKind.VOTE: Kind.VOTE,
    BallotKind.ECHO: Kind.ECHO,
    BallotKind.SIGNATURE: Kind.SIGNATURE,
}
_BALLOTS: dict[int, BallotKind] = {int(kind): ballot for ballot, kind in _BALLOT_KINDS.items()}


def _rest(reader: Reader, limit: int) -> bytes:
    if reader.remaining > limit:
        raise Malformed(f"a document of {reader.remaining} bytes is over its limit of {limit}")
    return reader.rest()


def _digests(reader: Reader, count: int, limit: int) -> tuple[bytes, ...]:
    if count > limit:
        raise Malformed(f"at most {limit} digests in one request, not {count}")
    digests = tuple(reader.take(DIGEST_BYTES) for _ in range(count))
    sorted_unique(digests, "digests")
    return digests


def _items(reader: Reader, limit: int, take: Callable[[], bytes]) -> tuple[bytes, ...]:
    count = reader.u16()
    if count > limit:
        raise Malformed(f"at most {limit} documents in one reply, not {count}")
    return tuple(take() for _ in range(count))


def _code(reader: Reader) -> Code:
    try:
        return Code(reader.u8())
    except ValueError as e:
        raise Malformed("unknown reason code") from e
