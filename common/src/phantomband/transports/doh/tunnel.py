"""The sessions of one server: who may open one, and how many there are.

**Limits**: `MAX_SESSIONS` at once; `MAX_REMEMBERED` sessions that ended and cannot be opened again, which is longer
than the time for which an opening is taken, unless there are more than that in it: then the oldest is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.core.errors import Forged, Malformed
from phantomband.transports.base import Accept
from phantomband.transports.doh.connection import DohConnection
from phantomband.transports.doh.halves import EarlyRoom
from phantomband.transports.doh.packet import Keys, read_query_untrusted, session_untrusted
from phantomband.transports.doh.server import Reply, Room, ServerSession, Way

MAX_SESSIONS = 1024
EARLY_BYTES = 32 * 1024 * 1024
"""Of all sessions together, that came before their turn; what has no room is sent again. A session's window, 4 MiB,
would be 4 GiB for all of them."""

MAX_REMEMBERED = 100_000
CLOCK_MINUTES = 60
"""By which a client's clock may be wrong, either way."""

FORGET_SECONDS = 3 * 60 * CLOCK_MINUTES
LINGER_SECONDS = 10.0
"""That a session which is over still answers its client."""


class Tunnel:
    """Of one listener.

    Args: token: 32 bytes; clock: seconds since 1970; idle: called when no session is left.
    """

    def __init__(self, token: bytes, accept: Accept, clock: Callable[[], float], idle: Callable[[], None]) -> None:
        self._token, self._accept, self._clock, self._idle = token, accept, clock, idle
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[bytes, tuple[ServerSession, DohConnection]] = {}
        self._over: dict[bytes, float] = {}
        self._early = EarlyRoom(EARLY_BYTES)
        self.open = True
        """Takes new sessions."""

    def __len__(self) -> int:
        return len(self._sessions)

    def query_untrusted(self, packet: bytes, most: int, room: Room, way: Way, reply: Reply, ip: bytes) -> None:
        """What may be a query's packet.

        Args: most: bytes that the DNS answer may have; room: bytes of a packet in an answer of so many; ip: of who
        asks, empty if a resolver does.

        Raises:
            Malformed: it is nothing of ours, and is to be answered like any other query.
        """
        session_id = session_untrusted(packet)
        now = self._loop.time()
        found = self._sessions.get(session_id)
        if found is not None:
            session, connection = found
            session.keys.check_query_untrusted(packet)
            session.query_untrusted(read_query_untrusted(packet), most, room, way, reply, now)
        else:
            connection = self._begin_untrusted(session_id, packet, most, room, way, reply, ip, now)
        connection.moved()

    def _begin_untrusted(
        self, session_id: bytes, packet: bytes, most: int, room: Room, way: Way, reply: Reply, ip: bytes, now: float
    ) -> DohConnection:
        keys = Keys(self._token, session_id)
        keys.check_query_untrusted(packet)
        q = read_query_untrusted(packet)
        session = ServerSession(keys, q, now, self._early)
        self._forget(now)
        if session_id in self._over or q.opening is None or not self._timely(q.opening.minutes):
            raise Forged("an opening was repeated or is old")
        if not self.open or len(self._sessions) >= MAX_SESSIONS:
            raise Malformed("no more sessions")
        session.query_untrusted(q, most, room, way, reply, now)
        connection = DohConnection(
            session, lambda: session.flush(self._loop.time()), lambda: self._ended(session_id), ip
        )
        self._sessions[session_id] = session, connection
        connection.begin(self._accept)
        return connection

    def _timely(self, minutes: int) -> bool:
        return abs(self._clock() / 60 - minutes) <= CLOCK_MINUTES

    def _ended(self, session_id: bytes) -> None:
        self._over[session_id] = self._loop.time()
        self._loop.call_later(LINGER_SECONDS, self._remove, session_id)
        if self.quiet:
            self._idle()

    def _remove(self, session_id: bytes) -> None:
        self._sessions.pop(session_id, None)

    @property
    def quiet(self) -> bool:
        """No session is alive."""
        return all(session.over for session, _ in self._sessions.values())

    def _forget(self, now: float) -> None:
        while self._over:
            oldest = next(iter(self._over))
            if len(self._over) < MAX_REMEMBERED and now - self._over[oldest] < FORGET_SECONDS:
                return
            del self._over[oldest]

    def writable(self, way: Way) -> None:
        """`way` was congested and no longer is."""
        for _, connection in list(self._sessions.values()):
            connection.moved()

    def way_lost(self, way: Way) -> None:
        for session, connection in list(self._sessions.values()):
            if session.uses(way):
                session.way_lost(way)
                connection.moved()
