"""One obfs4 connection over a `StreamConnection`: the handshake's bytes first, then frames.

What was written in one iteration of the loop is one burst, or several of 32 KiB. With an IAT mode bursts wait here and
leave segment by segment, on a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from phantomband.core.errors import Malformed
from phantomband.transports.base import WRITE_HIGH_WATER, Accept, Buffer
from phantomband.transports.layered import LayeredConnection, Lower, Settled
from phantomband.transports.obfs4.framing import Opener
from phantomband.transports.obfs4.shaper import IatMode, Shaper

BURST_BYTES = 32 * 1024
"""Of payload in one burst at most: what obfs4proxy reads, and so pads, at a time."""

READ_BYTES = 8192
"""What is given to a handshake at a time, as obfs4proxy reads it."""

LOW_WATER = WRITE_HIGH_WATER // 4

CLOSE_SECONDS = 60.0
"""For what is queued in an IAT mode when we close; then the rest is lost."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A handshake that is done."""

    shaper: Shaper
    opener: Opener
    first: bytes = b""
    """To be sent at once, before anything else."""
    rest: bytes = b""
    """What came behind the handshake."""
    follow_seed: bool = False
    """Whether the peer's seed replaces ours: at the client."""


Shake = Callable[[bytes], Ready | None]
"""Takes what the peer sends during the handshake; raises Malformed."""


class Obfs4Connection(LayeredConnection):
    """obfs4 over a TCP connection, either end.

    Args:
        shake: the handshake.
        patient: after a handshake that failed, whether to read on until the peer or `lower`'s owner closes.
    """

    _HANDSHAKE = "obfs4 handshake"

    def __init__(self, lower: Lower, shake: Shake, accept: Accept, settled: Settled, patient: bool) -> None:
        super().__init__(lower, accept, settled)
        self._patient = patient
        self._shake: Shake | None = shake
        self._ready: Ready | None = None
        self._held = bytearray()  # frames that wait for their moment
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._blocked = False

    def begin(self, hello: bytes) -> None:
        """The client speaks first."""
        self._lower.write(hello)

    # from the connection below

    def received(self, data: Buffer) -> None:
        view = memoryview(data)
        while self._shake is not None and view:
            self._handshake(bytes(view[:READ_BYTES]))
            view = view[READ_BYTES:]
        if self._ready is not None and view:
            self._open(bytes(view))

    def _handshake(self, data: bytes) -> None:
        assert self._shake is not None  # noqa: S101  (the caller looked)
        try:
            ready = self._shake(data)
        except Malformed as error:
            self._shake = None
            self._error = error
            if not self._patient:
                self._lower.abort()
            return
        if ready is not None:
            self._start(ready)

    def _start(self, ready: Ready) -> None:
        self._shake = None
        self._ready = ready
        if ready.first:
            self._lower.write(ready.first)
            self._lower.flush()
        self._begin()
        if ready.rest and not self._closing:
            self._open(ready.rest)

    def _open(self, data: bytes) -> None:
        assert self._ready is not None  # noqa: S101  (the callers looked)
        opener = self._ready.opener
        try:
            payload = opener.open_untrusted(data)
        except Malformed as error:
            self._error = error
            self.abort()
            return
        if opener.seed is not None and self._ready.follow_seed:
            self._ready.shaper.reseed(opener.seed)
            opener.seed = None
        if payload and not self._closing:
            self._hand_on(payload)

    def writable(self) -> None:
        if self._blocked:
            self._blocked = False
            self._pump()
        elif self._mode is IatMode.OFF:
            super().writable()

    def closed(self, error: Exception | None) -> None:
        self._held.clear()
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        super().closed(error)

    def _end(self) -> Exception | None:
        inside = self._ready is not None and self._ready.opener.inside_frame
        return ConnectionError("the peer closed inside a frame") if inside else None

    # from above

    @property
    def _mode(self) -> IatMode:
        return self._ready.shaper.mode if self._ready is not None else IatMode.OFF

    def flush(self) -> None:
        if self._mode is IatMode.OFF:
            super().flush()
        elif self._timer is None and not self._blocked:
            self._pump()

    def _encode(self, data: bytes) -> None:
        assert self._ready is not None  # noqa: S101  (nobody has this connection before)
        for at in range(0, len(data), BURST_BYTES):
            self._lower.write(self._ready.shaper.burst(data[at : at + BURST_BYTES]))

    def _pump(self) -> None:
        """Sends one segment and sets the timer for the next."""
        self._timer = None
        if self._ready is None or self._lower.congested:
            self._blocked = self._ready is not None
            return
        shaper = self._ready.shaper
        if not self._held and self._waiting:
            self._held += shaper.burst(self._take())
        if self._held:
            self._lower.write(shaper.segment(self._held))
            self._lower.flush()
            self._timer = self._loop.call_later(shaper.delay(), self._pump)
        elif self._closing:
            self._lower.close()
        if self.buffered <= LOW_WATER:
            self._drained()

    def _drained(self) -> None:
        if self._was_congested and not self._closing and self._receiver is not None:
            self._was_congested = False
            self._receiver.writable()

    def _take(self) -> bytes:
        """One burst's worth of what waits."""
        data = b"".join(self._waiting)
        rest = data[BURST_BYTES:]
        self._waiting, self._waiting_bytes = [rest] if rest else [], len(rest)
        return data[:BURST_BYTES]

    @property
    def buffered(self) -> int:
        return self._waiting_bytes + len(self._held) + self._lower.buffered

    def close(self) -> None:
        if self._closing:
            return
        self.flush()
        self._closing = True
        if self._timer is None and not self._blocked:
            self._lower.close()
        else:
            self._patience = self._loop.call_later(CLOSE_SECONDS, self._lower.abort)
