"""The records that a directory holds: the newest version each, within limits, until they end.

A higher version replaces a lower one. An equal version with another digest is equivocation: both are kept as
evidence and the first stays in use. Beyond the limit of all records those furthest from us go: others are closer,
and hold them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from phantomband.core.dht.contact import number
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.record import MAX_SKEW_SECONDS, SignedRecord
from phantomband.core.ids import NodeId


class Outcome(IntEnum):
    """Of a STORE, as it stands in the answer."""

    STORED = 0
    """Held now, or held already."""
    OLD = 1
    """A newer version is held."""
    EXPIRED = 2
    """Over, or from the future."""
    FULL = 3
    """A limit is reached."""
    EQUIVOCATION = 4
    """Another record of the same version is held; both are kept as evidence."""
    MALFORMED = 5
    """Not a record, or forged."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record, the /16 that handed it in, and when we let go of it (Unix seconds)."""

    record: SignedRecord
    prefix: bytes
    until: float


class RecordStore:
    """At most `records` in all, `records_of_prefix` from one /16, four from one publisher (record.MAX_KIND)."""

    def __init__(self, own: int, parameters: Parameters) -> None:
        self._own, self._parameters = own, parameters
        self._stored: dict[bytes, Stored] = {}
        self._from: Counter[bytes] = Counter()
        self.evidence: dict[NodeId, tuple[SignedRecord, SignedRecord]] = {}
        """Two different records of one publisher, kind and version: both signatures verify."""

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[SignedRecord]:
        return (stored.record for stored in self._stored.values())

    def get(self, key: bytes, now: float) -> SignedRecord | None:
        """The record under `key`, unless it is over."""
        stored = self._stored.get(key)
        return stored.record if stored is not None and stored.until > now else None

    def put(self, record: SignedRecord, prefix: bytes, now: float, until: float) -> Outcome:
        """Holds a verified record until it expires or `until`, whichever is first."""
        if not record.published - MAX_SKEW_SECONDS <= now < record.expires:
            return Outcome.EXPIRED
        held = self._stored.get(record.key)
        if held is not None and held.until > now:
            if record.version < held.record.version:
                return Outcome.OLD
            if record.version == held.record.version:
                return self._same_version(held, record, until)
        elif held is not None:
            self._remove(held)
            held = None
        if (held is None or held.prefix != prefix) and self._from[prefix] >= self._parameters.records_of_prefix:
            return Outcome.FULL
        if held is None and len(self._stored) >= self._parameters.records and not self._make_room(record):
            return Outcome.FULL
        if held is not None:
            self._remove(held)
        self._stored[record.key] = Stored(record, prefix, min(until, record.expires))
        self._from[prefix] += 1
        return Outcome.STORED

    def expire(self, now: float) -> None:
        """Forgets what is over."""
        for stored in [stored for stored in self._stored.values() if stored.until <= now]:
            self._remove(stored)

    def _same_version(self, held: Stored, record: SignedRecord, until: float) -> Outcome:
        if record.digest != held.record.digest:
            if len(self.evidence) < self._parameters.evidence:
                self.evidence.setdefault(record.publisher, (held.record, record))
            return Outcome.EQUIVOCATION
        longer = min(max(held.until, until), record.expires)
        self._stored[record.key] = Stored(held.record, held.prefix, longer)
        return Outcome.STORED

    def _make_room(self, record: SignedRecord) -> bool:
        furthest = max(self._stored.values(), key=lambda one: number(one.record.key) ^ self._own)
        if number(furthest.record.key) ^ self._own <= number(record.key) ^ self._own:
            return False
        self._remove(furthest)
        return True

    def _remove(self, stored: Stored) -> None:
        del self._stored[stored.record.key]
        self._from[stored.prefix] -= 1
        if not self._from[stored.prefix]:
            del self._from[stored.prefix]
