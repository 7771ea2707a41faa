"""The server's end of a session: which query to answer, when, with what. No IO, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from phantomband.core.errors import Malformed
from phantomband.transports.doh.client import HOLD_UNIT
from phantomband.transports.doh.halves import EarlyRoom
from phantomband.transports.doh.packet import (
    ANSWER_OVERHEAD,
    BITMAP_BITS,
    DATA,
    DATA_OVERHEAD,
    FIN,
    HELD,
    OPEN,
    RESET,
    Answer,
    Keys,
    Query,
)
from phantomband.transports.doh.rtt import Rtt
from phantomband.transports.doh.session import Session, SessionLost

MAX_HELD = 256
"""Queries of one session that wait for data; the oldest is answered empty at the bound."""

MAX_HOLD = 30.0
"""Seconds, whatever the client asks for."""

MAX_SEEN = 1024
"""Query numbers below the highest that are remembered; older ones are not answered."""

IDLE_SECONDS = 120.0
"""Without a query: the session is dead."""

ALONE_SECONDS = 20.0
"""Without a query, after the only connection of a direct session was lost: time for the client to come back."""

LEAST_LIMIT = ANSWER_OVERHEAD + DATA_OVERHEAD + 32


class Way(Protocol):
    """Where answers go: one HTTP/2 connection, one DNS socket."""

    @property
    def congested(self) -> bool: ...


Room = Callable[[int], int]
"""How many bytes a packet has room for in a DNS answer of so many."""

Reply = Callable[[bytes], None]
"""Sends an answer's packet."""


class _Held:
    __slots__ = ("limit", "number", "opens", "reply", "since", "urgent", "way")

    def __init__(self, q: Query, limit: int, way: Way, reply: Reply, since: float) -> None:
        self.number, self.limit, self.way, self.reply = q.number, limit, way, reply
        self.since, self.opens, self.urgent = since, bool(q.flags & OPEN), bool(q.flags & (OPEN | DATA | FIN))


class ServerSession(Session):
    """Args: keys, now, early: as `Session`; first: the query that opens it, which `query_untrusted` gets, too.

    Raises:
        Malformed: it does not.
    """

    def __init__(self, keys: Keys, first: Query, now: float, early: EarlyRoom | None = None) -> None:
        super().__init__(keys, now, early)
        opening = first.opening
        if opening is None:
            raise Malformed("the session is unknown")
        self._limit = opening.limit
        self._hold = min(opening.hold * HOLD_UNIT, MAX_HOLD)
        self._reliable = opening.reliable
        self._rtt = Rtt(1.0, 0.3, 8.0)
        self._held: deque[_Held] = deque()
        self._number = 0
        self._seen: set[int] = set()
        self._highest = -1
        self._heard = now
        self._alone = False
        self._reorder = 0.0
        self._aborted = False
        self._way: Way | None = None

    # what came

    def query_untrusted(self, q: Query, most: int, room: Room, way: Way, reply: Reply, now: float) -> None:
        """A query of this session, its MAC checked.

        Args: most: bytes that the DNS answer may have; reply: called once, now or later, or never.

        Raises:
            Malformed: it is a repeat, or says what cannot be.
        """
        self._check_fresh_untrusted(q.number)
        limit = room(min(most, self._limit))
        if limit < LEAST_LIMIT:
            raise Malformed("the answer would have no room")
        self._heard, self._alone, self._way = now, False, way
        if q.flags & RESET:
            self._end(SessionLost("the other end ended the session"))
            return
        if not self.over:
            self._acks_untrusted(q, now)
            if self._take_fields_untrusted(q):
                self._rtt.progress()
        self._held.append(_Held(q, limit, way, reply, now))
        self._finish_if_done(now)

    def _check_fresh_untrusted(self, number: int) -> None:
        if number in self._seen or number <= self._highest - MAX_SEEN:
            raise Malformed("a query was repeated")
        self._seen.add(number)
        if number > self._highest:
            self._highest = number
            if len(self._seen) > 2 * MAX_SEEN:
                self._seen = {n for n in self._seen if n > number - MAX_SEEN}

    def _acks_untrusted(self, q: Query, now: float) -> None:
        """Marks answers as delivered, and those lost that were sent well before one that came (RFC 8985, in short)."""
        if not self._number:
            return
        top = self._number - 1 - ((self._number - 1 - q.top) & 0xFFFF)
        if top < 0:
            return
        newest = self._came(top, now, sample=True)
        for number in [n for n in self.send.flight if 0 < top - n <= BITMAP_BITS and q.bitmap >> (top - n - 1) & 1]:
            newest = max(newest, self._came(number, now, sample=False))
        if newest and not self._reliable:
            self.send.lose_sent_before(newest - max(self._reorder, self._rtt.smooth / 4, 0.01))

    def _came(self, number: int, now: float, sample: bool) -> float:
        """Returns: when answer `number` was sent, if that it came is news."""
        segment = self.send.delivered(number)
        if segment is None:
            return 0.0
        if sample:
            self._rtt.sample(now - segment.sent)
        return segment.sent

    # what to send

    def flush(self, now: float) -> None:
        """Answers all queries that should be answered now."""
        while self._held and not self._held[0].way.congested:
            first = self._held[0]
            due = self.send.pending or self.receive.news or self._aborted or self.over or len(self._held) > MAX_HELD
            if not due and now < first.since + self._hold and not first.urgent:
                break
            self._held.popleft()
            self._answer(first, now)
        else:
            return
        # Polls that wait stand before queries with data: those are answered out of turn.
        if any(h.urgent for h in self._held):
            urgent = [h for h in self._held if h.urgent and not h.way.congested]
            self._held = deque(h for h in self._held if not h.urgent or h.way.congested)
            for held in urgent:
                self._answer(held, now)

    def _answer(self, held: _Held, now: float) -> None:
        number = self._number
        flags = OPEN if held.opens else 0
        if now - held.since > HOLD_UNIT and not held.urgent:
            flags |= HELD
        if self._aborted or (self.over and self.error is not None):
            flags |= RESET
        room = held.limit - ANSWER_OVERHEAD - DATA_OVERHEAD
        segment = None if self.over else self.send.take(number, room, now)
        a = Answer(number, flags, 0, self.receive.next, self._credit())
        if segment is not None:
            a.flags |= (DATA if segment.data else 0) | (FIN if segment.fin else 0)
            a.offset, a.data = segment.offset, segment.data
            a.backlog = min(255, -(-self.send.sendable // room))
        self._number += 1
        held.reply(self.keys.seal_answer(held.number, a))

    # time and ends

    @property
    def deadline(self) -> float:
        """When to call `tick` and `flush` at the latest."""
        times = [self._heard + (ALONE_SECONDS if self._alone else IDLE_SECONDS)]
        if self._held and not self._held[0].way.congested:
            times.append(self._held[0].since + self._hold)
        if self.send.flight and not self._reliable:
            times.append(next(iter(self.send.flight.values())).sent + self._rtt.timeout)
        if self._patience is not None:
            times.append(self._patience)
        return min(times)

    def tick(self, now: float) -> None:
        """Gives up what has waited too long."""
        if not self._reliable and self.send.lose_sent_before(now - self._rtt.timeout + 1e-6):
            self._rtt.timed_out()
        self._check_patience(now)
        if now >= self._heard + (ALONE_SECONDS if self._alone else IDLE_SECONDS):
            self._end(SessionLost("the client is gone"))

    def uses(self, way: Way) -> bool:
        """Whether the last query came over `way`."""
        return self._way is way

    def way_lost(self, way: Way) -> None:
        """What was sent over `way` may not have come."""
        self._held = deque(h for h in self._held if h.way is not way)
        if self._reliable:
            self._alone = True
            for number in list(self.send.flight):
                self.send.lose(number)

    def abort(self) -> None:
        """Queries that wait, and those to come, are told."""
        self._aborted = True
        self._end(None)
