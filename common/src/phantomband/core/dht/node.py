"""One directory in the table: answers others, and drives its own operations. No clock, socket or randomness of its own.

The driver carries messages: a request over a link that has proved the contact's link key, an answer back on the same
link. It calls `tick` no later than `deadline`. Who asks us becomes a candidate; a candidate enters the table when it
answered a nonce and proved its id, at the address that it claims.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.dht.contact import Contact, far_prefix, near_prefix, number
from phantomband.core.dht.limits import RateLimits
from phantomband.core.dht.lookup import Held
from phantomband.core.dht.messages import (
    MAX_CONTACTS,
    NONCE_BYTES,
    Answer,
    Find,
    Found,
    Get,
    Ping,
    Pong,
    RecordAnswer,
    Request,
    Store,
    StoreAnswer,
)
from phantomband.core.dht.operation import Finished, Send
from phantomband.core.dht.operations import Operations
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.proof import Prover
from phantomband.core.dht.record import SignedRecord, Verify
from phantomband.core.dht.rpc import Pending, PendingRequests, Purpose
from phantomband.core.dht.store import Outcome, RecordStore
from phantomband.core.dht.table import RoutingTable
from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId

Effect = Send | Finished

TICK = 30.0
"""Seconds between two rounds of upkeep."""


class DirectoryNode:
    """The table, the store and the operations of one directory.

    Args:
        own: how others reach us.
        prover: proofs of identity, ours and others'.
        verify: checks an encoded record (`record.decode_record_untrusted` of our network).
        random: unpredictable bytes, for nonces and refreshes.
    """

    def __init__(
        self, own: Contact, prover: Prover, verify: Verify, random: RandomSource, parameters: Parameters, now: float
    ) -> None:
        self.own, self.parameters = own, parameters
        self.table = RoutingTable(own, parameters)
        self.store = RecordStore(own.number, parameters)
        self._prover, self._verify, self._random = prover, verify, random
        self._limits = RateLimits(parameters)
        self._pending = PendingRequests(parameters.pending)
        self._proved: OrderedDict[NodeId, Contact] = OrderedDict()
        self._candidates: OrderedDict[NodeId, Contact] = OrderedDict()
        self._operations = Operations(self)
        self._upkeep = now + TICK
        self._own_lookup = now
        self._out: list[Effect] = []

    @property
    def deadline(self) -> float:
        """When `tick` must be called, seconds."""
        waits = self._pending.deadline
        return self._upkeep if waits is None else min(waits, self._upkeep)

    def join(self, contacts: Iterable[Contact], now: float) -> list[Effect]:
        """Looks ourselves up, beginning with contacts from a genesis file or an earlier run."""
        self._own_lookup = now
        self._operations.refresh(self.own.number, now, list(contacts))
        return self._flush()

    def search(self, key: bytes, now: float) -> tuple[int, list[Effect]]:
        """Looks for the record under `key`. Returns: the operation's number (0: too many at once), effects."""
        return self._operations.search(key, now), self._flush()

    def publish(self, record: SignedRecord, now: float) -> tuple[int, list[Effect]]:
        """Stores a record of ours, or passes on another's; anew each `republish` seconds. Returns: as `search`."""
        return self._operations.publish(record, now), self._flush()

    def request(self, request: Request, ip: bytes, now: float) -> list[Effect]:
        """Serves a request that came from the packed address `ip`; silence when its prefix asks too much.

        Limits go by where a request came from, not by the contact that it claims: or one could use up another's.
        """
        sender = request.sender
        if sender.node_id == self.own.node_id or not self._limits.allows(near_prefix(ip), now):
            return []
        self._out.append(Send(sender, self._serve(request, ip, now)))
        self.candidate(sender, now)
        return self._flush()

    def answer(self, answer: Answer, contact: Contact, now: float) -> list[Effect]:
        """Takes an answer that came from `contact`; one that nobody waits for is ignored."""
        pending = self._pending.take(answer.nonce, contact)
        if pending is None:
            return []
        try:
            self._check_proof(pending, answer)
        except Malformed:
            self._no_answer(pending, now, forged=True)
            return self._flush()
        self.table.heard(contact, now)
        match pending.purpose, answer:
            case Purpose.LOOKUP, Found():
                self._operations.found(pending, answer, now)
                self.candidate(contact, now)
            case Purpose.FETCH, RecordAnswer():
                self._operations.fetched(pending, answer.record, now)
            case Purpose.STORE, StoreAnswer():
                self._operations.stored(pending, answer.outcome, now)
            case Purpose.CANDIDATE, Pong():
                self._insert(contact, now)
            case Purpose.LIVE, Pong():
                pass
            case _:
                self._no_answer(pending, now)
        return self._flush()

    def lost(self, nonce: bytes, contact: Contact, now: float) -> list[Effect]:
        """The contact could not be dialled, or answered with bytes that are Malformed."""
        if (pending := self._pending.take(nonce, contact)) is not None:
            self._no_answer(pending, now)
        return self._flush()

    def tick(self, now: float) -> list[Effect]:
        """Gives up requests that are overdue; each 30 s looks after table and store."""
        for pending in self._pending.overdue(now):
            self._no_answer(pending, now)
        if now >= self._upkeep:
            self._upkeep = now + TICK
            self._look_after(now)
        return self._flush()

    def candidate(self, contact: Contact, now: float) -> None:
        """A contact that might enter the table: it is asked to prove itself, unless it just did."""
        if not self.table.wants(contact):
            return
        if not self.parameters.prove or self._proved.get(contact.node_id) == contact:
            self._insert(contact, now)
        elif contact.node_id not in self._candidates and len(self._candidates) < self.parameters.candidates:
            self._candidates[contact.node_id] = contact
            self.ask(contact, Purpose.CANDIDATE, now)

    def ask(
        self,
        contact: Contact,
        purpose: Purpose,
        now: float,
        operation: int = 0,
        request: tuple[bytes, int | bytes | None] = (b"", None),
        newcomer: Contact | None = None,
    ) -> bool:
        """Sends a request. `request`: (target, None) FIND, (key, size) GET, (b"", record) STORE.

        Returns: whether there was room for it.
        """
        if self._pending.full:
            return False
        proves = purpose in (Purpose.LOOKUP, Purpose.CANDIDATE) and self._must_prove(contact)
        nonce, own, (key, more) = self._random(NONCE_BYTES), self.own, request
        message: Request
        if purpose is Purpose.LOOKUP:
            message = Find(nonce, own, proves, key)
        elif purpose is Purpose.FETCH and isinstance(more, int):
            message = Get(nonce, own, key, more)
        elif purpose is Purpose.STORE and isinstance(more, bytes):
            message = Store(nonce, own, more)
        else:
            message = Ping(nonce, own, proves)
        deadline = now + self.parameters.timeout
        self._pending.add(Pending(nonce, contact, purpose, operation, proves, deadline, newcomer))
        self._out.append(Send(contact, message))
        return True

    def verify_untrusted(self, encoded: bytes) -> SignedRecord:
        """Raises: Malformed: not a record of our network."""
        return self._verify(encoded)

    def finish(self, finished: Finished) -> None:
        self._out.append(finished)

    def random_place(self) -> int:
        """256 random bits."""
        return number(self._random(32))

    def _must_prove(self, contact: Contact) -> bool:
        return self.parameters.prove and self._proved.get(contact.node_id) != contact

    def _serve(self, request: Request, ip: bytes, now: float) -> Answer:
        match request:
            case Ping():
                return Pong(request.nonce, self._proof(request))
            case Find():
                record = self.store.get(request.target, now)
                held = None if record is None else Held(record.version, record.digest, len(record.encoded))
                target = number(request.target)
                contacts = self.table.closest(target, min(self.parameters.bucket, MAX_CONTACTS) + 1)
                others = [one for one in contacts if one.node_id != request.sender.node_id]
                return Found(request.nonce, self._proof(request), tuple(others[:MAX_CONTACTS]), held)
            case Get():
                record = self.store.get(request.key, now)
                fits = record is not None and len(record.encoded) <= request.size
                return RecordAnswer(request.nonce, record.encoded if record is not None and fits else b"")
            case Store():
                return StoreAnswer(request.nonce, self._take(request, ip, now))

    def _proof(self, request: Ping | Find) -> bytes:
        return self._prover.prove(self.own, request.nonce, request.sender.node_id) if request.prove else b""

    def _take(self, request: Store, ip: bytes, now: float) -> Outcome:
        try:
            record = self._verify(request.record)
        except Malformed:
            return Outcome.MALFORMED
        return self.store.put(record, far_prefix(ip), now, self._keep_until(record, now))

    def _keep_until(self, record: SignedRecord, now: float) -> float:
        """To its end if we are of the key's neighbourhood, else for the time of a cache."""
        siblings, distance = self.table.siblings(), number(record.key) ^ self.own.number
        closer = sum(one.number ^ number(record.key) < distance for one in siblings)
        full = len(siblings) == self.parameters.siblings
        return now + self.parameters.cache if full and closer == len(siblings) else float(record.expires)

    def _check_proof(self, pending: Pending, answer: Answer) -> None:
        if not pending.proves:
            return
        proof = answer.proof if isinstance(answer, Pong | Found) else b""
        self._prover.check_untrusted(pending.contact, pending.nonce, self.own.node_id, proof)
        self._proved[pending.contact.node_id] = pending.contact
        self._proved.move_to_end(pending.contact.node_id)
        if len(self._proved) > self.parameters.proved:
            self._proved.popitem(last=False)

    def _insert(self, contact: Contact, now: float) -> None:
        """Puts a proved contact in; where the bucket is full, its longest silent contact must answer or go."""
        self._candidates.pop(contact.node_id, None)
        oldest = self.table.add(contact, now)
        if oldest is not None and self.table.quiet(oldest, now):
            self.ask(oldest, Purpose.LIVE, now, newcomer=contact)

    def _no_answer(self, pending: Pending, now: float, *, forged: bool = False) -> None:
        contact = pending.contact
        self._candidates.pop(contact.node_id, None)
        self.table.failed(contact)
        match pending.purpose:
            case Purpose.LIVE if contact.node_id in self.table:
                self.ask(contact, Purpose.LIVE, now, newcomer=pending.newcomer)
            case Purpose.LIVE:
                if pending.newcomer is not None:
                    self.candidate(pending.newcomer, now)
            case Purpose.LOOKUP:
                self._operations.unanswered(pending, now, forged=forged)
            case Purpose.FETCH:
                self._operations.fetched(pending, b"", now)
            case Purpose.STORE:
                self._operations.stored(pending, None, now)

    def _look_after(self, now: float) -> None:
        """One bucket or ourselves at a time, so that upkeep comes in no burst."""
        self.store.expire(now)
        for contact in self.table.silent(now):
            self.ask(contact, Purpose.LIVE, now)
        if now - self._own_lookup >= self.parameters.sibling_refresh:
            self._own_lookup = now
            self._operations.refresh(self.own.number, now)
        elif stale := self.table.stale(now):
            place = max(stale)
            target = self.table.place_in(place, self.random_place())
            self.table.touched(target, now)
            self._operations.refresh(target, now)

    def _flush(self) -> list[Effect]:
        out, self._out = self._out, []
        return out
