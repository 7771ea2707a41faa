"""The circuits of a relay: a sans-io machine that peels forward cells, wraps backward cells, and answers its own.

Cells come in batches from a link (`cells`), and leave through an `Outbox`. What needs the world - a handshake in a
worker, a link to another relay, an exit connection - is asked of a `RelayEffects` and answered later by
`handshake_done`, `link_ready` and the streams' own methods.

Anything unexpected destroys the circuit that it came on, in both directions (PROTOCOL.md section 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from phantomband.core.cell import (
    BODY_BYTES,
    CELL_BYTES,
    CIRCUIT_ID_BYTES,
    HEADER_BYTES,
    LINK_CIRCUIT,
    Command,
)
from phantomband.core.circuit.client import CircuitWatcher, ClientCircuit
from phantomband.core.circuit.loops import LOOP_BYTES
from phantomband.core.circuit.messages import decode_create_untrusted, decode_extend_untrusted, encode_create
from phantomband.core.circuit.outbox import ZERO_BODY, Outbox
from phantomband.core.circuit.relay_circuit import RelayCircuit, RelayLink
from phantomband.core.circuit.relay_pacing import RelayPacing
from phantomband.core.circuit.relay_types import (
    HandshakeJob,
    NoExit,
    RelayCounters,
    RelayEffects,
    RelayLimits,
)
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed, Refused
from phantomband.core.handshake.ntor import RELAY_BYTES, CircuitKeys, RelayKeys
from phantomband.core.ids import CircuitId, HopNumber, LinkId, NodeId
from phantomband.core.onion import MAX_HOPS, OWN, message_room
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import Message, decode_pace_untrusted, encode
from phantomband.core.stream.stream import StreamAcceptor

KEEPALIVE_SECONDS = 10.0
"""How often both ends of a circuit that carries streams send a DROP."""


class RelayMachine:
    """All circuits of one relay."""

    def __init__(
        self,
        effects: RelayEffects,
        acceptor: Callable[[], StreamAcceptor] | None,
        limits: RelayLimits | None = None,
        congestion: CongestionParameters | None = None,
        mixing: float = 0.0,
    ) -> None:
        """Args:

        acceptor: makes, for each circuit, who serves its streams; None when this relay is no exit.
        mixing: seconds that mixing adds to a round trip.
        """
        self._mixing = mixing
        self.outbox = Outbox(effects.wake)
        self.counters = RelayCounters()
        self.limits = limits or RelayLimits()
        self._effects = effects
        self._acceptor = acceptor
        self._congestion = congestion or CongestionParameters()
        self._links: dict[LinkId, RelayLink] = {}
        self._circuits = 0
        self._pending = 0
        self._now = 0.0
        self._waiting: dict[NodeId, list[tuple[RelayCircuit, bytes]]] = {}
        self._touched: dict[RelayCircuit, None] = {}
        self._pacing = RelayPacing(self.limits, effects, self.counters, self._destroy)

    # ---- links -------------------------------------------------------------------------------------------------

    def link_up(self, link: LinkId, dialed: bool, first_id: int = 0) -> None:
        """The gateway has a link.

        Args:
            dialed: whether we dialled it.
            first_id: where our circuit ids begin, below 2^30, random in a service: after a restart it is the same link,
                and what the peer still says of old circuits must not hit new ones.
        """
        self._links[link] = RelayLink(link, self.outbox.link(link), dialed, next_id=first_id)

    def link_down(self, link: LinkId) -> None:
        """The link is gone, and with it every circuit on it."""
        gone = self._links.pop(link, None)
        if gone is not None:
            gone.lose_own()
            for owner in list(gone.owners.values()):
                if owner is not None:
                    self._destroy(owner, lost=gone)

    def reset(self, *, keep_links: bool) -> None:
        """A lane broke: cells are lost, so every circuit dies, and neighbours are told as soon as a lane is up.

        Args: keep_links: the gateway lives on (the mixer broke), and will not name its links again.
        """
        for link in list(self._links.values()):
            if keep_links:
                self._drop_circuits(link)
            else:
                self.link_down(link.id)
        self._waiting.clear()
        for _ in self.outbox.drain():
            pass
        for link in self._links.values():
            self._send_destroy(link, LINK_CIRCUIT)

    def start_own(
        self,
        link_id: LinkId,
        path: Sequence[RelayKeys],
        network_id: bytes,
        random: RandomSource,
        watcher: CircuitWatcher,
    ) -> ClientCircuit:
        """A circuit of which this relay is the client, on a link of its own to the first hop; see `end_own`.

        Raises:
            Refused: the link is gone.
        """
        link = self._links.get(link_id)
        if link is None:
            raise Refused("the link is gone")
        return link.start_own(path, network_id, random, watcher, self._congestion)

    def end_own(self, link_id: LinkId, circuit: ClientCircuit) -> None:
        """Ends such a circuit, or forgets it when it has ended."""
        circuit.destroy()
        link = self._links.get(link_id)
        if link is not None:
            link.forget_own(circuit)

    def has_link(self, link: LinkId) -> bool:
        return link in self._links

    def _drop_circuits(self, link: RelayLink, *, tell: bool = False) -> None:
        """Ends every circuit of a link. Told so by the peer, we name each: it may have made one meanwhile."""
        for owner in list(link.owners.values()):
            if owner is not None:
                self._destroy(owner, lost=None if tell else link)
        link.lose_own()
        link.owners.clear()
        link.circuits.clear()

    @property
    def circuit_count(self) -> int:
        return self._circuits

    # ---- cells -------------------------------------------------------------------------------------------------

    def cells(self, link_id: LinkId, data: bytes, start: int, count: int, now: float) -> None:
        """`count` cells that arrived on a link, at `data[start:]`."""
        link = self._links.get(link_id)
        if link is None:
            self.counters.stray += count
            return
        at, end = start, start + count * CELL_BYTES
        while at < end:
            header, first = data[at : at + HEADER_BYTES], at
            circuit = header[:CIRCUIT_ID_BYTES]
            at += CELL_BYTES
            if header[CIRCUIT_ID_BYTES] != Command.RELAY:
                own = link.own.get(circuit)
                if own is not None:
                    own.cells(header[CIRCUIT_ID_BYTES], data, first, 1, now)
                else:
                    self._command(link, circuit, header[CIRCUIT_ID_BYTES], data[first + HEADER_BYTES : at])
                continue
            while at < end and data[at : at + HEADER_BYTES] == header:
                at += CELL_BYTES
            self._relay_cells(link, circuit, data, first, (at - first) // CELL_BYTES, now)

    def _relay_cells(self, link: RelayLink, circuit: bytes, data: bytes, at: int, count: int, now: float) -> None:
        """A run of RELAY cells of one circuit."""
        handler = link.circuits.get(circuit)
        if handler is None:
            self._stray(link, count)
            return
        try:
            handler(data, at, count, now)
        except Malformed:
            self._broken(link, circuit)

    def _stray(self, link: RelayLink, count: int = 1) -> None:
        """Cells for a circuit that is no more: a DESTROY may cross some, a flood is an attack."""
        self.counters.stray += count
        before, link.stray = link.stray, link.stray + count
        if before < self.limits.stray_cells <= link.stray:
            self._effects.close_link(link.id)

    def _broken(self, link: RelayLink, circuit: bytes) -> None:
        self.counters.malformed += 1
        owner = link.owners.get(circuit)
        if owner is not None:
            self._destroy(owner)

    def _command(self, link: RelayLink, circuit: bytes, command: int, body: bytes) -> None:
        try:
            match command:
                case Command.PAD if circuit == LINK_CIRCUIT:
                    pass
                case Command.CREATE:
                    self._create(link, circuit, body)
                case Command.CREATED:
                    self._created(link, circuit, body)
                case Command.DESTROY:
                    self._destroyed(link, circuit)
                case _:
                    raise Malformed(f"unexpected cell command {command}")
        except Malformed:
            self._broken(link, circuit)

    def flush(self, now: float) -> None:
        """Ends a batch: hands data to streams and sends what windows now allow. Call once after `cells`."""
        touched, self._touched = self._touched, {}
        for circuit in touched:
            if not circuit.alive or circuit.endpoint is None:
                continue
            try:
                circuit.endpoint.deliver()
                circuit.endpoint.pump(now)
            except Exception:  # noqa: BLE001 - a fault of ours in one circuit must not stall the others of this batch
                self.counters.bugs += 1
                self._destroy(circuit)

    def keepalive(self) -> None:
        """Sends a DROP on every circuit that carries streams and looks at it anew; call each KEEPALIVE_SECONDS.

        A cell that was lost on the way is noticed when the next one does not open: so a circuit that has lost one dies
        soon, with an error for its streams, even when neither end had anything more to say.
        """
        for link in list(self._links.values()):
            for owner in list(link.owners.values()):
                if owner is None or owner.previous_link is not link or owner.endpoint is None:
                    continue
                if owner.endpoint.streams and owner not in self._pacing:
                    owner.send([OWN + encode(Message.DROP, 0)])
                    self._touch(owner)

    # ---- making circuits -----------------------------------------------------------------------------------------

    def _create(self, link: RelayLink, circuit: bytes, body: bytes) -> None:
        theirs = bool(circuit[0] & 0x80) == link.dialed
        if circuit == LINK_CIRCUIT or circuit in link.owners or not theirs:
            raise Malformed("CREATE for a circuit id that the peer may not use now")
        hop, onion_skin = decode_create_untrusted(body)
        limits = self.limits
        full = self._circuits >= limits.circuits or len(link.owners) >= limits.circuits_per_link
        if full or link.pending >= limits.pending_per_link or self._pending >= limits.pending_handshakes:
            self.counters.circuits_refused += 1
            self._send_destroy(link, circuit)
            return
        link.owners[circuit] = None
        link.pending += 1
        self._pending += 1
        self._effects.handshake(HandshakeJob(link.id, CircuitId(circuit), HopNumber(hop), onion_skin))

    def handshake_done(self, job: HandshakeJob, reply: bytes | None, keys: CircuitKeys | None) -> None:
        """The worker's answer; None for a handshake that failed, which the peer learns as DESTROY."""
        self._pending -= 1
        link = self._links.get(job.link)
        if link is not None:
            link.pending -= 1
        if link is None or link.owners.get(job.circuit, job) is not None:
            return  # destroyed meanwhile, or made by another CREATE of the same id: a peer must not use one twice
        if reply is None or keys is None:
            del link.owners[job.circuit]
            self.counters.circuits_refused += 1
            self._send_destroy(link, job.circuit)
            return
        circuit = RelayCircuit(link, job.circuit, job.hop, keys, self._own_messages)
        self._attach_endpoint(circuit)
        link.owners[job.circuit] = circuit
        link.circuits[job.circuit] = circuit.peel
        self._circuits += 1
        self.counters.circuits_made += 1
        link.out.add(job.circuit + bytes((Command.CREATED,)), reply, ZERO_BODY[len(reply) :])

    def _attach_endpoint(self, circuit: RelayCircuit) -> None:
        acceptor = self._acceptor() if self._acceptor is not None else NoExit()
        endpoint = Endpoint(
            message_room(circuit.hop),
            circuit.send,
            self._congestion,
            acceptor,
            self.limits.streams_per_circuit,
            self._mixing,
        )
        endpoint.extra = lambda command, data: self._extra(circuit, command, data)
        endpoint.wake = lambda: self._touch(circuit)
        circuit.endpoint = endpoint

    def _own_messages(self, circuit: RelayCircuit, marked: list[bytes], sealed: list[bytes], now: float) -> None:
        """Messages for this hop, behind their marks, and the layers that they came in."""
        endpoint = circuit.endpoint
        if endpoint is None:
            raise Malformed("a message for a circuit that is gone")
        self._touch(circuit)
        self._now = now
        endpoint.messages(marked, sealed, now)

    def _touch(self, circuit: RelayCircuit) -> None:
        if not self._touched:
            self._effects.wake()
        self._touched[circuit] = None

    def _extra(self, circuit: RelayCircuit, command: int, data: bytes) -> None:
        match command:
            case Message.LOOP if len(data) == LOOP_BYTES and circuit.endpoint is not None:
                circuit.endpoint.send_control(encode(Message.LOOPED, 0, data))
            case Message.PACE:
                self._pacing.asked(circuit, decode_pace_untrusted(data), self._now)
            case _:
                self._extend_asked(circuit, command, data)

    def slots(self, now: float) -> None:
        """Lets every paced circuit send whose slot has come; call when `RelayEffects.slots_at` said."""
        self._pacing.slots(now)

    def _extend_asked(self, circuit: RelayCircuit, command: int, data: bytes) -> None:
        if command != Message.EXTEND or circuit.next_link is not None or circuit.extending is not None:
            raise Malformed(f"unexpected message command {command}")
        if circuit.hop >= MAX_HOPS:
            raise Malformed("a circuit over its longest")
        node, onion_skin = decode_extend_untrusted(data)
        circuit.extending = node
        self._waiting.setdefault(node, []).append((circuit, onion_skin))
        self._effects.open_link(node)

    def link_ready(self, node: NodeId, link_id: LinkId | None) -> None:
        """The link that `open_link` asked for, or None: then the circuits that waited die."""
        link = self._links.get(link_id) if link_id is not None else None
        for circuit, onion_skin in self._waiting.pop(node, []):
            if not circuit.alive:
                continue
            if link is None:
                self._destroy(circuit)
            else:
                self._extend(circuit, link, onion_skin)

    def _extend(self, circuit: RelayCircuit, link: RelayLink, onion_skin: bytes) -> None:
        try:
            circuit.next_id = link.free_id()
        except Malformed:
            self._destroy(circuit)
            return
        circuit.next_link = link
        circuit.next_header = circuit.next_id + bytes((Command.RELAY,))
        link.owners[circuit.next_id] = circuit
        body = encode_create(circuit.hop + 1, onion_skin)
        link.out.add(circuit.next_id + bytes((Command.CREATE,)), body, ZERO_BODY[len(body) :])

    def _created(self, link: RelayLink, circuit_id: bytes, body: bytes) -> None:
        circuit = link.owners.get(circuit_id)
        if circuit is None:
            self._stray(link)
            return
        if circuit.next_link is not link or circuit.next_id != circuit_id or circuit.extending is None:
            raise Malformed("CREATED that nobody asked for")
        circuit.extending = None
        link.circuits[circuit_id] = circuit.wrap
        circuit.send([OWN + encode(Message.EXTENDED, 0, body[:RELAY_BYTES])])

    # ---- ending circuits -----------------------------------------------------------------------------------------

    def _destroyed(self, link: RelayLink, circuit_id: bytes) -> None:
        if circuit_id == LINK_CIRCUIT:
            self._drop_circuits(link, tell=True)
            return
        if circuit_id not in link.owners:
            return
        owner = link.owners.pop(circuit_id)
        link.circuits.pop(circuit_id, None)
        if owner is not None:
            self._destroy(owner, told=(link, circuit_id))

    def overflow(self, link_id: LinkId, circuit_id: bytes) -> None:
        """The gateway's queue for this circuit is over its cap: the circuit dies."""
        link = self._links.get(link_id)
        owner = link.owners.get(circuit_id) if link is not None else None
        if owner is not None:
            self._destroy(owner)

    def destroy(self, circuit: RelayCircuit) -> None:
        """Ends a circuit from this side."""
        self._destroy(circuit)

    def _destroy(
        self, circuit: RelayCircuit, *, lost: RelayLink | None = None, told: tuple[RelayLink, bytes] | None = None
    ) -> None:
        """Ends a circuit; neighbours learn it, but not over a `lost` link nor where they `told` us."""
        if not circuit.alive:
            return
        circuit.alive = False
        self._pacing.remove(circuit)
        self._circuits -= 1
        self.counters.circuits_destroyed += 1
        ends = [(circuit.previous_link, circuit.previous_id)]
        if circuit.next_link is not None:
            ends.append((circuit.next_link, circuit.next_id))
        for link, circuit_id in ends:
            link.owners.pop(circuit_id, None)
            link.circuits.pop(circuit_id, None)
            if link is not lost and (link, circuit_id) != told:
                self._send_destroy(link, circuit_id)
        endpoint, circuit.endpoint = circuit.endpoint, None
        if endpoint is not None:
            endpoint.gone()

    @staticmethod
    def _send_destroy(link: RelayLink, circuit: bytes) -> None:
        link.out.add(circuit + bytes((Command.DESTROY,)), ZERO_BODY[:BODY_BYTES], b"")
