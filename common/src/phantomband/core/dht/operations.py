"""Runs a directory's operations: gives lookups their requests and answers, fetches, stores, reports the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from phantomband.core.dht.contact import KEY_BYTES, Contact, number
from phantomband.core.dht.lookup import Lookup
from phantomband.core.dht.messages import Found
from phantomband.core.dht.operation import Finished, Goal, Operation
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.record import SignedRecord
from phantomband.core.dht.rpc import Pending, Purpose
from phantomband.core.dht.store import Outcome
from phantomband.core.dht.table import RoutingTable
from phantomband.core.errors import Malformed


class Host(Protocol):
    """What operations need of their directory."""

    own: Contact
    parameters: Parameters
    table: RoutingTable

    def ask(
        self,
        contact: Contact,
        purpose: Purpose,
        now: float,
        operation: int = 0,
        request: tuple[bytes, int | bytes | None] = (b"", None),
    ) -> bool: ...

    def verify_untrusted(self, encoded: bytes) -> SignedRecord: ...

    def finish(self, finished: Finished) -> None: ...


class Operations:
    """At most `operations` at once. Numbers are never used twice."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._running: dict[int, Operation] = {}
        self._count = 0

    def refresh(self, target: int, now: float, first: Sequence[Contact] = ()) -> int:
        return self._start(Goal.REFRESH, target.to_bytes(KEY_BYTES, "big"), now, first)

    def search(self, key: bytes, now: float) -> int:
        return self._start(Goal.SEARCH, key, now)

    def publish(self, record: SignedRecord, now: float) -> int:
        return self._start(Goal.PUBLISH, record.key, now, record=record)

    def found(self, pending: Pending, found: Found, now: float) -> None:
        """A FIND was answered."""
        if (operation := self._running.get(pending.operation)) is not None:
            operation.lookup.answered(pending.contact.node_id, found.contacts, found.held)
            self._advance(operation, now)

    def unanswered(self, pending: Pending, now: float, *, forged: bool = False) -> None:
        """A FIND was not, or without a proof (`forged`)."""
        if (operation := self._running.get(pending.operation)) is not None:
            operation.lookup.failed(pending.contact.node_id, forged=forged)
            self._advance(operation, now)

    def fetched(self, pending: Pending, encoded: bytes, now: float) -> None:
        """A GET was answered, with nothing perhaps."""
        operation = self._running.get(pending.operation)
        if operation is None:
            return
        operation.fetching = False
        held = operation.lookup.held[pending.contact.node_id]
        try:
            record = self._host.verify_untrusted(encoded)
        except Malformed:
            record = None
        if record is not None and record.key == operation.key and record.expires > now:
            operation.record = self._newer(operation.record, record)
        if record is None or record.digest != held.digest:
            operation.rejected.add(held.digest)
        self._fetch(operation, now)

    def stored(self, pending: Pending, outcome: Outcome | None, now: float) -> None:
        """A STORE was answered, or not (None)."""
        if (operation := self._running.get(pending.operation)) is not None:
            operation.storing -= 1
            operation.stored += outcome is Outcome.STORED
            if not operation.storing:
                self._finish(operation, now)

    def _start(
        self, goal: Goal, key: bytes, now: float, first: Sequence[Contact] = (), record: SignedRecord | None = None
    ) -> int:
        host, target = self._host, number(key)
        if len(self._running) >= host.parameters.operations:
            return 0
        self._count += 1
        known = list(first) or host.table.closest(target, host.parameters.bucket)
        host.table.touched(target, now)
        lookup = Lookup(target, host.own.node_id, known, host.parameters, search=goal is Goal.SEARCH)
        operation = Operation(self._count, goal, key, lookup, now, record)
        self._running[operation.number] = operation
        self._advance(operation, now)
        return operation.number

    def _advance(self, operation: Operation, now: float) -> None:
        """Asks on while the lookup lasts, then does what the operation is for."""
        lookup = operation.lookup
        if operation.holders is not None or operation.storing:
            return
        while not lookup.done and (contacts := lookup.next_requests()):
            refused = [
                contact
                for contact in contacts
                if not self._host.ask(contact, Purpose.LOOKUP, now, operation.number, (operation.key, None))
            ]
            for contact in refused:
                lookup.failed(contact.node_id)
            if not refused:
                break
        if lookup.done:
            self._complete(operation, now)

    def _complete(self, operation: Operation, now: float) -> None:
        if operation.goal is Goal.SEARCH:
            operation.holders = deque(operation.lookup.holders()[: self._host.parameters.fetches])
            self._fetch(operation, now)
        elif operation.goal is Goal.PUBLISH and operation.record is not None:
            request = (b"", operation.record.encoded)
            for contact in operation.lookup.result():
                operation.storing += self._host.ask(contact, Purpose.STORE, now, operation.number, request)
            if not operation.storing:
                self._finish(operation, now)
        else:
            self._finish(operation, now)

    def _fetch(self, operation: Operation, now: float) -> None:
        """Asks the next holder whose announcement is better than what is there and was not found false."""
        while operation.holders and not operation.fetching:
            contact = operation.holders.popleft()
            held = operation.lookup.held[contact.node_id]
            known = operation.record
            if held.digest in operation.rejected or (known is not None and held.version <= known.version):
                continue
            operation.fetching = self._host.ask(
                contact, Purpose.FETCH, now, operation.number, (operation.key, held.size)
            )
        if not operation.fetching:
            self._finish(operation, now)

    def _newer(self, known: SignedRecord | None, record: SignedRecord) -> SignedRecord:
        return record if known is None or record.version > known.version else known

    def _cache(self, operation: Operation, now: float) -> None:
        """Gives what was found to the closest one that has it not (Kademlia, section 2.3)."""
        lookup = operation.lookup
        lacking = [contact for contact in lookup.result() if contact.node_id not in lookup.held]
        if operation.goal is Goal.SEARCH and operation.record is not None and lacking:
            self._host.ask(lacking[0], Purpose.STORE, now, 0, (b"", operation.record.encoded))

    def _finish(self, operation: Operation, now: float) -> None:
        del self._running[operation.number]
        lookup = operation.lookup
        self._cache(operation, now)
        self._host.finish(
            Finished(
                operation.number,
                operation.goal,
                operation.key,
                operation.record,
                operation.stored,
                lookup.hops,
                lookup.requests,
                now - operation.started,
            )
        )
