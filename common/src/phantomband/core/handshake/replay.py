"""Remembers the ephemeral keys that have been used with each of our static keys, in bounded memory.

**At the bound**: two generations a key. When the younger holds `limit / 2` entries it becomes the older and
the one before is forgotten, so at least the last `limit / 2` and at most the last `limit` keys are known.
An old first message that was forgotten can be replayed; whoever does so gets an answer under fresh keys,
which tells them nothing but that we hold the static key. No entry is ever refused for want of room, or
filling the cache would stop all handshakes.

**Only messages that were authentic are remembered** (their MAC or tag has been checked): else whoever sends junk would
make room for an old one, at no cost. `check_untrusted`, which costs nothing, may come before.

**As bytes**, so that a restart does not forget: version 1 | (static key 32 | young 4 | old 4 | entries 8 each) *
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection
from dataclasses import dataclass, field

from phantomband.core.errors import Forged, Malformed
from phantomband.core.wire import Reader, u8, u32

ENTRY_BYTES = 8
"""Bytes of an ephemeral key that are remembered: two of 2^18 random keys collide with chance 2^-29 in all.

Keys ground to collide on purpose harm only whoever made them."""

VERSION = 1
STATIC_BYTES = 32
MAX_STATICS = 8
"""Static keys of one file: a relay has three onion keys, a gateway one."""

DEFAULT_LIMIT = 1 << 18
"""Entries a static key: about 18 MB when full, 52 s of handshakes on one core (200 us each)."""


@dataclass(slots=True)
class _Generations:
    young: set[int] = field(default_factory=set)
    old: set[int] = field(default_factory=set)


class ReplayCache:
    """Ephemeral keys seen, by static key.

    Args:
        limit: entries a static key.
    """

    __slots__ = ("_keys", "_limit", "added")

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self.added = 0
        """Entries so far: whether there is anything new to be saved."""
        self._keys: dict[bytes, _Generations] = {}

    def check_untrusted(self, static: bytes, ephemeral: bytes) -> None:
        """Remembers nothing.

        Raises:
            Forged: `ephemeral` was used before with our key `static`.
        """
        seen = self._keys.get(static)
        entry = int.from_bytes(ephemeral[:ENTRY_BYTES], "big")
        if seen is not None and (entry in seen.young or entry in seen.old):
            raise Forged("an ephemeral key was used before")

    def add_untrusted(self, static: bytes, ephemeral: bytes) -> None:
        """Remembers `ephemeral` as used with our key `static`.

        Raises:
            Forged: it was used before.
        """
        self.check_untrusted(static, ephemeral)
        seen = self._keys.setdefault(static, _Generations())
        seen.young.add(int.from_bytes(ephemeral[:ENTRY_BYTES], "big"))
        self.added += 1
        if len(seen.young) >= max(1, self._limit // 2):
            seen.young, seen.old = set(), seen.young

    def retain(self, statics: Collection[bytes]) -> None:
        """Forgets all static keys but these: the others have been retired."""
        self._keys = {static: seen for static, seen in self._keys.items() if static in statics}

    def __len__(self) -> int:
        return sum(len(seen.young) + len(seen.old) for seen in self._keys.values())

    def encode(self) -> bytes:
        """All that is remembered: at most `max_bytes`."""
        parts = [u8(VERSION)]
        for static, seen in self._keys.items():
            parts += (static, u32(len(seen.young)), u32(len(seen.old)), _packed(seen.young), _packed(seen.old))
        return b"".join(parts)

    @property
    def max_bytes(self) -> int:
        """Of `encode`."""
        return 1 + MAX_STATICS * (STATIC_BYTES + 8 + (self._limit + 1) * ENTRY_BYTES)

    def restore_untrusted(self, data: bytes) -> None:
        """Takes what `encode` gave, in place of what there is.

        Raises:
            Malformed: it is damaged; nothing was taken.
        """
        reader = Reader(data)
        if reader.u8() != VERSION:
            raise Malformed("a replay memory of another version")
        keys: dict[bytes, _Generations] = {}
        while reader.remaining:
            static, young, old = reader.take(STATIC_BYTES), reader.u32(), reader.u32()
            if len(keys) >= MAX_STATICS or max(young, old) > max(1, self._limit // 2):
                raise Malformed("a replay memory over its bound")
            younger, older = reader.take(young * ENTRY_BYTES), reader.take(old * ENTRY_BYTES)
            keys[static] = _Generations(_unpacked(younger), _unpacked(older))
        self._keys = keys


def _packed(entries: set[int]) -> bytes:
    packed = array("Q", entries)
    if sys.byteorder == "little":
        packed.byteswap()
    return packed.tobytes()


def _unpacked(data: bytes) -> set[int]:
    packed = array("Q", data)
    if sys.byteorder == "little":
        packed.byteswap()
    return set(packed)
