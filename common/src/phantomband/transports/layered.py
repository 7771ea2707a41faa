"""A connection over another one: what `tls`, `obfs4` and `websocket` do alike.

    receiver above  <->  LayeredConnection  <->  TCP connection, or another LayeredConnection

What is written in one iteration of the loop is collected, encoded together and given to the connection below at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from phantomband.transports.base import Accept, Buffer, Connection, Receiver

Settled = Callable[[Exception | None], None]
"""Told once how a handshake ended: None after `accept`, or why there will be no connection."""


class Lower(Protocol):
    """What a connection needs to be below another one."""

    @property
    def peer_ip(self) -> bytes: ...

    @property
    def buffered(self) -> int: ...

    @property
    def congested(self) -> bool: ...

    def write(self, data: Buffer) -> None: ...

    def flush(self) -> None:
        """Sends what waits now, as far as it is taken."""

    def want_writable(self) -> None:
        """Has `writable` called once little waits after the next flush, congested or not."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class LayeredConnection(Connection):
    """The receiver of the connection below, and the connection of the receiver above.

    A subclass has `received`, which calls `_begin` once its handshake is done and `_hand_on` with what it decoded;
    `_encode` and `close`.

    Args:
        lower: the connection below.
        accept: called once the handshake is done.
        settled: called once: with None after `accept`, or with why there will be no connection.
    """

    _HANDSHAKE = "handshake"
    """What a peer that went away too early did not finish."""

    def __init__(self, lower: Lower, accept: Accept, settled: Settled) -> None:
        self._lower, self._accept, self._settled = lower, accept, settled
        self._loop = asyncio.get_running_loop()
        self._receiver: Receiver | None = None
        self._waiting: list[Buffer] = []
        self._waiting_bytes = 0
        self._was_congested = self._closing = False
        self._reading = True
        self._error: Exception | None = None
        self._kept: list[Buffer] = []
        self._ended: list[Exception | None] = []

    # for subclasses

    def _encode(self, data: bytes) -> None:
        """Writes all of `data` to the connection below, in this layer's form."""
        raise NotImplementedError

    def _hand_on(self, data: Buffer) -> None:
        """`data` in its turn. Must be ours: it is kept while the receiver has paused us."""
        self._kept.append(data)
        self._deliver()

    def _deliver(self) -> None:
        while self._kept and self._reading and not self._closing and self._receiver is not None:
            self._receiver.received(self._kept.pop(0))
        if self._ended and (self._closing or not self._kept):
            self._tell_end(self._ended.pop())

    def _begin(self) -> None:
        """The handshake is done."""
        self._receiver = self._accept(self)
        self._settled(None)

    def _end(self) -> Exception | None:
        """What is wrong, from this layer's view, with an end of stream that is orderly below."""
        return None

    # from the connection below

    def received(self, data: Buffer) -> None:
        """Bytes of the connection below."""
        raise NotImplementedError

    def writable(self) -> None:
        if self._waiting:
            self._was_congested = True  # its flush asks again
        elif self._receiver is not None and not self._closing:
            self._receiver.writable()

    def closed(self, error: Exception | None) -> None:
        error = self._error or error or self._end()
        if self._kept and not self._closing and self._receiver is not None:
            self._ended.append(error)  # the receiver has paused: it gets the rest first
        else:
            self._tell_end(error)

    def _tell_end(self, error: Exception | None) -> None:
        self._closing = True
        self._waiting, self._waiting_bytes = [], 0
        if self._receiver is not None:
            self._receiver.closed(error)
        else:
            self._settled(error or ConnectionError(f"the peer closed during the {self._HANDSHAKE}"))

    # from above

    @property
    def peer_ip(self) -> bytes:
        return self._lower.peer_ip

    def write(self, data: Buffer) -> None:
        if self._closing:
            return
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self.congested:
            self._was_congested = True

    def want_writable(self) -> None:
        self._was_congested = True

    def flush(self) -> None:
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting, self._waiting_bytes = [], 0
            self._encode(data)
            if self._was_congested:
                # The one below may never have been: it can send what it had before it gets what waited here.
                self._was_congested = False
                self._lower.want_writable()
        self._lower.flush()

    @property
    def buffered(self) -> int:
        return self._waiting_bytes + self._lower.buffered

    def pause_reading(self) -> None:
        self._reading = False
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._lower.resume_reading()
            self._loop.call_soon(self._deliver)

    def abort(self) -> None:
        self._closing = True
        self._lower.abort()
        if self._ended:
            self._loop.call_soon(self._deliver)
