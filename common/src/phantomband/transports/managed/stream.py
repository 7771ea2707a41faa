"""A TCP connection that begins with a negotiation: with a program's SOCKS port, or of an extended ORPort."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from phantomband.core.errors import Malformed
from phantomband.transports.base import Accept, Buffer, Connection
from phantomband.transports.tcp.connection import StreamConnection

Settled = Callable[[Exception | None], None]


class Negotiation(Protocol):
    """Sans-io."""

    @property
    def peer_ip(self) -> bytes:
        """Packed; empty where it is not known."""

    def receive_untrusted(self, data: bytes) -> bytes | None:
        """The bytes behind it once it is done. Raises: Malformed."""

    def take_reply(self) -> bytes:
        """To be sent."""


class NegotiatedConnection(StreamConnection):
    """A connection whose receiver comes when the negotiation is done.

    Args:
        settled: called once: with None after `accept`, or with why there will be no connection.
    """

    def __init__(self, negotiation: Negotiation, accept: Accept, settled: Settled, buffer: memoryview) -> None:
        super().__init__(lambda connection: _Negotiating(self, negotiation), buffer)
        self._upper, self._settled = accept, settled
        self._negotiation = negotiation
        self._kept = b""
        self._reading = True
        self.begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.write(self._negotiation.take_reply())

    def negotiate(self, data: bytes) -> None:
        try:
            rest = self._negotiation.receive_untrusted(data)
        except Malformed as error:
            self.write(self._negotiation.take_reply())
            self._settled(error)
            self.close()
            return
        if reply := self._negotiation.take_reply():
            self.write(reply)
        if rest is not None:
            self.begun = True
            self._receiver = self._upper(self)
            self._kept = rest
            self._settled(None)
            self._deliver()

    def fail(self, error: Exception | None) -> None:
        self._settled(error or ConnectionError("the other end closed during the negotiation"))

    @property
    def peer_ip(self) -> bytes:
        return self._negotiation.peer_ip

    def pause_reading(self) -> None:
        self._reading = False
        super().pause_reading()

    def resume_reading(self) -> None:
        self._reading = True
        super().resume_reading()
        if self._kept:
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        if self._kept and self._reading and not self._closing:
            kept, self._kept = self._kept, b""
            self._receiver.received(kept)


class _Negotiating:
    """The receiver before the receiver."""

    def __init__(self, connection: NegotiatedConnection, negotiation: Negotiation) -> None:
        self._connection, self._negotiation = connection, negotiation

    def received(self, data: Buffer) -> None:
        self._connection.negotiate(bytes(data))

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None:
        self._connection.fail(error)


class Refusing:
    """Receiver of a connection that is closed unanswered."""

    def __init__(self, connection: Connection) -> None:
        connection.abort()

    def received(self, data: Buffer) -> None: ...

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...
