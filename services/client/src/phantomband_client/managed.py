"""One circuit of the client, and what it is used for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from phantomband.core.circuit.client import CircuitState, ClientCircuit
from phantomband.core.netdir.view import ViewEntry

from phantomband_client.guard_link import GuardLink

STREAMS_PER_CIRCUIT = 1000
"""Streams that we put on one circuit."""

Isolation = tuple[str, bytes, bytes, str, int]
"""(listener, user, password, host, port)."""


@dataclass(slots=True, eq=False)
class Managed:
    """A circuit and what it is used for."""

    path: tuple[ViewEntry, ...]
    guard: GuardLink
    number: int
    started: float
    isolation: Isolation | None = None
    first_used: float | None = None
    last_used: float = 0.0
    """When a stream was last seen on it."""
    retired: bool = False
    ends: float | None = None
    """When it is destroyed unless streams are open, used or not; None: that depends on its use. Loop time, as all."""
    usable: bool = False
    """Built, and its exit keeps the profile's pace."""
    ours: bool = False
    """Whether we ended it ourselves."""
    circuit: ClientCircuit | None = None
    built: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def open(self) -> bool:
        return self.usable and self.circuit is not None and self.circuit.state is CircuitState.OPEN

    def end(self) -> None:
        """Destroys the circuit: it is not needed any more."""
        self.ours = True
        if self.circuit is not None:
            self.circuit.destroy()

    @property
    def has_room(self) -> bool:
        """Whether it takes another stream; the exit refuses one more than 1,024."""
        return self.streams < STREAMS_PER_CIRCUIT

    @property
    def streams(self) -> int:
        return len(self.circuit.endpoint.streams) if self.circuit is not None else 0

    def serves(self, port: int, address: str | None) -> bool:
        """Whether the exit's policy may allow the target; every exit resolves names (port 0)."""
        policy = self.path[-1].policy
        if not port:
            return policy.is_exit
        return policy.allows(address, port) if address is not None else policy.might_allow_port(port)
