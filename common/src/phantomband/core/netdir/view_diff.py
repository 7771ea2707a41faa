"""The difference between two certified views: what a client or directory that holds one needs for the newer one.

    diff = version 1 | digest of the view held 32 | head of the new view (view.HEADER_BYTES) | entries of the new view 4
         | removed count 4 | (index in the view held 4) *
         | added count 4   | (index in the new view 4 | length 2 | entry) *
         | signature count 1 | (directory index 1 | signature 3,373) *

An entry that changed is removed and added. Indices rise. Entries that are in both keep their order (both views are
sorted), so the new view is the held one without the removed, with the added put at their places: exactly the bytes that
were signed. Entries and head are opaque here. Nothing is trusted: what comes out is checked as any certified view is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from phantomband.core.errors import Malformed
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES, CertifiedView
from phantomband.core.netdir.certified import VERSION as CERTIFIED_VERSION
from phantomband.core.netdir.codec import DIGEST_BYTES
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.replies import Reply, ViewDiffReply, ViewReply
from phantomband.core.netdir.requests import GetView, GetViewDiff
from phantomband.core.netdir.view import HEADER_BYTES, MAX_ENTRIES, MAX_VIEW_BYTES, view_digest
from phantomband.core.wire import Reader, lv16, lv32, u8, u32

VERSION = 1

MAX_DIFF_BYTES = MAX_CERTIFIED_BYTES
"""One that is larger than the view itself is of no use."""


def newer_request(held: CertifiedView | None) -> GetView | GetViewDiff:
    """What to ask a directory for."""
    return GetView(NO_EPOCH) if held is None else GetViewDiff(held.view.epoch, held.digest)


def certified_of(reply: Reply, held: CertifiedView | None) -> bytes | None:
    """The whole certified view that a reply brings, not verified yet; None: it brings none.

    Raises:
        Malformed: a difference that does not lead from the view held to anything.
    """
    if isinstance(reply, ViewReply):
        return reply.certified
    if isinstance(reply, ViewDiffReply) and held is not None:
        return apply_untrusted(held.view_bytes, reply.diff)
    return None


def make_diff(held: bytes, new: CertifiedView) -> bytes | None:
    """What leads from the encoded view `held` to `new`; None when the whole of `new` is not larger."""
    _, before = _split(held)
    head, after = _split(new.view_bytes)
    known, wanted = set(before), set(after)
    removed = [index for index, entry in enumerate(before) if entry not in wanted]
    added = [(index, entry) for index, entry in enumerate(after) if entry not in known]
    whole = new.encode()
    diff = b"".join(
        (
            u8(VERSION), view_digest(held), head, u32(len(after)),
            u32(len(removed)), *map(u32, removed),
            u32(len(added)), *(u32(index) + lv16(entry) for index, entry in added),
            whole[5 + len(new.view_bytes) :],
        )
    )  # fmt: skip
    return diff if len(diff) < len(whole) else None


def apply_untrusted(held: bytes, diff: bytes) -> bytes:
    """The encoded certified view that `diff` leads to from the encoded view `held`.

    Raises:
        Malformed: not a difference, or not one from `held`.
    """
    if len(diff) > MAX_DIFF_BYTES:
        raise Malformed(f"a difference of {len(diff)} bytes is over the limit of {MAX_DIFF_BYTES}")
    reader = Reader(diff)
    if (version := reader.u8()) != VERSION:
        raise Malformed(f"unknown version {version} of a difference of views")
    if reader.take(DIGEST_BYTES) != view_digest(held):
        raise Malformed("the difference starts from another view than the one held")
    head, total = reader.take(HEADER_BYTES), _count(reader)
    removed = [reader.u32() for _ in range(_count(reader))]
    places, added = _read_added(reader)
    entries = _merged(_split(held)[1], removed, places, added, total)
    view = head + u32(total) + b"".join(map(lv16, entries))
    if len(view) > MAX_VIEW_BYTES:
        raise Malformed(f"a view of {len(view)} bytes is over the limit of {MAX_VIEW_BYTES}")
    return u8(CERTIFIED_VERSION) + lv32(view) + reader.rest()


def _split(view: bytes) -> tuple[bytes, list[bytes]]:
    """Head and entries of an encoded view."""
    reader = Reader(view)
    head = reader.take(HEADER_BYTES)
    entries = [reader.lv16() for _ in range(_count(reader))]
    reader.end()
    return head, entries


def _count(reader: Reader) -> int:
    if (count := reader.u32()) > MAX_ENTRIES:
        raise Malformed(f"a view has at most {MAX_ENTRIES} entries")
    return count


def _read_added(reader: Reader) -> tuple[list[int], list[bytes]]:
    pairs = [(reader.u32(), reader.lv16()) for _ in range(_count(reader))]
    return [place for place, _ in pairs], [entry for _, entry in pairs]


def _merged(
    before: list[bytes], removed: Sequence[int], places: Sequence[int], added: Sequence[bytes], total: int
) -> list[bytes]:
    """`before` without the removed, with `added` at their places."""
    _check_indices(removed, len(before))
    _check_indices(places, total)
    if len(before) - len(removed) + len(added) != total:
        raise Malformed("the numbers of removed and added entries do not give the new view's")
    gone = set(removed)
    kept = iter([entry for index, entry in enumerate(before) if index not in gone])
    put = dict(zip(places, added, strict=True))
    return [put[index] if index in put else next(kept) for index in range(total)]


def _check_indices(indices: Sequence[int], below: int) -> None:
    if any(not one < other for one, other in pairwise(indices)) or (indices and indices[-1] >= below):
        raise Malformed("indices of a difference must rise, and lie within the view")
