"""A session as a `Connection`, at either end: gives what came to the receiver, and keeps the timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.transports.base import WRITE_HIGH_WATER, Accept, Buffer, Connection, Receiver
from phantomband.transports.doh.client import ClientSession
from phantomband.transports.doh.server import ServerSession

LOW_WATER = WRITE_HIGH_WATER // 4


class DohConnection(Connection):
    """Args: session: either end's; flush: sends what it can; ended: called once, when it is over; ip: of the peer."""

    def __init__(
        self,
        session: ClientSession | ServerSession,
        flush: Callable[[], None],
        ended: Callable[[], None],
        ip: bytes = b"",
    ) -> None:
        self._session, self._send, self._ended, self._ip = session, flush, ended, ip
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._reading = True
        self._was_congested = False
        self._move_due = False
        self._over = False
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def begin(self, accept: Accept) -> None:
        self._receiver = accept(self)

    # from the session

    def moved(self) -> None:
        """Something came or changed: to be called after every call of the session's."""
        if not self._move_due:
            self._move_due = True
            self._loop.call_soon(self._move)

    def _move(self) -> None:
        """All that came in one iteration of the loop is handed on and answered together."""
        self._move_due = False
        if self._over:
            self._send()
            return
        self._deliver()
        self._send()
        if self._session.over:
            self._end()
            return
        if self._was_congested and self.buffered <= LOW_WATER and not self._session.closing:
            self._was_congested = False
            if self._receiver is not None:
                self._receiver.writable()
        self._set_timer()

    def _deliver(self) -> None:
        while self._reading or self._session.closing:
            pieces = self._session.take(self._loop.time())
            if not pieces:
                return
            for piece in pieces:
                if self._receiver is not None:
                    self._receiver.received(piece)

    def _set_timer(self) -> None:
        when = self._session.deadline
        if self._timer is not None:
            if self._timer_at <= when:
                return  # it will look again
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(when, self._tick), when

    def _tick(self) -> None:
        self._timer = None
        self._session.tick(self._loop.time() + 1e-3)
        self._move()

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._ended()
        if self._receiver is not None:
            self._receiver.closed(self._session.error)

    # from above

    @property
    def peer_ip(self) -> bytes:
        return self._ip

    def write(self, data: Buffer) -> None:
        if self._session.closing:
            return
        self._session.write(data)
        if self.congested:
            self._was_congested = True
        self.moved()

    @property
    def buffered(self) -> int:
        return self._session.send.unsent

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self.moved()

    def close(self) -> None:
        if not self._session.closing:
            self._session.close(self._loop.time())
            self.moved()

    def abort(self) -> None:
        self._session.abort()
        self.moved()
