"""Descriptors as records of the table, and as items of gossip: the only kind that directories store today.

    record = stamp 1+n | signed descriptor                 at most 13,568 bytes
    item   = node id 32 | published 8 | first 16 bytes of the digest

A descriptor is signed, has a time of publication and an end, so it is a record as it stands: its key is that of kind 0
of its node (record.py), its version the second of its publication, its digest that of the descriptor. A record of the
general format could be told apart by its place: it would have another kind, and so another key.
"""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.dht.reconcile import ITEM_BYTES
from phantomband.core.dht.record import SignedRecord, record_key
from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES, SignedDescriptor
from phantomband.core.netdir.pool_records import Record
from phantomband.core.netdir.requests import rest_within
from phantomband.core.wire import Reader, lv8, u64

KIND = 0
MARK_BYTES = ITEM_BYTES - NODE_ID_BYTES - 8
"""Of the digest, in an item."""

Admit = Callable[[bytes, bytes], SignedDescriptor]
"""Takes (stamp, signed descriptor) up the ladder of admission, raising Malformed or Refused."""


def record_of(record: Record) -> SignedRecord:
    """A verified descriptor as the table stores it."""
    signed = record.signed
    descriptor = signed.descriptor
    return SignedRecord(
        key=record_key(KIND, signed.node_id),
        publisher=signed.node_id,
        version=descriptor.published,
        published=descriptor.published,
        expires=descriptor.expires,
        digest=signed.digest,
        encoded=lv8(record.stamp) + signed.encoded,
    )


def split_record_untrusted(encoded: bytes) -> tuple[bytes, bytes]:
    """Returns: stamp and signed descriptor, neither looked at.

    Raises:
        Malformed: cut, or too long.
    """
    reader = Reader(encoded)
    stamp = reader.lv8()
    return stamp, rest_within(reader, MAX_DESCRIPTOR_BYTES)


def verify_record_untrusted(encoded: bytes, admit: Admit) -> SignedRecord:
    """What the table calls for each record that comes (`record.Verify`, with `admit` bound).

    Raises:
        Malformed: it is none, or is not admitted.
    """
    stamp, raw = split_record_untrusted(encoded)
    try:
        return record_of(Record(admit(stamp, raw), stamp))
    except Refused as e:
        raise Malformed(f"the record is not taken: {e}") from e


def item_of(signed: SignedDescriptor) -> bytes:
    """What stands for a descriptor in a reconciliation: 56 bytes."""
    return signed.node_id + u64(signed.descriptor.published) + signed.digest[:MARK_BYTES]


def read_item(item: bytes) -> tuple[NodeId, int, bytes]:
    """Returns: node id, time of publication, first bytes of the digest. Any 56 bytes are an item."""
    at = NODE_ID_BYTES + 8
    return NodeId(item[:NODE_ID_BYTES]), int.from_bytes(item[NODE_ID_BYTES:at], "big"), item[at:]
