"""The network view: one document an epoch with all that a client needs of every relay.

    view  = version 2 | network id 32 | epoch 8 | valid after 8 | fresh until 8 | valid until 8
          | previous view's digest 32 | directory set id 32 | pending change's digest 32 | bits 1
          | count 4 | (length 2 | entry) * count

    entry = node id 32 | link key 32 | onion key 32 | has previous 1 | previous onion key 0 or 32
          | addresses 1+n (address.py) | flags 2 | weight 4 | exit policy 2+n | family 0 or 32 behind 1
          | mix strategy 1+n | padding 1+n | nickname 1+n | since 8                        about 200 bytes

Bits are the difficulty of stamps that are made for this view (core/work/difficulty.py). A pending change of the
directory set (changes.py) is one that is known and does not act yet; zeros: none. `since` is the epoch that first had
the node. Entries are sorted by node id. The view's digest is SHA3-256("phantomband-view-1" | 0x00 | view).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Self

from phantomband.core.crypto.dh import check_public_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.address import NodeAddress, encode_addresses, read_addresses_untrusted
from phantomband.core.netdir.codec import (
    DIGEST_BYTES,
    KEY_BYTES,
    U64_MAX,
    Label,
    sorted_unique,
    text_untrusted,
)
from phantomband.core.netdir.descriptor import (
    MAX_LISTED_BYTES,
    MAX_MIX_BYTES,
    MAX_NICKNAME_BYTES,
    MAX_PADDING_BYTES,
    check_nickname,
    read_policy_untrusted,
)
from phantomband.core.netdir.exit_policy import ExitPolicy, cached_policy
from phantomband.core.wire import Reader, lv8, lv16, u8, u16, u32, u64
from phantomband.core.work.stamp import MAX_BITS

VERSION = 2

MAX_VIEW_BYTES = 3 * 1024 * 1024 + 512 * 1024
"""Leaves room for 32 signatures within a reply of 4 MiB; about 18,000 relays."""

HEADER_BYTES = 1 + DIGEST_BYTES + 4 * 8 + 3 * DIGEST_BYTES + 1
"""Everything before the count of entries."""

MAX_ENTRIES = 65535

COUNT_BYTES = 4
LENGTH_BYTES = 2

ENTRY_FIXED_BYTES = NODE_ID_BYTES + 2 * KEY_BYTES + (1 + KEY_BYTES) + 2 + 4 + 2 + (1 + DIGEST_BYTES) + 3 + 8
"""Of an entry with a previous onion key and a family, without what `MAX_LISTED_BYTES` counts."""

MAX_ENTRY_BYTES = ENTRY_FIXED_BYTES + MAX_LISTED_BYTES
"""1,461: an entry with all that a descriptor may list."""

MAX_ENTRIES_BYTES = MAX_VIEW_BYTES - HEADER_BYTES - COUNT_BYTES
"""Of all entries with their lengths: where the tally stops (tally.py), so that readers take what directories sign."""

NO_DIGEST = bytes(DIGEST_BYTES)
"""Stands for the view before the first."""

WEIGHT_UNIT = 1024
"""Weights count bytes a second in this unit."""

MAX_WEIGHT = 2**32 - 1


class Flags(IntFlag):
    """What a relay may be used for. Unknown bits are kept and ignored: a later release may set them."""

    NONE = 0
    GUARD = 1
    """May be the first hop."""
    EXIT = 2
    """Has an exit policy that accepts something."""
    FAST = 4
    """Weighs enough to be worth a hop of a bulk circuit."""
    DIRECTORY = 8
    """Its node's directory is of the genesis set."""


@dataclass(frozen=True, slots=True)
class ViewEntry:
    """One relay. `family` is empty, or 32 bytes that all members of one family share."""

    node_id: NodeId
    link_key: bytes
    onion_key: bytes
    previous_onion_key: bytes | None
    addresses: tuple[NodeAddress, ...]
    flags: int
    weight: int
    exit_policy: str
    family: bytes
    mix: str
    nickname: str
    padding: str = "off"
    """As in the descriptor."""
    since: int = 0
    """Epoch of the first view that had it; 0: not said."""

    def __post_init__(self) -> None:
        for key in (self.link_key, self.onion_key, self.previous_onion_key):
            if key is not None:
                check_public_untrusted(key, "an entry's key")
        if len(self.family) not in (0, DIGEST_BYTES):
            raise Malformed(f"a family id has {DIGEST_BYTES} bytes, or none")
        if not (0 <= self.flags < 2**16 and 0 <= self.weight <= MAX_WEIGHT and 0 <= self.since <= U64_MAX):
            raise Malformed("flags, weight or first epoch out of range")
        text_untrusted(self.mix.encode(), "mix strategy", MAX_MIX_BYTES)
        text_untrusted(self.padding.encode(), "padding", MAX_PADDING_BYTES)
        check_nickname(self.nickname)
        cached_policy(self.exit_policy)

    def has(self, flags: Flags) -> bool:
        return self.flags & flags == flags

    @property
    def policy(self) -> ExitPolicy:
        return cached_policy(self.exit_policy)

    def encode(self) -> bytes:
        previous = b"\x00" if self.previous_onion_key is None else b"\x01" + self.previous_onion_key
        return b"".join(
            (
                self.node_id,
                self.link_key,
                self.onion_key,
                previous,
                encode_addresses(self.addresses),
                u16(self.flags),
                u32(self.weight),
                lv16(self.exit_policy.encode()),
                lv8(self.family),
                lv8(self.mix.encode()),
                lv8(self.padding.encode()),
                lv8(self.nickname.encode()),
                u64(self.since),
            )
        )

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        if len(data) > MAX_ENTRY_BYTES:
            raise Malformed(f"an entry of {len(data)} bytes is over the limit of {MAX_ENTRY_BYTES}")
        reader = Reader(data)
        entry = cls(
            node_id=NodeId(reader.take(NODE_ID_BYTES)),
            link_key=reader.take(KEY_BYTES),
            onion_key=reader.take(KEY_BYTES),
            previous_onion_key=_read_optional_key(reader),
            addresses=read_addresses_untrusted(reader),
            flags=reader.u16(),
            weight=reader.u32(),
            exit_policy=read_policy_untrusted(reader),
            family=reader.lv8(),
            mix=text_untrusted(reader.lv8(), "mix strategy", MAX_MIX_BYTES),
            padding=text_untrusted(reader.lv8(), "padding", MAX_PADDING_BYTES),
            nickname=text_untrusted(reader.lv8(), "nickname", MAX_NICKNAME_BYTES),
            since=reader.u64(),
        )
        reader.end()
        return entry


@dataclass(frozen=True, slots=True)
class View:
    """All relays of one epoch. Times are Unix seconds."""

    network_id: bytes
    epoch: int
    valid_after: int
    fresh_until: int
    valid_until: int
    previous: bytes
    set_id: bytes
    entries: tuple[ViewEntry, ...]
    pending: bytes = NO_DIGEST
    """Digest of the change of the directory set that is announced."""
    bits: int = 0

    def __post_init__(self) -> None:
        for digest in (self.network_id, self.previous, self.set_id, self.pending):
            if len(digest) != DIGEST_BYTES:
                raise Malformed(f"a digest has {DIGEST_BYTES} bytes, not {len(digest)}")
        if not 1 <= self.epoch <= U64_MAX:
            raise Malformed("epochs are numbered from 1")
        if not 0 <= self.valid_after <= self.fresh_until <= self.valid_until <= U64_MAX:
            raise Malformed("a view's times must follow one another")
        if not 0 <= self.bits <= MAX_BITS:
            raise Malformed("difficulty out of range")
        sorted_unique([entry.node_id for entry in self.entries], "entries")

    def find(self, node_id: NodeId) -> ViewEntry | None:
        """The entry of one node, by bisection."""
        low, high = 0, len(self.entries)
        while low < high:
            middle = (low + high) // 2
            if self.entries[middle].node_id < node_id:
                low = middle + 1
            else:
                high = middle
        found = low < len(self.entries) and self.entries[low].node_id == node_id
        return self.entries[low] if found else None

    def encode(self) -> bytes:
        head = u8(VERSION) + self.network_id + u64(self.epoch) + u64(self.valid_after)
        head += u64(self.fresh_until) + u64(self.valid_until) + self.previous + self.set_id + self.pending
        head += u8(self.bits)
        return head + u32(len(self.entries)) + b"".join(lv16(entry.encode()) for entry in self.entries)

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Checks form only; `certified.verify_untrusted` checks that a quorum signed it."""
        if len(data) > MAX_VIEW_BYTES:
            raise Malformed(f"a view of {len(data)} bytes is over the limit of {MAX_VIEW_BYTES}")
        reader = Reader(data)
        if (version := reader.u8()) != VERSION:
            raise Malformed(f"unknown view version {version}")
        network_id, epoch = reader.take(DIGEST_BYTES), reader.u64()
        valid_after, fresh_until, valid_until = reader.u64(), reader.u64(), reader.u64()
        previous, set_id, pending = (reader.take(DIGEST_BYTES) for _ in range(3))
        bits, count = reader.u8(), reader.u32()
        if count > MAX_ENTRIES:
            raise Malformed(f"a view has at most {MAX_ENTRIES} entries")
        entries = tuple(ViewEntry.decode_untrusted(reader.lv16()) for _ in range(count))
        reader.end()
        return cls(network_id, epoch, valid_after, fresh_until, valid_until, previous, set_id, entries, pending, bits)


def view_digest(encoded: bytes) -> bytes:
    """Returns: 32 bytes, what the directories sign and clients compare."""
    return Label.VIEW.digest(encoded)


def _read_optional_key(reader: Reader) -> bytes | None:
    present = reader.u8()
    if present > 1:
        raise Malformed("has-previous is 0 or 1")
    return reader.take(KEY_BYTES) if present else None
