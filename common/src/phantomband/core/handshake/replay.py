"""Remembers the ephemeral keys that have been used with each of our static keys, in bounded memory.

**At the bound**: two generations a key. When the younger holds `limit / 2` entries it becomes the older and
the one before is forgotten, so at least the last `limit / 2` and at most the last `limit` keys are known.
An old first message that was forgotten can be replayed; whoever does so gets an answer under fresh keys,
which tells them nothing but that we hold the static key. No entry is ever refused for want of room, or
filling the cache would stop all handshakes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from phantomband.core.errors import Forged

ENTRY_BYTES = 8
"""Bytes of an ephemeral key that are remembered: two of 2^18 random keys collide with chance 2^-29 in all.

Keys ground to collide on purpose harm only whoever made them."""

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

    __slots__ = ("_keys", "_limit")

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._keys: dict[bytes, _Generations] = {}

    def add_untrusted(self, static: bytes, ephemeral: bytes) -> None:
        """Remembers `ephemeral` as used with our key `static`.

        Raises:
            Forged: it was used before.
        """
        entry = int.from_bytes(ephemeral[:ENTRY_BYTES], "big")
        seen = self._keys.setdefault(static, _Generations())
        if entry in seen.young or entry in seen.old:
            raise Forged("an ephemeral key was used before")
        seen.young.add(entry)
        if len(seen.young) >= max(1, self._limit // 2):
            seen.young, seen.old = set(), seen.young

    def retain(self, statics: Collection[bytes]) -> None:
        """Forgets all static keys but these: the others have been retired."""
        self._keys = {static: seen for static, seen in self._keys.items() if static in statics}

    def __len__(self) -> int:
        return sum(len(seen.young) + len(seen.old) for seen in self._keys.values())
