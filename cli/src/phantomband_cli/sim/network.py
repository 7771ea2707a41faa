"""A simulated network under load, and the notes of a watcher who sees every link.

    client --- guard --- middle --- exit --- server        one circuit and one stream a flow, one server a flow

All clients connect first (`WARM_UP` at most); then all browse from the same moment on for the measured seconds, and
last, each page that was begun comes in whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Bug, UserError
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.mixing.base import Strategy
from phantomband.core.stream.messages import Answer, Kind, Target
from phantomband.core.stream.stream import Stream

from phantomband_cli.sim.events import Events
from phantomband_cli.sim.flow import ExitStream, Flow, Server, number, target
from phantomband_cli.sim.node import Client, Node, Seeded
from phantomband_cli.sim.web import Session, WebModel
from phantomband_cli.sim.wire import Shape, Trace, Wire

HOPS = 3
WARM_UP = 3600.0
"""Virtual seconds within which every stream must be connected."""

DRAIN = 3600.0
"""Virtual seconds that the last pages have to come in."""

ACCESS = Shape(delay=0.010, jitter=0.005, rate=6.25e6)
"""Client to guard: 50 Mbit/s. Like both others a round figure for links within a continent."""

BACKBONE = Shape(delay=0.015, jitter=0.002, rate=125e6)
"""Node to node: 1 Gbit/s."""

SERVER = Shape(delay=0.010, jitter=0.002, rate=12.5e6)
"""Exit to server: 100 Mbit/s."""

Strategies = Callable[[RandomSource], Strategy]
"""Makes a new strategy for one node."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated."""

    flows: int = 40
    seconds: float = 60.0
    nodes: int = 6
    web: WebModel = field(default_factory=WebModel)
    access: Shape = ACCESS
    backbone: Shape = BACKBONE
    server: Shape = SERVER
    spread: float = 0.0
    """Share by which the delay of each link is longer or shorter than its kind's, at most."""

    @classmethod
    def of(cls, flows: int, seconds: float, nodes: int, loss: float, spread: float) -> Scenario:
        """With links that all lose this share, and whose delays vary by up to that share.

        Raises:
            UserError: no share.
        """
        for name, share in (("loss", loss), ("spread", spread)):
            if not 0 <= share < 1:
                raise UserError(f"--{name} {share:g}: use a share from 0 to less than 1")
        access, backbone, server = (replace(shape, loss=loss) for shape in (ACCESS, BACKBONE, SERVER))
        return cls(flows, seconds, nodes, access=access, backbone=backbone, server=server, spread=spread)


@dataclass(frozen=True, slots=True)
class Seen:
    """Both directions of one link in the measured time; times from its beginning."""

    up: Trace
    """From the client's side, or from the node that dialled."""
    down: Trace


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: what the watcher saw, and what only the simulator knows. Flow i is `clients[i]` and `servers[i]`."""

    clients: list[Seen]
    servers: list[Seen]
    backbone: dict[str, Seen]
    first_bytes: list[float]
    """Seconds from asking for a page to its first byte, of every page."""
    payload_bytes: int
    cells: int
    """Cells sent by nodes, over all time."""
    whole: int
    """Flows of which every byte arrived, in order, and that came to their end."""


class Network:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, strategies: Strategies, seed: int) -> None:
        self.scenario = scenario
        self.events = Events()
        self._seed = seed
        self._pairs: dict[frozenset[str], LinkId] = {}
        self._links: list[tuple[str, Wire, Wire]] = []
        self._connected = 0
        self.nodes = [self._node(i, strategies) for i in range(scenario.nodes)]
        self._by_id = {node.id: node for node in self.nodes}
        self.flows: list[Flow] = []
        self._clients: list[tuple[Wire, Wire]] = []
        self._servers: dict[int, tuple[Wire, Wire]] = {}
        for i in range(scenario.flows):
            self._client(i)

    def _random(self, what: str) -> Random:
        return Random(f"{self._seed}/{what}")

    def _node(self, i: int, strategies: Strategies) -> Node:
        source = Seeded(f"{self._seed}/node/{i}")
        offset = self._random(f"clock/{i}").uniform(1000.0, 2000.0)
        return Node(f"n{i}", self.events, self, self, strategies(source), offset, source)

    def _client(self, i: int) -> None:
        events, random = self.events, self._random(f"flow/{i}")
        server = Server(events, self._random(f"server/{i}"))
        flow = Flow(events, Session(self.scenario.web, self._random(f"web/{i}")), random, server, self._ready)
        self.flows.append(flow)
        client = Client(events, Seeded(f"{self._seed}/client/{i}"), lambda client: self._open(client, i))
        path = random.sample(self.nodes, HOPS)
        link = LinkId(1_000_000 + i)
        up = self._wire(self.scenario.access, f"c{i}/up", lambda data: path[0].arrived(link, data))
        down = self._wire(self.scenario.access, f"c{i}/down", client.arrived)
        client.wire = up
        path[0].attach(link, down, dialed=False)
        self._clients.append((up, down))
        events.at(random.random(), lambda: client.start([node.keys for node in path]))

    def _wire(self, shape: Shape, name: str, deliver: Callable[[bytes], None]) -> Wire:
        own = shape.varied(self.scenario.spread, self._random(f"link/{name.rpartition('/')[0]}"))
        return Wire(self.events, own, self._random(f"wire/{name}"), deliver)

    def dial(self, node: Node, other: NodeId) -> LinkId:
        """The link between two nodes."""
        peer = self._by_id[other]
        pair = frozenset((node.name, peer.name))
        if pair not in self._pairs:
            link = self._pairs[pair] = LinkId(1 + len(self._pairs))
            name = f"{node.name}-{peer.name}"
            there = self._wire(self.scenario.backbone, f"{name}/up", partial(peer.arrived, link))
            back = self._wire(self.scenario.backbone, f"{name}/down", partial(node.arrived, link))
            node.attach(link, there, dialed=True)
            peer.attach(link, back, dialed=False)
            self._links.append((name, there, back))
        return self._pairs[pair]

    # ---- streams -------------------------------------------------------------------------------------------------

    def _open(self, client: Client, i: int) -> None:
        if client.circuit is not None:
            self.flows[i].attach(client.circuit.endpoint.open(target(i), self.flows[i]))

    def begin(self, stream: Stream, target: Target) -> ExitStream:
        """The exit's connection to the server of a flow (StreamAcceptor)."""
        i = number(target)
        server = self.flows[i].server
        there = self._wire(self.scenario.server, f"s{i}/up", server.data)
        server.wire = self._wire(self.scenario.server, f"s{i}/down", lambda data: _write(stream, data))
        self._servers[i] = (there, server.wire)
        stream.connected([Answer(Kind.IPV4, "192.0.2.1", 60)])
        return ExitStream(there)

    def resolve(self, stream: Stream, target: Target) -> ExitStream:
        raise Bug("simulated flows resolve no names")

    def _ready(self) -> None:
        self._connected += 1

    # ---- running -------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Connects, browses, ends."""
        self.events.run(WARM_UP, lambda: self._connected == len(self.flows))
        if self._connected != len(self.flows):
            missing = len(self.flows) - self._connected
            raise UserError(f"{missing} flows did not connect in {WARM_UP:g} virtual s. Mix with less delay or loss")
        start = self.events.now
        end = start + self.scenario.seconds
        for flow in self.flows:
            flow.start(end)
        self.events.run(end + DRAIN, lambda: self.events.now >= end and all(f.done for f in self.flows))
        return self._outcome(start, end)

    def _outcome(self, start: float, end: float) -> Outcome:
        def seen(up: Wire, down: Wire) -> Seen:
            return Seen(_cut(up.trace, start, end), _cut(down.trace, start, end))

        return Outcome(
            [seen(*pair) for pair in self._clients],
            [seen(*self._servers[i]) for i in range(len(self.flows))],
            {name: seen(there, back) for name, there, back in self._links},
            [seconds for flow in self.flows for seconds in flow.first_bytes],
            sum(flow.sent.bytes + flow.received.bytes for flow in self.flows),
            sum(node.cells_sent for node in self.nodes),
            sum(_whole(flow) for flow in self.flows),
        )


def _write(stream: Stream, data: bytes) -> None:
    stream.write(data)


def _cut(trace: Trace, start: float, end: float) -> Trace:
    return [(when - start, size) for when, size in trace if start <= when < end]


def _whole(flow: Flow) -> bool:
    up, down = flow.sent.same(flow.server.received), flow.server.sent.same(flow.received)
    return up and down and flow.done and flow.ended_by is None
