"""One directory of the gossip: the newest record of each publisher, and the set of their items."""

from __future__ import annotations

import random
from collections.abc import Iterable

from phantomband.core.dht.reconcile import ItemSet, item
from phantomband.core.dht.record import SignedRecord
from phantomband.core.errors import Malformed

from phantomband_cli.sim.dht.stand_ins import Registry
from phantomband_cli.sim.gossip.scenario import Lie

JUNK_VERSION = 1 << 40
MADE_UP = 64
"""Records of a junk set: as many as are fetched in one meeting."""


class Member:
    """Holds records; honest unless it tells a lie."""

    __slots__ = ("_records", "_set", "access", "alive", "joined", "lie", "own")

    def __init__(self, own: bytes, access: float, joined: float, lie: Lie | None = None) -> None:
        self.own, self.access, self.joined, self.lie = own, access, joined, lie
        self.alive = True
        self._records: dict[bytes, tuple[bytes, SignedRecord]] = {}
        self._set: ItemSet | None = None

    def __len__(self) -> int:
        return len(self._records)

    @property
    def items(self) -> ItemSet:
        if self._set is None:
            self._set = ItemSet(one for one, _ in self._records.values())
        return self._set

    def take(self, record: SignedRecord) -> bool:
        """Keeps a verified record. Returns: whether it is newer than what was held."""
        held = self._records.get(record.key)
        if held is not None and held[1].version >= record.version:
            return False
        self._records[record.key] = (item(record), record)
        self._set = None
        return True

    def make_up(self, registry: Registry, dice: random.Random, now: float) -> None:
        """Fills a liar's set with newer versions that nobody signed."""
        for key in dice.sample(sorted(self._records), min(MADE_UP, len(self._records))):
            self.take(registry.make_up(key, JUNK_VERSION, now))

    def give(self, wanted: Iterable[bytes]) -> list[SignedRecord]:
        """The records of those items that are still held."""
        held = (self._records.get(one[:32]) for one in wanted)
        return [pair[1] for pair in held if pair is not None]


def verified(records: Iterable[SignedRecord], registry: Registry) -> tuple[list[SignedRecord], bool]:
    """Those before the first that does not verify, and whether there was such a one: its giver is left."""
    good = []
    for record in records:
        try:
            good.append(registry.verify(record.encoded))
        except Malformed:
            return good, True
    return good, False
