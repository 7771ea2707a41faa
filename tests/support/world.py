"""An in-memory network of relays with one client, for tests: real machines, no sockets, a clock that tests move.

Links are queues; `World.run` moves cells until nothing is left. A link can be told to drop, change or delay.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.circuit.outbox import Outbox
from phantomband.core.circuit.relay import RelayMachine
from phantomband.core.circuit.relay_types import HandshakeJob, RelayLimits
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import OnionKey, RelayKeys, Responder
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import CircuitId, LinkId, NodeId
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.messages import Answer, EndReason, Kind, Target
from phantomband.core.stream.stream import Stream
from phantomband.core.wire import u32

NETWORK_ID = bytes(range(32))
CLIENT = "client"


class Seeded:
    """A deterministic random source."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(size)


@dataclass
class Recorder:
    """A stream handler that remembers; `echo` sends back what comes."""

    stream: Stream | None = None
    received: bytearray = field(default_factory=bytearray)
    answers: list[Answer] | None = None
    fin: bool = False
    reason: EndReason | None = None
    writable_calls: int = 0
    held_calls: int = 0
    echo: bool = False

    def connected(self, answers: list[Answer]) -> None:
        self.answers = answers

    def data(self, pieces: list[bytes]) -> None:
        self.received += b"".join(pieces)
        if self.echo and self.stream is not None:
            self.stream.write(b"".join(pieces))

    def finished(self) -> None:
        self.fin = True
        if self.echo and self.stream is not None:
            self.stream.finish()

    def ended(self, reason: EndReason) -> None:
        assert self.reason is None, "ended twice"
        self.reason = reason

    def hold(self) -> None:
        self.held_calls += 1

    def writable(self) -> None:
        self.writable_calls += 1


@dataclass
class FakeExit:
    """Accepts every stream with an echo handler, or leaves it to the test."""

    echo: bool = True
    opened: list[tuple[Stream, Target, Recorder]] = field(default_factory=list)

    def begin(self, stream: Stream, target: Target) -> Recorder:
        handler = Recorder(stream, echo=self.echo)
        self.opened.append((stream, target, handler))
        if self.echo:
            stream.connected([Answer(Kind.IPV4, "192.0.2.1", 60)])
        return handler

    def resolve(self, stream: Stream, target: Target) -> Recorder:
        handler = Recorder(stream)
        self.opened.append((stream, target, handler))
        stream.resolved([Answer(Kind.IPV4, "192.0.2.9", 60)])
        return handler


Tamper = Callable[[bytes], bytes | None]


class Relay:
    """One relay with its machine; handshakes are answered at once."""

    def __init__(self, world: World, name: str, limits: RelayLimits | None) -> None:
        self.world, self.name = world, name
        self.key = OnionKey.generate(world.random)
        self.node_id = NodeId(hashlib.sha3_256(name.encode()).digest())
        self.responder = Responder(self.node_id, [self.key], NETWORK_ID, ReplayCache())
        self.exit = FakeExit()
        self.closed_links: list[LinkId] = []
        self.slots_due: float | None = None
        self.machine = RelayMachine(self, lambda link: self.exit, limits, world.congestion)

    @property
    def keys(self) -> RelayKeys:
        return RelayKeys(self.node_id, self.key.public)

    def wake(self) -> None: ...

    def handshake(self, job: HandshakeJob) -> None:
        try:
            reply, keys, _ = self.responder.answer(
                job.onion_skin, job.hop, lambda _: b"", self.world.random, encapsulate_untrusted
            )
        except Malformed:
            self.machine.handshake_done(job, None, None)
        else:
            self.machine.handshake_done(job, reply, keys)

    def open_link(self, node: NodeId) -> None:
        other = next((r for r in self.world.relays.values() if r.node_id == node), None)
        self.machine.link_ready(node, self.world.connect(self.name, other.name) if other else None)

    def slots_at(self, when: float) -> None:
        self.slots_due = when

    def close_link(self, link: LinkId) -> None:
        self.closed_links.append(link)


@dataclass
class Watcher:
    """Remembers what became of circuits."""

    opened: list[ClientCircuit] = field(default_factory=list)
    gone: list[ClientCircuit] = field(default_factory=list)
    looped: list[tuple[int, float]] = field(default_factory=list)
    paced: list[int | None] = field(default_factory=list)

    def circuit_open(self, circuit: ClientCircuit) -> None:
        self.opened.append(circuit)

    def circuit_gone(self, circuit: ClientCircuit) -> None:
        self.gone.append(circuit)

    def circuit_looped(self, circuit: ClientCircuit, hop: int, seconds: float) -> None:
        self.looped.append((hop, seconds))

    def circuit_paced(self, circuit: ClientCircuit) -> None:
        self.paced.append(circuit.pace)


class World:
    """Relays r1..rn and one client linked to r1."""

    def __init__(self, relays: int = 3, seed: int = 1, limits: RelayLimits | None = None) -> None:
        self.random = Seeded(seed)
        self.now = 100.0
        self.congestion = CongestionParameters()
        self.watcher = Watcher()
        self.relays = {f"r{i}": Relay(self, f"r{i}", limits) for i in range(1, relays + 1)}
        self._links: dict[frozenset[str], LinkId] = {}
        self._ends: dict[tuple[str, LinkId], str] = {}
        self._queues: dict[tuple[str, str], deque[bytes]] = {}
        self.tamper: dict[tuple[str, str], Tamper] = {}
        self.carried: dict[tuple[str, str], int] = {}
        self.circuits: dict[bytes, ClientCircuit] = {}
        self._client_out = Outbox(lambda: None)
        self._last_circuit = 0
        self.client_link = self.connect(CLIENT, "r1")
        self.out = self._client_out.link(self.client_link)

    def connect(self, dialer: str, listener: str) -> LinkId:
        """The link between two parties, made when it is first asked for."""
        pair = frozenset((dialer, listener))
        if pair not in self._links:
            link = self._links[pair] = LinkId(len(self._links) + 1)
            for me, other in ((dialer, listener), (listener, dialer)):
                self._ends[me, link] = other
                if me != CLIENT:
                    self.relays[me].machine.link_up(link, dialed=me == dialer)
        return self._links[pair]

    def circuit(self, *names: str) -> ClientCircuit:
        """A new circuit through the named relays, started."""
        self._last_circuit += 1
        path = [self.relays[name].keys for name in names]
        circuit = ClientCircuit(
            self.out, CircuitId(u32(self._last_circuit)), path, NETWORK_ID, self.random, self.watcher, self.congestion
        )
        self.circuits[circuit.id] = circuit
        circuit.start()
        return circuit

    def built(self, *names: str) -> ClientCircuit:
        """A circuit that is open."""
        circuit = self.circuit(*names)
        self.run()
        assert circuit in self.watcher.opened
        return circuit

    def run(self, rounds: int = 100_000) -> int:
        """Moves cells until none is left; returns the number of rounds."""
        for done in range(rounds):
            if not self.step():
                return done
        return rounds

    def step(self) -> bool:
        """Moves the cells that wait over one link each; False when there was none."""
        self.now += 0.001
        self._collect()
        if not any(self._queues.values()):
            return False
        self._deliver()
        return True

    def inject(self, sender: str, receiver: str, cell: bytes) -> None:
        """One cell as if `sender` had sent it."""
        self._queues.setdefault((sender, receiver), deque()).append(cell)

    def _collect(self) -> None:
        for circuit in self.circuits.values():
            circuit.endpoint.deliver()
            circuit.endpoint.pump(self.now)
        self._push(CLIENT, self._client_out)
        for relay in self.relays.values():
            relay.machine.flush(self.now)
            self._push(relay.name, relay.machine.outbox)

    def _push(self, sender: str, outbox: Outbox) -> None:
        for link, cells, parts in outbox.drain():
            data = b"".join(parts)
            assert len(data) == cells * CELL_BYTES
            receiver = self._ends[sender, link]
            queue = self._queues.setdefault((sender, receiver), deque())
            queue.extend(data[i : i + CELL_BYTES] for i in range(0, len(data), CELL_BYTES))

    def _deliver(self) -> None:
        for (sender, receiver), queue in list(self._queues.items()):
            change = self.tamper.get((sender, receiver))
            cells = list(queue)
            queue.clear()
            if change is not None:
                cells = [c for cell in cells if (c := change(cell)) is not None]
            self.carried[sender, receiver] = self.carried.get((sender, receiver), 0) + len(cells)
            if receiver == CLIENT:
                for cell in cells:
                    if (circuit := self.circuits.get(cell[:4])) is not None:
                        circuit.cells(cell[4], cell, 0, 1, self.now)
            elif cells:
                link = self._links[frozenset((sender, receiver))]
                self.relays[receiver].machine.cells(link, b"".join(cells), 0, len(cells), self.now)
