"""A negotiation that reads what comes step by step, however it was cut."""

from __future__ import annotations

from collections.abc import Callable


class Steps:
    """Steps return None where they need more bytes, and True when all is done. Each sets `_step` to the next."""

    _step: Callable[[], bool | None]

    def __init__(self) -> None:
        self._buffer = b""
        self._reply = b""

    def take_reply(self) -> bytes:
        """What is to be sent now."""
        reply, self._reply = self._reply, b""
        return reply

    def receive_untrusted(self, data: bytes) -> bytes | None:
        """What came behind the negotiation, once that is done; send `take_reply` after each call.

        Raises:
            Malformed: end the connection, after `take_reply`.
        """
        self._buffer += data
        while True:
            done = self._step()
            if done is None:
                return None
            if done:
                return self._buffer

    def _take(self, count: int) -> bytes | None:
        if len(self._buffer) < count:
            return None
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken
