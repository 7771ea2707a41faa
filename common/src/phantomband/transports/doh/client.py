"""The client's end of a session: what to ask when. No IO, no clock.

Every query gets one answer, so what the server may send is what we have asked for. Two kinds of queries are out: those
that carry data, answered at once, and polls, which the server may hold until it has something.

**Polls.** How many are out grows by one with each answer that says more is waiting (so it doubles in a round trip), and
shrinks by one with each empty answer, down to one; after that they become rare, as `Pace.rarest` allows.

**Window.** How many queries with data are out, and at most how many polls: like TCP's, it grows by one an answer at
first, and by one a round trip later. Since resolvers lose queries for reasons of their own, it shrinks by 30% only when
over a quarter of a window's queries were lost. Towards the node itself nothing is lost and TCP finds the speed: there
it shrinks when answers to data take much longer than the fastest did, so that no more waits in TCP's queues than the
way needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from phantomband.transports.doh.packet import (
    BITMAP_BITS,
    DATA,
    DATA_OVERHEAD,
    FIN,
    HELD,
    MAX_NUMBER,
    OPEN,
    OPEN_BYTES,
    QUERY_OVERHEAD,
    RESET,
    Answer,
    Keys,
    Opening,
    Query,
    near,
)
from phantomband.transports.doh.rtt import Rtt
from phantomband.transports.doh.session import Session, SessionLost

LOSS_SHARE = 0.25
"""A way that loses 5% of packets loses 10% of queries."""
SHRINK = 0.7
LEAST_WINDOW = 8

LEAST_DIRECT = 4.0
QUEUE_SECONDS = 0.5
"""By which answers to data may be later than twice the fastest, before fewer are out."""

SILENCE_SECONDS = 60.0
"""Without any answer of the server's: the session is lost."""

HOLD_UNIT = 0.01
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a session behaves over one kind of way."""

    reliable: bool
    """Nothing is lost while the connection lives: nothing is sent again by time."""
    hold: float
    """Seconds for which the server may keep a query."""
    polls: int
    """Polls out at the beginning."""
    window: int
    """Queries out at the beginning."""
    most: int
    """Queries out at most."""
    most_polls: int
    """Of them polls: the rest is for data, which must not wait until polls that are held come back."""
    rarest: float
    """Seconds between polls of an idle session, at most."""
    refusals: int
    """Ordinary answers in a row after which the server is thought to have forgotten us."""


DIRECT = Pace(reliable=True, hold=20.0, polls=4, window=16, most=120, most_polls=60, rarest=0.0, refusals=1)
"""20 s: below the minute after which usual servers and middle boxes end idle requests."""

RESOLVER = Pace(reliable=False, hold=0.25, polls=8, window=32, most=98, most_polls=84, rarest=4.0, refusals=8)
"""0.25 s: resolvers ask again after 0.4 s (unbound 1.17). 98: many take 100 streams on a connection."""


@dataclass(slots=True)
class _Out:
    sent: float
    poll: bool


class ClientSession(Session):
    """Args: keys, now: as `Session`; pace: of the way; limit: bytes of a DNS answer; minutes: since 1970."""

    def __init__(self, keys: Keys, pace: Pace, limit: int, minutes: int, now: float) -> None:
        super().__init__(keys, now)
        self._pace = pace
        self._opening = Opening(minutes, limit, round(pace.hold / HOLD_UNIT), pace.reliable)
        self.opened = False
        # Apart: a resolver that asks label by label needs several round trips for a query with data.
        self._data_rtt, self._poll_rtt = Rtt(1.0, 0.3, 15.0), Rtt(1.0, 0.3, 15.0)
        self._number = 0
        self._data: dict[int, _Out] = {}
        self._polls: dict[int, _Out] = {}
        self._wanted = pace.polls
        self._next_poll = now
        self._window = float(pace.window)
        self._slow_start = True
        self._results = self._losses = 0
        self._top = -1
        self._bitmap = 0
        self._last_answer = self._last_data = now
        self._refusals = 0
        self._reorder = 0.0
        self._reset_due = self._ack_due = False

    # what to send

    @property
    def out(self) -> int:
        return len(self._data) + len(self._polls)

    def query(self, room: int, now: float) -> tuple[int, bytes] | None:
        """The next query. Args: room: bytes that its packet may have. Returns: its number and packet, or None."""
        self._now = now
        if self._reset_due:
            self._reset_due = False
            return self._packet(room, RESET, now)
        if self._number >= MAX_NUMBER - 1:
            self._end(SessionLost("a session has too many packets"))
        if self.over or self.out >= self._pace.most:
            return None
        if not self.opened:
            return None if self.out else self._packet(room, OPEN, now)
        if self.send.pending and len(self._data) < self._window:
            return self._packet(room, 0, now)
        polls = min(self._wanted, self._pace.most_polls, self._window)
        if self.receive.news or (len(self._polls) < polls and now >= self._next_poll):
            return self._packet(0, 0, now)
        return None

    def _packet(self, room: int, flags: int, now: float) -> tuple[int, bytes]:
        number = self._number
        self._number += 1
        opening = self._opening if flags & OPEN else None
        room -= QUERY_OVERHEAD + DATA_OVERHEAD + (OPEN_BYTES if opening else 0)
        segment = None if flags & (RESET | OPEN) or room <= 0 else self.send.take(number, room, now)
        q = Query(self.keys.session, number, flags, self.receive.next, self._credit(), self._top, self._bitmap, opening)
        if segment is not None:
            q.flags |= (DATA if segment.data else 0) | (FIN if segment.fin else 0)
            q.offset, q.data = segment.offset, segment.data
        poll = not q.flags
        (self._polls if poll else self._data)[number] = _Out(now, poll)
        return number, self.keys.seal_query(q)

    # what came

    def answer_untrusted(self, number: int, packet: bytes, now: float) -> None:
        """The answer to query `number`.

        Raises:
            Malformed: it is none of this session's; the query has failed.
        """
        if self.over:
            return
        answer = self.keys.open_answer_untrusted(number, packet)
        self._last_answer, self._refusals = now, 0
        out = self._data.pop(number, None) or self._polls.pop(number, None)
        rtt = self._poll_rtt if out is not None and out.poll else self._data_rtt
        self._count(False, rtt)
        if out is not None and not answer.flags & HELD:
            rtt.sample(now - out.sent)
            if self._pace.reliable and not out.poll:
                self._avoid_queues(now - out.sent)
        if answer.flags & RESET:
            self._end(SessionLost("the other end ended the session"))
            return
        if answer.flags & OPEN and not self.opened:
            self.opened = True
        self._remember(answer.number)
        self.send.delivered(number)
        if self._take_fields_untrusted(answer):
            self._data_rtt.progress()
        if out is not None:
            if not out.poll:
                self._lose_older(self._data, out.sent, rtt)
            elif answer.backlog:  # the server answers the oldest poll first
                self._lose_older(self._polls, out.sent, rtt)
            self._adapt(out, answer, now)
        elif rtt.smooth:
            self._reorder = min(max(2 * self._reorder, rtt.smooth / 4), 2 * rtt.smooth)
        self._finish_if_done(now)

    def _adapt(self, out: _Out, answer: Answer, now: float) -> None:
        """How many polls, and when the next."""
        if answer.flags & (DATA | FIN):
            self._last_data = self._next_poll = now
            if answer.backlog:
                self._wanted = min(self._wanted + 1, self._pace.most_polls)
        elif out.poll:
            self._wanted = max(1, self._wanted - 1)
            if self._wanted == 1 and not self.closing:
                self._next_poll = now + min(self._pace.rarest, (now - self._last_data) / 4)
        if not out.poll:
            self._next_poll = min(self._next_poll, now + self._pace.hold)

    def _remember(self, number: int) -> None:
        """Puts the number of an answer into `top` and `bitmap`."""
        number = near(number, max(self._top, 0))
        if number > self._top:
            shift = number - self._top
            known = (self._bitmap << 1 | (self._top >= 0)) << (shift - 1) if shift <= BITMAP_BITS else 0
            self._bitmap = known & (2**BITMAP_BITS - 1)
            self._top = number
        elif 0 < self._top - number <= BITMAP_BITS:
            self._bitmap |= 1 << (self._top - number - 1)

    def _lose_older(self, out: dict[int, _Out], sent: float, rtt: Rtt) -> None:
        """Queries that were sent well before one that was answered are lost (RFC 8985, in short)."""
        if self._pace.reliable:
            return
        margin = max(self._reorder, rtt.smooth / 4, 0.01)
        for number in [n for n, o in out.items() if o.sent + margin < sent]:
            self.failed(number)

    def failed(self, number: int) -> None:
        """Query `number` has no answer: it timed out, or its way failed."""
        out = self._data.pop(number, None) or self._polls.pop(number, None)
        if out is not None:
            self._count(True, self._data_rtt)
        self.send.lose(number)

    def refused(self, number: int) -> None:
        """Query `number` got an ordinary answer, which is not the server's."""
        self.failed(number)
        self._refusals += 1
        if self._refusals >= self._pace.refusals:
            self._end(SessionLost("the server does not know the session"))

    def _count(self, lost: bool, rtt: Rtt) -> None:
        """One query's result, for the window."""
        self._results += 1
        self._losses += lost
        if (
            not lost
            and max(len(self._data), len(self._polls)) + 1 >= int(self._window)
            and rtt.smooth < 3 * rtt.least_seen + 0.1
        ):
            self._window = min(self._window + (1 if self._slow_start else 1 / self._window), float(self._pace.most))
        if self._results >= max(20.0, self._window):
            if self._losses > LOSS_SHARE * self._results:
                self._window = max(float(LEAST_WINDOW), self._window * SHRINK)
                self._slow_start = False
            self._results = self._losses = 0

    def _avoid_queues(self, seconds: float) -> None:
        if seconds > 2 * self._data_rtt.least_seen + QUEUE_SECONDS:
            self._window = max(LEAST_DIRECT, self._window - 1)

    # time

    @property
    def deadline(self) -> float:
        """When to call `tick` at the latest."""
        times = [self._last_answer + SILENCE_SECONDS]
        if self._data and not self._pace.reliable:
            times.append(next(iter(self._data.values())).sent + self._data_rtt.timeout)
        if self._polls and not self._pace.reliable:
            times.append(next(iter(self._polls.values())).sent + self._poll_rtt.timeout + self._pace.hold)
        if self._next_poll > self._now:  # else it was asked since, or there was no room
            times.append(self._next_poll)
        if self._patience is not None:
            times.append(self._patience)
        return min(times)

    def tick(self, now: float) -> None:
        """Gives up what has waited too long."""
        if not self._pace.reliable:
            self._give_up_late(now)
        self._check_patience(now)
        if now >= self._last_answer + SILENCE_SECONDS:
            self._end(SessionLost("the server is silent"))

    def _give_up_late(self, now: float) -> None:
        timeout, patience = self._data_rtt.timeout, self._poll_rtt.timeout + self._pace.hold
        late = [n for n, o in self._data.items() if o.sent + timeout <= now]
        slow = [n for n, o in self._polls.items() if o.sent + patience <= now]
        if late:
            self._data_rtt.timed_out()
        for number in late + slow:
            self.failed(number)

    # ends

    @property
    def direct(self) -> bool:
        return self._pace.reliable

    def wants(self, now: float) -> bool:
        """Whether there is anything to send or ask."""
        return not self.over and (not self.opened or self.send.pending or self.receive.news or now >= self._next_poll)

    def give_up(self, why: str) -> None:
        self._end(SessionLost(why))

    def abort(self) -> None:
        """The next query says so; then the session is over."""
        if not self.over:
            self._end(None)
            self._reset_due = self.opened

    def last_ack(self) -> bool:
        """Whether a last query should tell the server that its end of the stream has come. True once."""
        due, self._ack_due = not self._ack_due and self.error is None and self.receive.ended, True
        return due

    def final(self, room: int, now: float) -> tuple[int, bytes]:
        """That query."""
        return self._packet(room, 0, now)
