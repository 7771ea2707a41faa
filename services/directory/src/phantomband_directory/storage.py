"""What the service keeps on disk, and what it does when the disk does not take it.

A vote or signature that could not be remembered must not be sent: a restart could sign another. So from the first
`Remember` that fails on, votes, echoes, signatures and views of our own making are held back until memory is on disk.
Everything else goes on from memory and is written again later.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.descriptor import SignedDescriptor, decode_unverified, descriptor_digest
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.pool_records import Changes, Conviction, Record
from phantomband.core.netdir.voting_events import Broadcast, Certified, Effect, Memory, Remember

from phantomband_directory.parts import Batch, Saved, SavedConviction, StampedBytes, Store

log = logging.getLogger(__name__)

MAX_HELD = 64
"""Effects that are held back; the oldest is given up, and would be too late anyhow."""

MAX_BATCH = 512
"""Descriptors of one write, at most 8 MiB."""


class Storage:
    """One service's memory on disk."""

    def __init__(self, store: Store, pool: DescriptorPool) -> None:
        self._store, self._pool = store, pool
        self._problems: dict[str, str] = {}
        self._unremembered: Memory | None = None
        self._held: deque[Effect] = deque(maxlen=MAX_HELD)
        self._unsaved = Changes()
        self._view: bytes | None = None
        self.evidence = 0
        """Proofs of misbehaviour found since the start."""

    @property
    def problem(self) -> str:
        """What does not work, for people; empty if all does."""
        return "; ".join(self._problems.values())

    @property
    def may_vote(self) -> bool:
        """Whether all that was voted and signed is remembered on disk."""
        return self._unremembered is None

    def load(self, now: float) -> Saved:
        """Fills the pool with what is still good of the records on disk."""
        found = Saved()

        def load() -> None:
            nonlocal found
            found = self._store.load_records()

        self._attempt("records", load)
        for stamp, raw in found.descriptors:
            try:
                self._pool.add(_read(raw), now, stamp)
            except (Malformed, Refused):
                continue  # expired: its node will hand in another
        for conviction in found.convictions:
            self._convict(conviction)
        self._pool.prune(now)
        self._unsaved = Changes(acquitted=self._pool.take_changes().acquitted)
        on_disk = {descriptor_digest(raw) for _, raw in found.descriptors}
        self._unsaved.removed = on_disk - set(self._pool.digests())
        return found

    def sendable(self, effects: Iterable[Effect]) -> Iterator[Effect]:
        """The effects that may be carried out now, in order, those held back first if memory is on disk by now."""
        if self._unremembered is not None and self._remember(self._unremembered):
            while self._held:
                yield self._held.popleft()
        for effect in effects:
            if isinstance(effect, Remember):
                self._remember(effect.memory)
            elif self._unremembered is not None and isinstance(effect, Broadcast | Certified):
                self._held.append(effect)
            else:
                yield effect

    def save_view(self, certified: bytes) -> None:
        """Writes the newest view; tried again at the next `flush` if it cannot be now."""
        self._view = None if self._attempt("view", lambda: self._store.save_view(certified)) else certified

    def save_published(self, published: int) -> None:
        """Remembers the time that our next descriptor names.

        Raises:
            Refused: it cannot be remembered, so that descriptor must not be used.
        """
        if not self._attempt("own descriptor", lambda: self._store.save_published(published)):
            raise Refused("what was signed cannot be remembered")

    def keep_evidence(self, name: str, first: bytes, second: bytes) -> None:
        self.evidence += 1
        self._attempt("evidence", lambda: self._store.save_evidence(name, first, second))

    def flush(self, contacts: tuple[bytes, ...] | None = None) -> None:
        """Writes what has changed since the last time, a bounded number of records at once."""
        if self._view is not None:
            self.save_view(self._view)
        self._merge(self._pool.take_changes())
        while self._unsaved or contacts is not None:
            batch, left = self._batch(contacts)
            if not self._attempt("records", partial(self._save, batch, left)):
                return
            self._unsaved, contacts = left, None

    def report(self, what: str, problem: str) -> None:
        """Something on disk cannot be used, until it is written anew."""
        log.error(problem)
        self._problems[what] = f"{what}: {problem}"

    def _save(self, batch: Batch, left: Changes) -> None:
        """Adds to `left` all that was written before, if it is lost."""
        if self._store.save_records(batch):
            left.added = set(self._pool.digests()).difference(batch.descriptors)
            left.convicted = {one.node_id for one in self._pool.convictions}.difference(batch.convicted)

    def _remember(self, memory: Memory) -> bool:
        done = self._attempt("memory", lambda: self._store.save_memory(memory))
        self._unremembered = None if done else memory
        return done

    def _attempt(self, what: str, work: Callable[[], None]) -> bool:
        """Does `work`; says once that it fails, and once that it works again."""
        try:
            work()
        except OSError as e:
            reason = f"{what}: {e.strerror or type(e).__name__}"
            if self._problems.get(what) != reason:
                log.error("the disk does not do its part (%s). Make room or mend it", reason)
            self._problems[what] = reason
            return False
        if self._problems.pop(what, None) is not None and not self._problems:
            log.warning("storage works again")
        return True

    def _merge(self, new: Changes) -> None:
        old = self._unsaved
        never_written = old.added & new.removed
        old.added = (old.added - new.removed) | new.added
        old.removed = (old.removed - new.added) | (new.removed - never_written)
        old.convicted = (old.convicted - new.acquitted) | new.convicted
        old.acquitted = (old.acquitted - new.convicted) | new.acquitted

    def _batch(self, contacts: tuple[bytes, ...] | None) -> tuple[Batch, Changes]:
        """What to write now, and what is left when that is done."""
        todo = self._unsaved
        chosen = sorted(todo.added)[:MAX_BATCH]
        records = {digest: self._pool.record(digest) for digest in chosen}
        convictions = {node: self._pool.conviction(node) for node in todo.convicted}
        batch = Batch(
            descriptors={digest: _bytes_of(one) for digest, one in records.items() if one is not None},
            gone=todo.removed,
            convicted={node: _saved(one) for node, one in convictions.items() if one is not None},
            acquitted=todo.acquitted,
            contacts=contacts,
        )
        return batch, Changes(added=todo.added.difference(chosen))

    def _convict(self, saved: SavedConviction) -> None:
        try:
            one, other = (Record(_read(raw), stamp) for stamp, raw in (saved.first, saved.second))
            self._pool.convict(one, other)
        except (Malformed, Refused):
            log.warning("evidence on disk cannot be read")


def _read(raw: bytes) -> SignedDescriptor:
    """One that was verified before it was written."""
    return SignedDescriptor(decode_unverified(raw), raw, descriptor_digest(raw))


def _bytes_of(record: Record) -> StampedBytes:
    return record.stamp, record.signed.encoded


def _saved(conviction: Conviction) -> SavedConviction:
    return SavedConviction(conviction.until, _bytes_of(conviction.first), _bytes_of(conviction.second))
