"""Who of an endpoint's streams sends DATA next, and how much of it windows allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from phantomband.core.stream.circuit_window import CircuitWindow
from phantomband.core.stream.outbox_gate import OutboxGate
from phantomband.core.stream.stream import OUTBOX_LOW, SendMessages, Stream

BURST = 16
"""Cells that one stream sends before the next has its turn."""


class DataSender:
    """The streams that have something to send, in turn."""

    def __init__(self, room: int, window: CircuitWindow, gate: OutboxGate, send: SendMessages) -> None:
        """Args: room: bytes of data in one cell."""
        self._room, self._window, self._gate, self._send = room, window, gate, send
        self._active: deque[Stream] = deque()

    @property
    def idle(self) -> bool:
        """No stream has anything that it may send."""
        return not self._active

    def add(self, stream: Stream) -> bool:
        """The stream has something to send. False if it has its turn coming already, or its window is used up."""
        if stream.active or (stream.window <= 0 and stream.waiting):
            return False
        stream.active = True
        self._active.append(stream)
        return True

    def clear(self) -> None:
        """Nothing is sent any more."""
        self._active.clear()

    def send(self, now: float, limit: int, finish: Callable[[Stream], None], late: list[Callable[[], None]]) -> int:
        """Sends up to `limit` DATA cells as far as windows allow, streams in turn; returns how many.

        Args:
            finish: called when all data of a stream that is finished has left: its FIN follows.
            late: gets the calls that handlers wait for; not made here, in the middle of sending.
        """
        active = self._active
        budget = total = min(limit, self._window.allowed)
        while active:
            stream = active[0]
            if budget <= 0 and stream.waiting:
                break
            active.popleft()
            if stream.waiting:
                budget -= self._emit(stream, min(budget, BURST), now, late)
            if stream.waiting and stream.window > 0 and stream.open:
                active.append(stream)
                continue
            stream.active = False
            if stream.fin_queued and not stream.waiting:
                finish(stream)
        return max(0, total - budget)

    def _emit(self, stream: Stream, limit: int, now: float, late: list[Callable[[], None]]) -> int:
        """Up to `limit` DATA cells of one stream."""
        before = stream.outbox_bytes
        sealed = self._send(stream.cut(self._room, min(limit, stream.window)))
        self._window.sent.count(sealed, now)
        stream.sent.count(sealed, now)
        stream.window -= len(sealed)
        self._gate.removed(before - stream.outbox_bytes)
        # While the gate is closed it is the gate that says who reads on.
        if before >= OUTBOX_LOW > stream.outbox_bytes and not self._gate.closed:
            late.append(stream.writable)
        return len(sealed)
