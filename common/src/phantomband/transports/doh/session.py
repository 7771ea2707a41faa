"""What both ends of a session share: two halves of a stream, and how it begins and ends. No IO, no clock."""

from __future__ import annotations

from phantomband.core.errors import PhantomBandError
from phantomband.transports.base import Buffer
from phantomband.transports.doh.halves import EarlyRoom, ReceiveHalf, SendHalf
from phantomband.transports.doh.packet import CREDIT_UNIT, DATA, FIN, Answer, Keys, Query, near

WINDOW_BYTES = 4 * 1024 * 1024
"""What an end takes ahead of its reader: 40 MB/s at 100 ms."""

LINGER_SECONDS = 3.0
"""That an end waits for the last acknowledgement when all else is done."""

CLOSE_SECONDS = 10.0
"""That the other end has to take what was queued at a close; then the rest is lost."""


class SessionLost(PhantomBandError):
    """The session ended without an orderly close."""


class Session:
    """Args: keys: of the session; now: seconds, of the clock that all calls use; early: see `ReceiveHalf`."""

    def __init__(self, keys: Keys, now: float, early: EarlyRoom | None = None) -> None:
        self.keys = keys
        self.send = SendHalf()
        self.receive = ReceiveHalf(WINDOW_BYTES, early)
        self.over = False
        """Nothing more will come or go. `error` says why."""
        self.error: Exception | None = None
        self._closing = self._dropping = False
        self._patience: float | None = None
        self._now = now

    # from above

    def write(self, data: Buffer) -> None:
        if not self._closing and not self.over:
            self.send.write(data)

    def close(self, now: float) -> None:
        """Sends what is queued, then the end of the stream; what comes is dropped."""
        self._dropping = True
        self._finish(now)

    def _finish(self, now: float) -> None:
        if not self._closing:
            self._closing = True
            self.send.finish()
            self._patience = now + CLOSE_SECONDS

    @property
    def closing(self) -> bool:
        return self._closing or self.over

    def take(self, now: float) -> list[bytes | memoryview]:
        """What came, in order. After a close it is dropped."""
        ready = self.receive.take()
        if self.receive.ended and not self.receive.waiting and not self._closing:
            self._finish(now)
        self._finish_if_done(now)
        return [] if self._dropping or self.over else ready

    # for both roles

    def _take_fields_untrusted(self, p: Query | Answer) -> bool:
        """Acks, credit and data of a packet. Returns: whether the ack was news. Raises: Malformed."""
        ack = near(p.ack, self.send.acked)
        news = self.send.acked_to(ack) if ack >= 0 else False
        self.send.limit = max(self.send.limit, ack + p.credit * CREDIT_UNIT)
        if p.flags & (DATA | FIN):
            offset = near(p.offset, self.receive.next)
            if offset >= 0:
                self.receive.add_untrusted(offset, p.data, bool(p.flags & FIN))
        return news

    def _credit(self) -> int:
        """What a packet sent now says; remembers that it was told."""
        units = (self.receive.limit - self.receive.next) // CREDIT_UNIT
        units = max(0, min(units, 0xFFFF))
        self.receive.told = self.receive.limit
        return units

    def _finish_if_done(self, now: float) -> None:
        if self.over or not self.receive.ended or self.receive.waiting:
            return
        if self.send.done:
            self._end(None)
        elif self.send.fin_sent:
            self._patience = min(self._patience or now + LINGER_SECONDS, now + LINGER_SECONDS)

    def _end(self, error: Exception | None) -> None:
        if not self.over:
            self.over, self.error = True, error
            self.send.drop()
            self.receive.drop()

    def _check_patience(self, now: float) -> None:
        if self._patience is not None and now >= self._patience and not self.over:
            orderly = self.receive.ended and self.send.fin_sent and not self.send.unsent
            self._end(None if orderly else SessionLost("the other end did not take what was queued"))
