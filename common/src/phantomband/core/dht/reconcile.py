"""Which records differ between two directories: range-based set reconciliation (Meyer 2023), in rounds.

    item     = key 32 | version 8 | first 16 bytes of the record's digest
    request  = count 1 | (lower 56 | upper 56 | fingerprint 16) each, sorted and disjoint
    reply    = handled 1 | count 2 | (lower 56 | upper 56 | form 1 | body) each
      form 0   fingerprint 16
      form 1   count 2 | items 56 each, sorted

The one who asks names ranges [lower, upper) and the fingerprint of its items there. For each range, in order, the
other one says nothing if it has the same, its items if they are few, else it cuts the range into parts of its own
and gives their fingerprints. `handled` is how many ranges it had room for; the others are asked again. A difference
costs a logarithmic number of rounds; a round costs at most MAX_REQUEST_BYTES and MAX_REPLY_BYTES. The records
themselves are fetched and stored afterwards.

Fingerprints hash the items whole. Sums or XORs of item hashes could be forged by who may choose items (Meyer,
section 5).
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.dht.record import SignedRecord
from phantomband.core.errors import Malformed
from phantomband.core.netdir.codec import sorted_unique
from phantomband.core.wire import Reader, u8, u16, u64

ITEM_BYTES = 56
FINGERPRINT_BYTES = 16
BOTTOM, TOP = bytes(ITEM_BYTES), b"\xff" * ITEM_BYTES

LEAF = 32
"""Items of a range that are listed rather than cut."""

BRANCHES = 16
"""Parts that a range is cut into."""

MAX_RANGES = 32
"""In one request."""

MAX_PARTS = MAX_RANGES * BRANCHES
MAX_REQUEST_BYTES = 1 + MAX_RANGES * (2 * ITEM_BYTES + FINGERPRINT_BYTES)
MAX_REPLY_BYTES = 3 + MAX_RANGES * (2 * ITEM_BYTES + 1 + 2 + LEAF * ITEM_BYTES)
"""61,027: no part is larger than a full list."""

MAX_ROUNDS = 4096
"""Of one reconciliation; a peer that leads on for longer is left."""

MAX_ITEMS = 65_536
"""Differences that are noted in one reconciliation."""

_LABEL = b"phantomband-dht-range-1\x00"
_FINGERPRINT, _ITEMS = 0, 1


def item(record: SignedRecord) -> bytes:
    """What stands for a record: 56 bytes."""
    return record.key + u64(record.version) + record.digest[:16]


class ItemSet:
    """The items of one directory, sorted."""

    def __init__(self, items: Iterable[bytes]) -> None:
        self._items = sorted(set(items))

    def __len__(self) -> int:
        return len(self._items)

    def within(self, lower: bytes, upper: bytes) -> list[bytes]:
        """Those from `lower` up to, but without, `upper`."""
        return self._items[bisect_left(self._items, lower) : bisect_left(self._items, upper)]

    def fingerprint(self, lower: bytes, upper: bytes) -> bytes:
        """Returns: 16 bytes, SHA3-256(label | items), cut."""
        return sha3_256(_LABEL, *self.within(lower, upper))[:FINGERPRINT_BYTES]


@dataclass(frozen=True, slots=True)
class Part:
    """A range with its fingerprint, or with its items."""

    lower: bytes
    upper: bytes
    fingerprint: bytes = b""
    items: tuple[bytes, ...] | None = None


def answer_untrusted(request: bytes, own: ItemSet) -> bytes:
    """The reply to a request: at most MAX_REPLY_BYTES.

    Raises:
        Malformed: not a request.
    """
    ranges = _read_request(request)
    out, size, handled = list[bytes](), 3, 0
    for asked in ranges:
        parts = [_encode_part(part) for part in _compare(asked, own)]
        if size + sum(map(len, parts)) > MAX_REPLY_BYTES:
            break
        size, handled = size + sum(map(len, parts)), handled + 1
        out += parts
    return u8(handled) + u16(len(out)) + b"".join(out)


class Reconciliation:
    """Our half of one exchange: send `next_request()`, give its reply to `reply_untrusted`, until `done`."""

    def __init__(self, own: ItemSet) -> None:
        self._own = own
        self._open: deque[tuple[bytes, bytes]] = deque([(BOTTOM, TOP)])
        self._asked: list[tuple[bytes, bytes]] = []
        self.wanted: list[bytes] = []
        """Items that the peer has and we have not."""
        self.offered: list[bytes] = []
        """Items that we have and the peer has not."""
        self.rounds = 0

    @property
    def done(self) -> bool:
        return not self._open and not self._asked

    def next_request(self) -> bytes | None:
        """Returns: at most MAX_REQUEST_BYTES; None when nothing is left or a reply is awaited."""
        if self._asked or not self._open:
            return None
        self._asked = sorted(self._open.popleft() for _ in range(min(MAX_RANGES, len(self._open))))
        self.rounds += 1
        prints = (low + high + self._own.fingerprint(low, high) for low, high in self._asked)
        return u8(len(self._asked)) + b"".join(prints)

    def reply_untrusted(self, reply: bytes) -> None:
        """Takes the peer's reply.

        Raises:
            Malformed: not a reply, one that leads nowhere, or too many rounds or differences: leave the peer. What
                was found so far stands.
        """
        asked = self._asked
        handled, parts = _read_reply(reply)
        if not 0 < handled <= len(asked) or self.rounds > MAX_ROUNDS:
            raise Malformed("a reconciliation that does not advance")
        _check_within(parts, asked[:handled])
        self._asked = []
        self._open.extend(asked[handled:])
        for part in parts:
            self._take(part)
        if len(self.wanted) + len(self.offered) > MAX_ITEMS or len(self._open) > MAX_ITEMS:
            raise Malformed("too many differences in one reconciliation")

    def _take(self, part: Part) -> None:
        if part.items is None:
            if self._own.fingerprint(part.lower, part.upper) != part.fingerprint:
                self._open.append((part.lower, part.upper))
            return
        ours, theirs = set(self._own.within(part.lower, part.upper)), set(part.items)
        self.wanted += sorted(theirs - ours)
        self.offered += sorted(ours - theirs)


def _compare(asked: Part, own: ItemSet) -> list[Part]:
    """Nothing if it is the same here, the items if they are few, else parts."""
    if own.fingerprint(asked.lower, asked.upper) == asked.fingerprint:
        return []
    items = own.within(asked.lower, asked.upper)
    if len(items) <= LEAF:
        return [Part(asked.lower, asked.upper, items=tuple(items))]
    cuts = [items[len(items) * at // BRANCHES] for at in range(1, BRANCHES)]
    bounds = [asked.lower, *cuts, asked.upper]
    return [Part(low, high, own.fingerprint(low, high)) for low, high in itertools.pairwise(bounds)]


def _encode_part(part: Part) -> bytes:
    head = part.lower + part.upper
    if part.items is None:
        return head + u8(_FINGERPRINT) + part.fingerprint
    return head + u8(_ITEMS) + u16(len(part.items)) + b"".join(part.items)


def _read_request(data: bytes) -> list[Part]:
    if len(data) > MAX_REQUEST_BYTES:
        raise Malformed(f"a reconciliation request has at most {MAX_REQUEST_BYTES} bytes")
    reader = Reader(data)
    if not 0 < (count := reader.u8()) <= MAX_RANGES:
        raise Malformed(f"a request has 1 to {MAX_RANGES} ranges")
    ranges = [Part(*_bounds(reader), reader.take(FINGERPRINT_BYTES)) for _ in range(count)]
    reader.end()
    _check_disjoint(ranges)
    return ranges


def _read_reply(data: bytes) -> tuple[int, list[Part]]:
    if len(data) > MAX_REPLY_BYTES:
        raise Malformed(f"a reconciliation reply has at most {MAX_REPLY_BYTES} bytes")
    reader = Reader(data)
    handled, count = reader.u8(), reader.u16()
    if count > MAX_PARTS:
        raise Malformed(f"a reply has at most {MAX_PARTS} parts")
    parts = [_read_part(reader) for _ in range(count)]
    reader.end()
    _check_disjoint(parts)
    return handled, parts


def _read_part(reader: Reader) -> Part:
    lower, upper = _bounds(reader)
    match reader.u8():
        case 0:
            return Part(lower, upper, reader.take(FINGERPRINT_BYTES))
        case 1:
            return Part(lower, upper, items=_read_items(reader, lower, upper))
    raise Malformed("unknown form of a range")


def _read_items(reader: Reader, lower: bytes, upper: bytes) -> tuple[bytes, ...]:
    if (count := reader.u16()) > LEAF:
        raise Malformed(f"a range lists at most {LEAF} items")
    items = tuple(reader.take(ITEM_BYTES) for _ in range(count))
    sorted_unique(items, "items")
    if items and not lower <= items[0] <= items[-1] < upper:
        raise Malformed("an item outside its range")
    return items


def _bounds(reader: Reader) -> tuple[bytes, bytes]:
    lower, upper = reader.take(ITEM_BYTES), reader.take(ITEM_BYTES)
    if not lower < upper:
        raise Malformed("an empty range")
    return lower, upper


def _check_disjoint(parts: list[Part]) -> None:
    if any(one.upper > other.lower for one, other in itertools.pairwise(parts)):
        raise Malformed("ranges must be sorted and disjoint")


def _check_within(parts: list[Part], asked: list[tuple[bytes, bytes]]) -> None:
    """Each part lies in a range that was asked about, and fingerprints are of smaller ones: so it ends."""
    for part in parts:
        if not any(low <= part.lower and part.upper <= high for low, high in asked):
            raise Malformed("a range that was not asked about")
        if part.items is None and (part.lower, part.upper) in asked:
            raise Malformed("a reconciliation that does not advance")
