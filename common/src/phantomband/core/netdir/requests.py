"""Requests to a directory: what DIRECTORY cells and PeerCall carry. The answers are in replies.py.

    request = type 1 | body                                                                  at most 64 KiB
      0x01 GET_VIEW          epoch held 8 (0: none)
      0x02 PUBLISH           stamp 1+n (core/work/stamp.py; empty without work) | signed descriptor
      0x03 GET_DESCRIPTORS   count 2 | digest 32 * count, sorted
      0x04 VOTE, 0x05 ECHO, 0x06 SIGNATURE   the signed message (ballot.py)
      0x07 GET_VOTES         epoch 8 | count 1 | digest 32 * count, sorted
      0x08 VOTE_HELD         epoch 8 | directory 1 | digest 32: a vote that is too long for a request
      0x09 GET_CHANGES       number 4: of the first change wanted
      0x0a SUBMIT_CHANGE     signed change of the directory set (changes.py)
      0x0b GET_GENESIS       -
      0x0c GET_VIEW_DIFF     epoch held 8 | digest of that view 32
      0x0d TABLE             a message of the directories' table (core/dht/messages.py)
      0x0e RECONCILE         ranges (core/dht/reconcile.py)
      0x0f GET_RECORDS       count 2 | node id 32 * count, sorted: the newest descriptors of these nodes, with stamps
      0x10 GET_OWN           -   (the descriptor of the node that is asked: RECORDS with one, its stamp empty)

Unknown types are refused as malformed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from phantomband.core import dircall
from phantomband.core.errors import Malformed
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.codec import DIGEST_BYTES, sorted_unique
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES
from phantomband.core.netdir.genesis import MAX_DIRECTORIES
from phantomband.core.netdir.voting_events import BallotKind
from phantomband.core.wire import Reader, lv8, u8, u16, u32, u64

MAX_REQUEST_BYTES = dircall.MAX_REQUEST_BYTES
"""64 KiB: what a link carries as one request."""

MAX_DIGESTS = 768
"""In one GET_DESCRIPTORS: their answer fits a reply."""

MAX_RECORDS = 512
"""In one GET_RECORDS: with their stamps."""

MAX_VOTES = 2 * MAX_DIRECTORIES
"""In one GET_VOTES or its reply."""


class Kind(IntEnum):
    """First byte of a request."""

    GET_VIEW = 0x01
    PUBLISH = 0x02
    GET_DESCRIPTORS = 0x03
    VOTE = 0x04
    ECHO = 0x05
    SIGNATURE = 0x06
    GET_VOTES = 0x07
    VOTE_HELD = 0x08
    GET_CHANGES = 0x09
    SUBMIT_CHANGE = 0x0A
    GET_GENESIS = 0x0B
    GET_VIEW_DIFF = 0x0C
    TABLE = 0x0D
    RECONCILE = 0x0E
    GET_RECORDS = 0x0F
    GET_OWN = 0x10


@dataclass(frozen=True, slots=True)
class GetView:
    """Wants a view newer than the epoch held (0: any)."""

    have_epoch: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Hands in a signed descriptor, with the stamp that its network asks for (empty: none)."""

    descriptor: bytes
    stamp: bytes = b""


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
class VoteHeld:
    """Says that a directory's vote can be had here by GET_VOTES: it is too long for a request."""

    epoch: int
    directory: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class GetChanges:
    """Wants the changes of the directory set, from this number on."""

    number: int


@dataclass(frozen=True, slots=True)
class SubmitChange:
    """Hands in a change of the directory set that a quorum has signed."""

    change: bytes


@dataclass(frozen=True, slots=True)
class GetGenesis:
    """Wants the genesis file: the network id that the asker knows proves it."""


@dataclass(frozen=True, slots=True)
class GetOwn:
    """Wants the descriptor of the node that is asked: so a client learns the keys of a bridge that is in no view."""


@dataclass(frozen=True, slots=True)
class GetViewDiff:
    """Wants a newer view as a difference from the one held; the whole view comes where there is none."""

    have_epoch: int
    have_digest: bytes


@dataclass(frozen=True, slots=True)
class Table:
    """A request of the directories' table."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Reconcile:
    """A round of gossip: ranges and their fingerprints."""

    ranges: bytes


@dataclass(frozen=True, slots=True)
class GetRecords:
    """Wants the newest descriptors of these nodes, sorted, with their stamps."""

    nodes: tuple[NodeId, ...]


Request = (
    GetView
    | Publish
    | GetDescriptors
    | Ballot
    | GetVotes
    | VoteHeld
    | GetChanges
    | SubmitChange
    | GetGenesis
    | GetViewDiff
    | Table
    | Reconcile
    | GetRecords
    | GetOwn
)


def encode_request(request: Request) -> bytes:
    """Returns: at most 64 KiB."""
    match request:
        case GetView(have_epoch):
            return u8(Kind.GET_VIEW) + u64(have_epoch)
        case Publish(descriptor, stamp):
            return u8(Kind.PUBLISH) + lv8(stamp) + descriptor
        case GetDescriptors(digests):
            return u8(Kind.GET_DESCRIPTORS) + u16(len(digests)) + b"".join(digests)
        case Ballot(kind, data):
            return u8(_BALLOT_KINDS[kind]) + data
        case GetVotes(epoch, digests):
            return u8(Kind.GET_VOTES) + u64(epoch) + u8(len(digests)) + b"".join(digests)
        case VoteHeld(epoch, directory, digest):
            return u8(Kind.VOTE_HELD) + u64(epoch) + u8(directory) + digest
        case GetChanges(number):
            return u8(Kind.GET_CHANGES) + u32(number)
        case SubmitChange(change):
            return u8(Kind.SUBMIT_CHANGE) + change
        case GetGenesis():
            return u8(Kind.GET_GENESIS)
        case GetOwn():
            return u8(Kind.GET_OWN)
        case GetViewDiff(have_epoch, have_digest):
            return u8(Kind.GET_VIEW_DIFF) + u64(have_epoch) + have_digest
        case Table(message):
            return u8(Kind.TABLE) + message
        case Reconcile(ranges):
            return u8(Kind.RECONCILE) + ranges
        case GetRecords(nodes):
            return u8(Kind.GET_RECORDS) + u16(len(nodes)) + b"".join(nodes)


def decode_request_untrusted(data: bytes) -> Request:
    """Reads one request; what it carries is read by its own decoder.

    Raises:
        Malformed: too long, unknown, cut, or bytes left over.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise Malformed(f"a request of {len(data)} bytes is over the limit of {MAX_REQUEST_BYTES}")
    reader = Reader(data)
    kind = reader.u8()
    request = _carrier(kind, reader) or _question(kind, reader)
    reader.end()
    return request


_BALLOT_KINDS = {
    BallotKind.VOTE: Kind.VOTE,
    BallotKind.ECHO: Kind.ECHO,
    BallotKind.SIGNATURE: Kind.SIGNATURE,
}
_BALLOTS: dict[int, BallotKind] = {int(kind): ballot for ballot, kind in _BALLOT_KINDS.items()}


def _carrier(kind: int, reader: Reader) -> Request | None:
    """A request that hands a document in; None for others."""
    if kind in _BALLOTS:
        return Ballot(_BALLOTS[kind], reader.rest())
    match kind:
        case Kind.PUBLISH:
            stamp = reader.lv8()
            return Publish(rest_within(reader, MAX_DESCRIPTOR_BYTES), stamp)
        case Kind.SUBMIT_CHANGE:
            return SubmitChange(reader.rest())
        case Kind.TABLE:
            return Table(reader.rest())
        case Kind.RECONCILE:
            return Reconcile(reader.rest())
    return None


def _question(kind: int, reader: Reader) -> Request:
    match kind:
        case Kind.GET_VIEW:
            return GetView(reader.u64())
        case Kind.GET_DESCRIPTORS:
            return GetDescriptors(_digests(reader, reader.u16(), MAX_DIGESTS))
        case Kind.GET_VOTES:
            return GetVotes(reader.u64(), _digests(reader, reader.u8(), MAX_VOTES))
        case Kind.VOTE_HELD:
            return VoteHeld(reader.u64(), reader.u8(), reader.take(DIGEST_BYTES))
        case Kind.GET_CHANGES:
            return GetChanges(reader.u32())
        case Kind.GET_GENESIS:
            return GetGenesis()
        case Kind.GET_OWN:
            return GetOwn()
        case Kind.GET_VIEW_DIFF:
            return GetViewDiff(reader.u64(), reader.take(DIGEST_BYTES))
        case Kind.GET_RECORDS:
            return GetRecords(_nodes(reader))
    raise Malformed(f"unknown request type {kind}")


def rest_within(reader: Reader, limit: int) -> bytes:
    """All that is left, `limit` bytes at most.

    Raises:
        Malformed: it is more.
    """
    if reader.remaining > limit:
        raise Malformed(f"a document of {reader.remaining} bytes is over its limit of {limit}")
    return reader.rest()


def _digests(reader: Reader, count: int, limit: int) -> tuple[bytes, ...]:
    if count > limit:
        raise Malformed(f"at most {limit} digests in one request, not {count}")
    digests = tuple(reader.take(DIGEST_BYTES) for _ in range(count))
    sorted_unique(digests, "digests")
    return digests


def _nodes(reader: Reader) -> tuple[NodeId, ...]:
    if (count := reader.u16()) > MAX_RECORDS:
        raise Malformed(f"at most {MAX_RECORDS} nodes in one request, not {count}")
    nodes = tuple(NodeId(reader.take(NODE_ID_BYTES)) for _ in range(count))
    sorted_unique(nodes, "node ids")
    return nodes
