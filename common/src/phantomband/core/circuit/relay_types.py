"""What the relay's circuit machine is bounded by, counts, and asks of the service around it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from phantomband.core.ids import CircuitId, HopNumber, LinkId, NodeId
from phantomband.core.stream.messages import Answer, EndReason, Target
from phantomband.core.stream.stream import Stream, StreamHandler


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Bounds of a relay's tables; what happens at each is said there."""

    circuits: int = 65_536
    """Circuits in all; one more is answered with DESTROY."""
    circuits_per_link: int = 8_192
    """Circuits on one link; one more is answered with DESTROY."""
    streams_per_circuit: int = 1_024
    """Streams on one circuit; one more is answered with END(RESOURCE)."""
    pending_handshakes: int = 512
    """CREATE cells that wait for a worker; for one more the newest of the source and link with most waiting is answered
    with DESTROY (fair_queue.py)."""
    pending_per_link: int = 64
    """... of one link; one more is answered with DESTROY. We send no more on a link before they are answered, either:
    EXTENDs wait for their turn."""
    extends_per_link: int = 256
    """EXTENDs that wait for one link, until it is there and then for their turn on it; for one more the newest of the
    source with most waiting dies."""
    pace: int = 1_024
    """Cells a second that a circuit may ask for as its fixed pace; it gets no more."""
    paced_cells: int = 16_384
    """... of all circuits together, shared by where they come from (rate_shares.py); one that asks for more is answered
    with PACED(0)."""
    stray_cells: int = 65_536
    """Cells of a minute for circuits that a link does not have, beyond those that were under way when circuits ended
    (stray.py); one more and the link is closed."""


@dataclass(slots=True)
class RelayCounters:
    """Coarse numbers for metrics."""

    circuits_made: int = 0
    circuits_destroyed: int = 0
    circuits_refused: int = 0
    malformed: int = 0
    bugs: int = 0
    """Circuits that ended by a fault of ours: anything but zero is to be reported."""
    stray: int = 0


class RelayEffects(Protocol):
    """What the machine asks of the service around it."""

    def wake(self) -> None:
        """There is something to flush: call `flush` soon, then drain the outbox."""

    def handshake(self, job: HandshakeJob) -> None:
        """Answer `job.onion_skin` in a worker, then call `handshake_done`."""

    def open_link(self, node: NodeId) -> None:
        """Find or dial a link to `node`, then call `link_ready`."""

    def slots_at(self, when: float) -> None:
        """Call `slots` at that time, in place of what was asked before."""

    def close_link(self, link: LinkId) -> None:
        """The peer of this link breaks the protocol for good."""


@dataclass(frozen=True, slots=True)
class HandshakeJob:
    """A CREATE that waits for its answer."""

    link: LinkId
    circuit: CircuitId
    hop: HopNumber
    onion_skin: bytes
    source: Hashable = None
    """Where the link comes from: sources take turns."""


class NoExit:
    """Refuses every stream."""

    def begin(self, stream: Stream, target: Target) -> StreamHandler:
        stream.end(EndReason.POLICY)
        return _Nobody()

    resolve = begin


class _Nobody:
    """Handler of a stream that was refused."""

    def connected(self, answers: list[Answer]) -> None: ...

    def data(self, pieces: list[bytes]) -> None: ...

    def finished(self) -> None: ...

    def ended(self, reason: EndReason) -> None: ...

    def hold(self) -> None: ...

    def writable(self) -> None: ...
