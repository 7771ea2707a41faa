"""Messages of an endpoint on their way out: at once, or in slots while it is paced (PROTOCOL.md section 4, PACE)."""

from __future__ import annotations

from collections import deque

from phantomband.core.errors import Malformed
from phantomband.core.onion import OWN
from phantomband.core.stream.messages import Message, encode
from phantomband.core.stream.stream import SendMessages

MAX_CONTROL = 4096
"""Messages of a paced endpoint that wait for their slots; one more breaks the circuit."""

_DROP = OWN + encode(Message.DROP, 0)


class SlotQueue:
    """All messages but DATA."""

    def __init__(self, send: SendMessages) -> None:
        self.paced = False
        self._send = send
        self._choked = False
        self._waiting: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def pace(self, paced: bool) -> None:
        """Whether messages wait for slots from now on."""
        self.paced = paced
        if not paced:
            self.send_waiting(len(self._waiting))

    def add(self, message: bytes) -> None:
        """One message, without its mark."""
        if not self.paced:
            self._send([OWN + message])
        elif len(self._waiting) < MAX_CONTROL:
            self._waiting.append(OWN + message)
        else:
            self._choked = True

    def check(self) -> None:
        """Raises: Malformed: more answers were asked for than the pace lets through; kill the circuit."""
        if self._choked:
            raise Malformed("the other end asks for more answers than its pace lets through")

    def send_waiting(self, limit: int) -> int:
        """Sends up to `limit` messages that wait; returns how many."""
        waiting = self._waiting
        messages = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        if messages:
            self._send(messages)
        return len(messages)

    def fill(self, cells: int) -> None:
        """Sends so many DROPs: what is left of a slot."""
        if cells > 0:
            self._send([_DROP] * cells)
