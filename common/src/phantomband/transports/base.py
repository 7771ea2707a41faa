"""What a transport is: dial, listen, and a reliable byte stream that calls back.

The interface is that of callbacks, not of coroutines, because links move hundreds of megabytes a second: a
`Connection` is written to and a `Receiver` is called, each with whole buffers. One folder a transport; all pass
`tests/transports/conformance.py`.
"""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from phantomband.core.errors import Refused, UserError

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


def packed_ip(host: str) -> bytes:
    """Returns: 4 or 16 bytes of an IP address literal, of a mapped IPv4 address 4; nothing if it is none."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return b""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).packed


class Connection(ABC):
    """One reliable, ordered byte stream."""

    @property
    def peer_ip(self) -> bytes:
        """Packed IP address of the other end, 4 or 16 bytes; empty where the transport does not know it."""
        return b""

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
    slowness: float = 0.0
    """Seconds that a dial, and the first answer to what is written then, may take longer than they usually may."""

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

    def explained(self, problem: Refused) -> Refused:
        """`problem` of a dial, or of a connection that gave no answer, with what is known here of its reason."""
        return problem

    def configure(self, folder: Path, options: Mapping[str, str]) -> None:
        """Called before `listen` by whoever has a place for keys that last and parameters of the listening address.

        Most transports need neither.

        Args: folder: a private directory; options: what stands behind the `?` of the address.

        Raises:
            UserError: a key or a parameter cannot be used.
        """
        return

    async def close(self) -> None:  # noqa: B027 - most transports have nothing but their connections
        """Ends what the transport keeps besides connections and listeners, such as a program. It is not used again."""

    @abstractmethod
    def parameters(self) -> Mapping[str, str]:
        """What a listening node publishes in its descriptor so that others can dial it."""


def one_setting(transport: str, before: object | None, now: object, what: str = "set of parameters") -> None:
    """A transport's listening addresses share one object, so also their parameters.

    Args: before: those of an earlier address; None: this is the first; what: there is one of, for people.

    Raises:
        UserError: they differ.
    """
    if before is not None and before != now:
        raise UserError(f"{transport}: a node has one {what}. Give all its {transport} addresses the same")
