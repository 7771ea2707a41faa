"""Anything that links, neighbours, workers and exits do in any order leaves the relay's machine whole: no fault of ours
is counted, its books agree with what is there, and when all links are gone nothing is held.

Steps: links up and down, CREATE, worker's answers in any order or none, EXTEND and the links for it, CREATED, cells of
both directions, DESTROY, overflow, resets, streams at work, circuits of the relay's own, slots and time.
Run: `make fuzz TARGETS=relay`.
"""

from __future__ import annotations

from fuzz_input import Decisions
from phantomband.core.cell import CELL_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.circuit.messages import encode_create, encode_extend
from phantomband.core.circuit.relay import RelayMachine
from phantomband.core.circuit.relay_types import HandshakeJob, RelayLimits
from phantomband.core.errors import Refused
from phantomband.core.handshake.ntor import CLIENT_BYTES, RELAY_BYTES, CircuitKeys, OnionKey, RelayKeys
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.onion import OWN, RELAYED, Layer, sealed_bytes
from phantomband.core.stream.messages import (
    Answer,
    EndReason,
    Kind,
    Message,
    Target,
    encode_pace,
    encode_target,
    target,
)
from phantomband.core.stream.messages import encode as message
from phantomband.core.stream.stream import Stream

KEYS = CircuitKeys(b"f" * 32, b"b" * 32, b"e" * 32)
SKIN = bytes(CLIENT_BYTES)
NODES = [NodeId(bytes((i,)) * 32) for i in range(1, 4)]
LINKS = [LinkId(i) for i in range(1, 5)]
SOURCES = (None, "a", "b")
PATH = [RelayKeys(NODES[0], OnionKey(b"o" * 32).public)]
LIMITS = RelayLimits(
    circuits=12, circuits_per_link=6, streams_per_circuit=3, pending_handshakes=6, pending_per_link=4,
    extends_per_link=2, pace=64, paced_cells=256, stray_cells=40,
)  # fmt: skip

SEEDS = [
    bytes((2, 2, 1, 1, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 2, 1, 8, 0, 0, 0, 1, 1, 90, 1, 22, 0, 0, 8, 8, 1)),
    bytes((2, 2, 1, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 4, 1, 1, 16, 0, 1, 1, 18, 0, 0, 0, 1, 8, 0, 0, 7, 3, 3, 3, 3, 1)),
    bytes((2, 3, 2, 1, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 5, 30, 1, 21, 9, 0, 1, 21, 20, 0, 1, 1, 3, 0)),
    bytes((23, 2, 0, 1, 1, 18, 0, 0, 0, 1, 23, 2, 1, 0, 0, 15, 3, 0, 1, 23, 0, 1, 0)),
]


class Handler:
    """What an exit has of a stream. It fails when it is called after the stream's end."""

    over = False

    def __init__(self, world: World, stream: Stream) -> None:
        self.world, self.stream = world, stream

    def _alive(self) -> None:
        if self.over:
            raise AssertionError("a handler was called after its end")

    def connected(self, answers: list[Answer]) -> None:
        raise AssertionError("an exit was told that it connected")

    def data(self, pieces: list[bytes]) -> None:
        self._alive()
        if not all(pieces):
            raise AssertionError("a piece of no bytes")
        self.world.act(self)

    def finished(self) -> None:
        self._alive()
        self.world.act(self)

    def hold(self) -> None:
        self._alive()

    def writable(self) -> None:
        self._alive()

    def ended(self, reason: EndReason) -> None:
        self._alive()
        self.over = True


class World:
    """A relay's surroundings, which do what the input decides."""

    def __init__(self, data: bytes) -> None:
        self.decide = Decisions(data)
        self.now = 0.0
        self.machine = RelayMachine(self, lambda link: self, LIMITS, exit_hop=2)
        self.jobs: list[HandshakeJob] = []
        self.wanted: list[NodeId] = []
        self.streams: list[Handler] = []
        self.sealers: dict[tuple[LinkId, bytes], tuple[Layer, int]] = {}
        self.created: list[tuple[LinkId, bytes]] = []
        self.own: list[tuple[LinkId, ClientCircuit]] = []
        self.dialed = {link: link in LINKS[:2] for link in LINKS}
        for link in LINKS[1:]:
            self.machine.link_up(link, self.dialed[link])

    # what the machine asks for

    def wake(self) -> None: ...

    def handshake(self, job: HandshakeJob) -> None:
        self.jobs.append(job)

    def open_link(self, node: NodeId) -> None:
        if node in self.wanted:
            raise AssertionError("a link was asked for twice")
        self.wanted.append(node)

    def slots_at(self, when: float) -> None: ...

    def close_link(self, link: LinkId) -> None:
        if not self.machine.has_link(link):
            raise AssertionError("a link was closed that is gone")

    def begin(self, stream: Stream, where: Target) -> Handler:
        handler = Handler(self, stream)
        self.streams.append(handler)
        if where.port == 1:
            stream.end(EndReason.POLICY)
            handler.over = True
        elif where.port == 2:
            stream.connected([Answer(Kind.IPV4, "192.0.2.1", 1)])
        return handler

    def resolve(self, stream: Stream, where: Target) -> Handler:
        handler = self.begin(stream, where)
        if not handler.over and where.port == 3:
            stream.resolved([Answer(Kind.NAME, "a.test", 1)])
            handler.over = True
        return handler

    def circuit_open(self, circuit: ClientCircuit) -> None: ...

    def circuit_gone(self, circuit: ClientCircuit) -> None: ...

    def circuit_looped(self, circuit: ClientCircuit, hop: int, seconds: float) -> None: ...

    def circuit_paced(self, circuit: ClientCircuit) -> None: ...

    def act(self, handler: Handler) -> None:
        """Something that an exit does with a stream."""
        stream = handler.stream
        match self.decide.below(8):
            case 0:
                stream.write(bytes(1 + self.decide.below(70_000)))
            case 1:
                stream.finish()
            case 2:
                handler.over = handler.over or stream.open
                stream.end(EndReason.DONE)
            case 3:
                stream.take(self.decide.flag())
            case 4 if self.streams:  # an exit that holds too much ends another of its streams
                self.act(self.decide.one(self.streams))
            case _:
                pass

    # steps

    def step(self) -> None:
        decide, machine = self.decide, self.machine
        match decide.below(24):
            case 0:
                link = decide.one(LINKS)
                if not machine.has_link(link):
                    self.dialed[link] = decide.flag()
                    machine.link_up(link, self.dialed[link], 0, decide.one(SOURCES))
            case 1:
                machine.link_down(decide.one(LINKS))
            case 2 | 3 | 4:
                link = decide.one(LINKS)
                self.cell(link, self.id(link), Command.CREATE, encode_create(1 + decide.below(4), SKIN))
            case 5 | 6 | 7:
                self.worker()
            case 8 | 9 | 10 | 11 | 12 | 13:
                self.forward()
            case 14:
                link = decide.one(LINKS)
                self.cell(link, self.id(link), decide.below(8), decide.piece(32))
            case 15:
                link = decide.one(LINKS)
                self.cell(link, decide.one((self.id(link), LINK_CIRCUIT)), Command.DESTROY)
            case 16 | 17:
                if self.wanted:
                    node = self.wanted.pop(decide.below(len(self.wanted)))
                    machine.link_ready(node, decide.one((*LINKS, None)))
            case 18 | 19:
                if self.created:
                    link, circuit = self.created[decide.below(len(self.created))]
                    command = decide.one((Command.CREATED, Command.RELAY, Command.DESTROY))
                    self.cell(link, circuit, command, bytes(RELAY_BYTES), 1 + decide.below(3))
            case 20:
                link = decide.one(LINKS)
                machine.overflow(link, self.id(link))
            case 21:
                self.now += decide.below(64) / decide.one((1, 64))
                machine.slots(self.now)
            case 22:
                if self.streams:
                    self.act(decide.one(self.streams))
            case _:
                self.rarely()
        if decide.flag():
            machine.flush(self.now)

    def rarely(self) -> None:
        match self.decide.below(4):
            case 0:
                self.machine.reset(keep_links=self.decide.flag())
                self.wanted.clear()
            case 1:
                self.machine.keepalive()
            case _:
                self.own_circuit()

    def id(self, link: LinkId) -> bytes:
        """A circuit's id, mostly of those that the other end of the link may use."""
        number = self.decide.below(64)
        return bytes((0x80 if (number < 60) is self.dialed[link] else 0, 0, 0, number % 7))

    def cell(self, link: LinkId, circuit: bytes, command: int, body: bytes = b"", count: int = 1) -> None:
        cells = encode(circuit, command, body) * count  # type: ignore[arg-type]
        self.machine.cells(link, cells, 0, count, self.now)

    def worker(self) -> None:
        if not self.jobs:
            return
        job = self.jobs.pop(self.decide.below(len(self.jobs)))
        if self.decide.below(8) == 7:  # the worker is gone, or refuses
            self.machine.handshake_done(job, None, None)
            return
        if self.machine.handshake_wanted(job):
            self.sealers[job.link, job.circuit] = Layer(KEYS.forward), job.hop
        self.machine.handshake_done(job, bytes(RELAY_BYTES), KEYS)

    def forward(self) -> None:
        """Cells that open at this relay: messages for it, or for the hop behind."""
        if not self.sealers:
            return
        link, circuit = self.decide.one(list(self.sealers))
        layer, hop = self.sealers[link, circuit]
        size = sealed_bytes(hop) - 16
        cells = b""
        count = 1 + self.decide.below(3)
        for _ in range(count):
            inner = RELAYED + self.decide.piece(8) if self.decide.below(8) == 7 else OWN + self.message()
            cells += encode(circuit, Command.RELAY, layer.seal(inner[:size].ljust(size, b"\0")))
        self.machine.cells(link, cells, 0, count, self.now)

    def message(self) -> bytes:
        decide = self.decide
        stream = decide.below(4)
        match decide.below(10):
            case 0:
                kind = decide.one((Message.BEGIN, Message.RESOLVE))
                return message(kind, stream, encode_target(target("a.test", decide.below(4))))
            case 1:
                return message(Message.DATA, stream, bytes(1 + decide.below(200)))
            case 2:
                return message(Message.FIN, stream)
            case 3:
                return message(Message.END, stream, bytes((decide.below(10),)))
            case 4:
                return message(Message.EXTEND, 0, encode_extend(decide.one(NODES), SKIN))
            case 5:
                return message(Message.PACE, 0, encode_pace(decide.below(200)))
            case 6:
                return message(Message.LOOP, 0, decide.piece(20))
            case 7:
                return message(Message.CREDIT, stream, decide.bytes(16))
            case 8:
                return message(Message.DROP, 0)
            case _:
                return decide.piece(24)

    def own_circuit(self) -> None:
        if self.own and self.decide.flag():
            self.machine.end_own(*self.own.pop(self.decide.below(len(self.own))))
            return
        link = self.decide.one(LINKS)
        try:
            self.own.append((link, self.machine.start_own(link, PATH, bytes(32), bytes, self)))
        except Refused:
            if self.machine.has_link(link):
                raise AssertionError("a link that is there was refused") from None
        self.own = self.own[-3:]

    # what must hold

    def drain(self) -> None:
        for link, count, parts in self.machine.outbox.drain():
            cells = b"".join(parts)
            if len(cells) != count * CELL_BYTES:
                raise AssertionError("a relay sent something other than cells")
            for at in range(0, len(cells), CELL_BYTES):
                if cells[at + 4] == Command.CREATE:
                    self.created = [*self.created[-7:], (link, cells[at : at + 4])]

    def check(self) -> None:
        machine = self.machine
        if machine.counters.bugs:
            raise AssertionError("a fault of ours was contained")
        links = machine._links.values()
        circuits = {id(owner) for link in links for owner in link.owners.values() if owner is not None}
        if len(circuits) != machine.circuit_count or machine.circuit_count > LIMITS.circuits + LIMITS.pending_per_link:
            raise AssertionError("the count of circuits is not that of the circuits")
        for link in links:
            if link.pending != sum(owner is None for owner in link.owners.values()):
                raise AssertionError("the count of handshakes is not that of the handshakes")
            extending = [o for o in link.owners.values() if o is not None and o.next_link is link and o.extending]
            if link.creating != len({id(o) for o in extending}) or link.creating > LIMITS.pending_per_link:
                raise AssertionError("the count of CREATEs is not that of the CREATEs")
            if link.extends.waiting > LIMITS.extends_per_link:
                raise AssertionError("too many EXTENDs wait")
            if set(link.circuits) - set(link.owners) - set(link.own):
                raise AssertionError("cells are taken for a circuit that nobody has")

    def end(self) -> None:
        """All links go: nothing is left."""
        machine = self.machine
        for link in LINKS:
            machine.link_down(link)
        for node in self.wanted:
            machine.link_ready(node, None)
        for job in self.jobs:
            machine.handshake_done(job, bytes(RELAY_BYTES), KEYS)
        machine.slots(self.now + 100.0)
        machine.flush(self.now + 100.0)
        self.drain()
        self.check()
        pacing = machine._pacing
        left = (
            machine.circuit_count, machine._extending._waiting, machine._endpoints._touched, pacing._shares.given,
            pacing._shares._sources, pacing._shares._held, pacing._circuits.rate, pacing._circuits._paces,
            pacing._circuits._heap,
        )  # fmt: skip
        if any(left):
            raise AssertionError(f"something outlived all links: {left}")
        if not all(handler.over for handler in self.streams):
            raise AssertionError("a stream outlived its circuit")


def one_input(data: bytes) -> None:
    """One life of a relay."""
    world = World(data)
    while world.decide.more:
        world.step()
        world.drain()
        world.check()
    world.end()
