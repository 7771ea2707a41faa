"""The one door into the pool: whatever way a descriptor comes (its node, the table, gossip, a peer's vote), it climbs
the ladder of admission, and what is held already is not looked at again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from phantomband.core.errors import Forged, Malformed, Refused
from phantomband.core.netdir.admission import VOUCHED, Admission, Source, network_of
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES, SignedDescriptor, descriptor_digest
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.pool_records import Record


class Intake:
    """Fills one pool.

    Args:
        added: told of each descriptor that is new.
    """

    def __init__(
        self,
        pool: DescriptorPool,
        admission: Admission,
        now: Callable[[], float],
        added: Callable[[SignedDescriptor], None],
    ) -> None:
        self._pool, self._admission, self._now, self._added = pool, admission, now, added
        self.refused: Counter[str] = Counter()
        """Descriptors not taken, by kind of error."""

    def take_untrusted(self, stamp: bytes, raw: bytes, source: Source = VOUCHED) -> SignedDescriptor:
        """Takes a descriptor up the ladder and into the pool.

        Args:
            source: whose rate it counts for; VOUCHED: it was asked for, or its sender's is bounded by its key.

        Returns: the descriptor as it is held, new or not.

        Raises:
            Malformed: it is wrong; Forged if its signature is.
            Refused: no room, too often, a stale stamp, or its node was convicted.
        """
        held = self._held(raw)
        if held is not None and (held.stamp or not self._admission.asks_work):
            return held.signed
        try:
            now = self._now()
            descriptor = self._admission.check_unverified(stamp, raw, source, now)
            if held is not None:
                self._pool.restamp(held.signed.digest, stamp)
                return held.signed
            self._pool.check(descriptor, now)
            return self._add(self._admission.verify_untrusted(raw), stamp, network=network_of(source))
        except (Malformed, Refused) as e:
            self.refused[type(e).__name__] += 1
            raise

    def take_named_untrusted(self, raw: bytes) -> None:
        """Takes a descriptor that a vote names: a directory of the genesis set answers for its stamp.

        Raises:
            Malformed, Refused: as `take_untrusted`.
        """
        if self._held(raw) is None:
            self._add(self._admission.verify_untrusted(raw), named=True)

    def take_own(self, signed: SignedDescriptor, stamp: bytes = b"") -> None:
        """Takes this node's own, which it has just signed.

        Raises:
            Refused: the pool is full, or this node was convicted.
        """
        self._add(signed, stamp)

    def take_all_untrusted(self, records: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
        """Takes (stamp, descriptor) pairs of one answer; two that contradict each other convict their node.

        Returns: the digests of those that were not taken.

        Raises:
            Forged: one has a wrong signature. Those before it were taken.
        """
        refused: list[bytes] = []
        times: dict[tuple[bytes, int], list[tuple[bytes, bytes]]] = {}
        for stamp, raw in records:
            try:
                times.setdefault(self._time_of(stamp, raw), []).append((stamp, raw))
                self.take_untrusted(stamp, raw)
            except Forged:
                raise
            except (Malformed, Refused):
                refused.append(descriptor_digest(raw))
        for same in times.values():
            if len(same) > 1:
                self._convict(same[0], same[1])
        return refused

    def _held(self, raw: bytes) -> Record | None:
        return self._pool.record(descriptor_digest(raw)) if len(raw) <= MAX_DESCRIPTOR_BYTES else None

    def _add(
        self, signed: SignedDescriptor, stamp: bytes = b"", *, named: bool = False, network: bytes = b""
    ) -> SignedDescriptor:
        if self._pool.add(signed, self._now(), stamp, named=named, network=network):
            self._added(signed)
        return signed

    def _time_of(self, stamp: bytes, raw: bytes) -> tuple[bytes, int]:
        """Which node, and which time of publication, a descriptor speaks of."""
        held = self._held(raw)
        descriptor = (
            held.signed.descriptor
            if held is not None
            else self._admission.check_unverified(stamp, raw, VOUCHED, self._now())
        )
        return descriptor.node_id, descriptor.published

    def _convict(self, one: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> None:
        """Raises: Forged: one of them is."""
        if descriptor_digest(one[1]) == descriptor_digest(other[1]):
            return
        records = []
        for stamp, raw in (one, other):
            records.append(self._held(raw) or Record(self._admission.verify_untrusted(raw), stamp))
        try:
            self._pool.convict(*records)
        except Refused:
            self.refused["Conviction"] += 1
