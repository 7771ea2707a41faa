"""What a transport is: dial, listen, and a reliable byte stream that calls back.

The interface is that of callbacks, not of coroutines, because links move hundreds of megabytes a second: a
`Connection` is written to and a `Receiver` is called, each with whole buffers. One folder a transport; all pass
`tests/transports/conformance.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

Buffer = bytes | bytearray | memoryview

WRITE_HIGH_WATER = 512 * 1024
"""Bytes waiting in a connection above which it is `congested`; below a quarter of it `writable` is called."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway listens: `transport://host:port` with the parameters that its transport needs (all public)."""

    transport: str
    host: str
    port: int
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Address({self.transport}://[scrubbed])"


class Receiver(Protocol):
    """Who is told what a connection does. Called on the event loop, never concurrently."""

    def received(self, data: Buffer) -> None:
        """Bytes in order. The buffer is the transport's: copy what must outlive the call."""

    def writable(self) -> None:
        """The connection was congested and no longer is."""

    def closed(self, error: Exception | None) -> None:
        """Called once, last. `error` is None for an orderly end."""


class Connection(ABC):
    """One reliable, ordered byte stream."""

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Queues `data`; never blocks and never fails. After a close it is dropped. Takes ownership of `data`."""

    @property
    @abstractmethod
    def buffered(self) -> int:
        """Bytes that the operating system has not taken yet."""

    @property
    def congested(self) -> bool:
        return self.buffered > WRITE_HIGH_WATER

    @abstractmethod
    def pause_reading(self) -> None: ...

    @abstractmethod
    def resume_reading(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Sends what is queued, then ends the stream."""

    @abstractmethod
    def abort(self) -> None:
        """Ends the stream at once; what is queued is lost."""


Accept = Callable[[Connection], Receiver]
"""Called for each new incoming connection; gives its receiver."""


class Listener(ABC):
    """A bound, listening port."""

    @property
    @abstractmethod
    def port(self) -> int:
        """The port bound (the real one when 0 was asked for)."""

    @abstractmethod
    async def close(self) -> None:
        """Stops listening; connections that were accepted live on."""


class Transport(ABC):
    """How bytes get from a client or gateway to a gateway."""

    name: str

    @abstractmethod
    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        """Connects to `address`; the host is an IP address literal and is never looked up.

        Raises:
            Refused: no connection within `timeout` seconds, or refused.
        """

    @abstractmethod
    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        """Listens on `host`:`port`.

        Raises:
            UserError: the port cannot be bound.
        """

    @abstractmethod
    def parameters(self) -> Mapping[str, str]:
        """What a listening node publishes in its descriptor so that others can dial it."""
