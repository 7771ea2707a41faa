"""A node: relay machine and mixer on virtual links. And the client's end of one circuit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from phantomband.core.cell import CELL_BYTES
from phantomband.core.cell import split as without_padding
from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.circuit.outbox import Outbox
from phantomband.core.circuit.relay import RelayMachine
from phantomband.core.circuit.relay_types import HandshakeJob
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Bug, Malformed
from phantomband.core.handshake.ntor import OnionKey, RelayKeys, Responder
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import CircuitId, LinkId, NodeId
from phantomband.core.link.records import sealed_bytes
from phantomband.core.mixing.base import Strategy
from phantomband.core.stream.stream import StreamAcceptor
from phantomband.core.wire import u32

from phantomband_cli.sim.events import Events
from phantomband_cli.sim.mixer import Mixer
from phantomband_cli.sim.wire import Wire

NETWORK_ID = bytes(32)
FIRST_CIRCUIT = CircuitId(u32(1))


class Seeded:
    """A random source that a seed determines."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(size)


class Dialer(Protocol):
    """Who makes links between nodes."""

    def dial(self, node: Node, other: NodeId) -> LinkId:
        """The link between both, made when it is first asked for."""


class Node:
    """One relay with its mixer. Handshakes are real and take no virtual time."""

    def __init__(
        self,
        name: str,
        events: Events,
        dialer: Dialer,
        acceptor: StreamAcceptor,
        strategy: Strategy,
        offset: float,
        random: RandomSource,
    ) -> None:
        self.name = name
        self.id = NodeId(hashlib.sha3_256(name.encode()).digest())
        self.wires: dict[LinkId, Wire] = {}
        self.cells_sent = 0
        self.machine = RelayMachine(self, lambda link: acceptor)
        self.mixer = Mixer(events, strategy, offset, self._send)
        self._events, self._dialer, self._random = events, dialer, random
        self._key = OnionKey.generate(random)
        self._responder = Responder(self.id, [self._key], NETWORK_ID, ReplayCache())
        self._awake = False

    @property
    def keys(self) -> RelayKeys:
        return RelayKeys(self.id, self._key.public)

    def attach(self, link: LinkId, wire: Wire, *, dialed: bool) -> None:
        """A new link; `wire` is the direction that leaves this node."""
        self.wires[link] = wire
        self.machine.link_up(link, dialed)

    def arrived(self, link: LinkId, cells: bytes) -> None:
        """Whole cells came in on a link; PAD cells end here."""
        cells = bytes(without_padding(cells)[0])
        self.machine.cells(link, cells, 0, len(cells) // CELL_BYTES, self._events.now)
        self._flush()

    def _flush(self) -> None:
        self._awake = False
        self.machine.flush(self._events.now)
        for link, _, parts in self.machine.outbox.drain():
            self.mixer.add(link, split(b"".join(parts)))

    def _send(self, link: LinkId, cells: list[bytes]) -> None:
        self.cells_sent += len(cells)
        self.wires[link].send(b"".join(cells), sealed_bytes(len(cells)))

    # ---- RelayEffects --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._events.at(self._events.now, self._flush)

    def handshake(self, job: HandshakeJob) -> None:
        try:
            reply, keys, _ = self._responder.answer(
                job.onion_skin, job.hop, lambda _: b"", self._random, encapsulate_untrusted
            )
        except Malformed as e:
            raise Bug("a simulated client made a handshake that its relay refuses") from e
        self.machine.handshake_done(job, reply, keys)

    def open_link(self, node: NodeId) -> None:
        self.machine.link_ready(node, self._dialer.dial(self, node))

    def slots_at(self, when: float) -> None:
        self._events.at(when, lambda: self.machine.slots(self._events.now))

    def close_link(self, link: LinkId) -> None:
        raise Bug("a simulated peer broke the protocol")


class Client:
    """A client with one circuit on a link of its own to its guard. It sends at once: only nodes mix so far."""

    def __init__(self, events: Events, random: RandomSource, opened: Callable[[Client], None]) -> None:
        self.wire: Wire | None = None
        self.circuit: ClientCircuit | None = None
        self._events, self._random, self._opened = events, random, opened
        self._outbox = Outbox(self.wake)
        self._awake = False

    def start(self, path: list[RelayKeys]) -> None:
        """Builds a circuit through `path`, guard first."""
        out = self._outbox.link(LinkId(1))
        self.circuit = ClientCircuit(out, FIRST_CIRCUIT, path, NETWORK_ID, self._random, self)
        self.circuit.endpoint.wake = self.wake
        self.circuit.start()

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._events.at(self._events.now, self._flush)

    def arrived(self, cells: bytes) -> None:
        """Whole cells came in from the guard."""
        if self.circuit is None:
            return
        cells = bytes(without_padding(cells)[0])
        for at in range(0, len(cells), CELL_BYTES):
            self.circuit.cells(cells[at + 4], cells, at, 1, self._events.now)
        self._flush()

    def _flush(self) -> None:
        self._awake = False
        if self.circuit is not None:
            self.circuit.endpoint.deliver()
            self.circuit.endpoint.pump(self._events.now)
        for _, count, parts in self._outbox.drain():
            if self.wire is not None:
                self.wire.send(b"".join(parts), sealed_bytes(count))

    # ---- CircuitWatcher ------------------------------------------------------------------------------------------

    def circuit_open(self, circuit: ClientCircuit) -> None:
        self._opened(self)

    def circuit_gone(self, circuit: ClientCircuit) -> None: ...

    def circuit_looped(self, circuit: ClientCircuit, hop: int, seconds: float) -> None: ...

    def circuit_paced(self, circuit: ClientCircuit) -> None: ...


def split(cells: bytes) -> list[bytes]:
    """One buffer of cells as single cells."""
    return [cells[i : i + CELL_BYTES] for i in range(0, len(cells), CELL_BYTES)]
