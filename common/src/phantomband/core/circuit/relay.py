"""The circuits of a relay: a sans-io machine that peels forward cells, wraps backward cells, and answers its own.

Cells come in batches from a link (`cells`), and leave through an `Outbox`. What needs the world - a handshake in a
worker, a link to another relay, an exit connection - is asked of a `RelayEffects` and answered later by
`handshake_done`, `link_ready` and the streams' own methods.

Anything unexpected destroys the circuit that it came on, in both directions (PROTOCOL.md section 1).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from phantomband.core.cell import (
    CELL_BYTES,
    CIRCUIT_ID_BYTES,
    HEADER_BYTES,
    LINK_CIRCUIT,
    Command,
)
from phantomband.core.circuit.client import CircuitWatcher, ClientCircuit
from phantomband.core.circuit.drops import KEEPALIVE_SECONDS as KEEPALIVE_SECONDS
from phantomband.core.circuit.fair_queue import FairQueue
from phantomband.core.circuit.outbox import ZERO_BODY, Outbox
from phantomband.core.circuit.relay_circuit import RelayCircuit, RelayLink
from phantomband.core.circuit.relay_endpoints import RelayEndpoints
from phantomband.core.circuit.relay_extending import RelayExtending
from phantomband.core.circuit.relay_handshakes import RelayHandshakes
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
from phantomband.core.handshake.ntor import CircuitKeys, RelayKeys
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.onion import message_room
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.stream import StreamAcceptor


class RelayMachine:
    """All circuits of one relay."""

    def __init__(
        self,
        effects: RelayEffects,
        acceptor: Callable[[Hashable], StreamAcceptor] | None,
        limits: RelayLimits | None = None,
        congestion: CongestionParameters | None = None,
        mixing: float = 0.0,
        exit_hop: int = 1,
    ) -> None:
        """Args:

        acceptor: makes, for each circuit and the source of the link that it came over, who serves its streams; None
            when this relay is no exit.
        mixing: seconds that mixing adds to a round trip.
        exit_hop: the first hop that streams are served at; before it they are refused as if this were no exit. Whoever
            leaves at the first or second hop is known to the exit or its neighbour, and makes the exit an open proxy
            that learns who its clients are: then it is worth attacking, or asking, for that.
        """
        self.outbox = Outbox(effects.wake)
        self.counters = RelayCounters()
        self.limits = limits or RelayLimits()
        self._effects = effects
        self._acceptor = acceptor
        self._congestion = congestion or CongestionParameters()
        self._mixing = mixing
        self._exit_hop = exit_hop
        self._links: dict[LinkId, RelayLink] = {}
        self._circuits = 0
        self._handshakes = RelayHandshakes(self.limits, effects, self.counters)
        self._pacing = RelayPacing(self.limits, effects, self.counters, self._destroy)
        self._extending = RelayExtending(effects, self.limits, self._destroy)
        self._endpoints = RelayEndpoints(effects, self.counters, self._pacing, self._extending, self._destroy)

    # ---- links -------------------------------------------------------------------------------------------------

    def link_up(self, link: LinkId, dialed: bool, first_id: int = 0, source: Hashable = None) -> None:
        """The gateway has a link.

        Args:
            dialed: whether we dialled it.
            first_id: where our circuit ids begin, below 2^30, random in a service: after a restart it is the same link,
                and what the peer still says of old circuits must not hit new ones.
            source: where it comes from; None: known by itself alone.
        """
        self._links[link] = RelayLink(
            link, self.outbox.link(link), dialed, next_id=first_id, source=link if source is None else source,
            extends=FairQueue(self.limits.extends_per_link),
        )  # fmt: skip

    def link_down(self, link: LinkId) -> None:
        """The link is gone, and with it every circuit on it."""
        gone = self._links.pop(link, None)
        if gone is not None:
            self._lose_own(gone)
            self._extending.lost(gone)
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
        self._extending.forget()
        for _ in self.outbox.drain():
            pass
        for link in self._links.values():
            link.send_destroy(LINK_CIRCUIT)

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
        self._extending.lost(link)
        for owner in list(link.owners.values()):
            if owner is not None:
                self._destroy(owner, lost=None if tell else link)
        self._lose_own(link)
        for circuit in list(link.owners):
            link.forget(circuit)

    def _lose_own(self, link: RelayLink) -> None:
        for circuit in link.lose_own():
            self._contain(circuit.lost)

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
                self._command(link, circuit, data, first, now)
                continue
            while at < end and data[at : at + HEADER_BYTES] == header:
                at += CELL_BYTES
            self._relay_cells(link, circuit, data, first, (at - first) // CELL_BYTES, now)

    def _relay_cells(self, link: RelayLink, circuit: bytes, data: bytes, at: int, count: int, now: float) -> None:
        """A run of RELAY cells of one circuit."""
        handler = link.circuits.get(circuit)
        if handler is None:
            self._stray(link, count, now)
            return
        try:
            handler(data, at, count, now)
        except Malformed:
            self._broken(link, circuit)
        except Exception:  # noqa: BLE001 - see _bug
            self._bug(link, circuit)

    def _stray(self, link: RelayLink, count: int, now: float) -> None:
        """Cells for a circuit that is no more: a DESTROY may cross some, a flood is an attack."""
        self.counters.stray += count
        before = link.stray.unexpected
        if link.stray.came(count, now) >= self.limits.stray_cells > before:
            self._effects.close_link(link.id)

    def _broken(self, link: RelayLink, circuit: bytes) -> None:
        self.counters.malformed += 1
        owner = link.owners.get(circuit)
        if owner is not None:
            self._destroy(owner)

    def _bug(self, link: RelayLink, circuit: bytes) -> None:
        """A fault of ours that a peer's cell met: it ends the circuit that the cell was of, and no other."""
        self.counters.bugs += 1
        owner = link.owners.get(circuit)
        own = link.own.get(circuit)
        if owner is not None:
            self._destroy(owner)
        if own is not None:
            link.forget_own(own)
            self._contain(own.destroy)

    def _contain(self, ending: Callable[[], None]) -> None:
        """Tells whoever has to do with a circuit that it ends: a fault in there keeps no other from ending."""
        try:
            ending()
        except Exception:  # noqa: BLE001 - see _bug
            self.counters.bugs += 1

    def _command(self, link: RelayLink, circuit: bytes, data: bytes, at: int, now: float) -> None:
        """One cell that is not RELAY, at `data[at:]`."""
        command = data[at + CIRCUIT_ID_BYTES]
        try:
            own = link.own.get(circuit)
            if own is not None:
                own.cells(command, data, at, 1, now)
                return
            body = data[at + HEADER_BYTES : at + CELL_BYTES]
            match command:
                case Command.PAD if circuit == LINK_CIRCUIT:
                    pass
                case Command.CREATE:
                    self._handshakes.create_untrusted(link, circuit, body, self._circuits)
                case Command.CREATED:
                    self._created(link, circuit, body, now)
                case Command.DESTROY:
                    self._destroyed(link, circuit)
                case _:
                    raise Malformed(f"unexpected cell command {command}")
        except Malformed:
            self._broken(link, circuit)
        except Exception:  # noqa: BLE001 - see _bug
            self._bug(link, circuit)

    def flush(self, now: float) -> None:
        """Ends a batch: hands data to streams and sends what windows now allow. Call once after `cells`."""
        self._endpoints.flush(now)

    def keepalive(self) -> None:
        """Sends a DROP on every circuit that carries streams and looks at it anew; call each KEEPALIVE_SECONDS.

        A cell that was lost on the way is noticed when the next one does not open: so a circuit that has lost one dies
        soon, with an error for its streams, even when neither end had anything more to say.
        """
        owners = [(link, owner) for link in self._links.values() for owner in link.owners.values()]
        self._endpoints.keepalive(o for link, o in owners if o is not None and o.previous_link is link)

    def slots(self, now: float) -> None:
        """Lets every paced circuit send whose slot has come; call when `RelayEffects.slots_at` said."""
        self._pacing.slots(now)

    # ---- making circuits -----------------------------------------------------------------------------------------

    def handshake_done(self, job: HandshakeJob, reply: bytes | None, keys: CircuitKeys | None) -> None:
        """The worker's answer; None for a handshake that failed, which the peer learns as DESTROY."""
        link = self._links.get(job.link)
        if not self._handshakes.done(job, link) or link is None:
            return
        if reply is None or keys is None:
            self._handshakes.failed(job, link)
            return
        try:
            circuit = RelayCircuit(link, job.circuit, job.hop, keys, self._endpoints.messages)
            self._endpoints.attach(circuit, self._endpoint(circuit))
        except Exception:  # noqa: BLE001 - see _bug
            self.counters.bugs += 1
            self._handshakes.failed(job, link)
            return
        link.owners[job.circuit] = circuit
        link.circuits[job.circuit] = circuit.peel
        self._circuits += 1
        self.counters.circuits_made += 1
        link.out.add(job.circuit + bytes((Command.CREATED,)), reply, ZERO_BODY[len(reply) :])

    def handshake_wanted(self, job: HandshakeJob) -> bool:
        """Whether anybody still waits for the answer: whoever sends CREATE and DESTROY shall cost no handshake."""
        return self._handshakes.wanted(job, self._links.get(job.link))

    def _endpoint(self, circuit: RelayCircuit) -> Endpoint:
        return Endpoint(
            message_room(circuit.hop),
            circuit.send,
            self._congestion,
            self._acceptor(circuit.previous_link.source)
            if self._acceptor is not None and circuit.hop >= self._exit_hop
            else NoExit(),
            self.limits.streams_per_circuit,
            self._mixing,
        )

    def link_ready(self, node: NodeId, link_id: LinkId | None) -> None:
        """The link that `open_link` asked for, or None: then the circuits that waited die."""
        self._extending.link_ready(node, self._links.get(link_id) if link_id is not None else None)

    def _created(self, link: RelayLink, circuit_id: bytes, body: bytes, now: float) -> None:
        circuit = link.owners.get(circuit_id)
        if circuit is None:
            self._stray(link, 1, now)
            return
        self._extending.created(circuit, link, circuit_id, body)

    # ---- ending circuits -----------------------------------------------------------------------------------------

    def _destroyed(self, link: RelayLink, circuit_id: bytes) -> None:
        if circuit_id == LINK_CIRCUIT:
            self._drop_circuits(link, tell=True)
            return
        if circuit_id not in link.owners:
            return
        owner = link.forget(circuit_id)
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
        self._extending.ended(circuit)
        self._circuits -= 1
        self.counters.circuits_destroyed += 1
        ends = [(circuit.previous_link, circuit.previous_id)]
        if circuit.next_link is not None:
            ends.append((circuit.next_link, circuit.next_id))
        for link, circuit_id in ends:
            link.forget(circuit_id)
            if link is not lost and (link, circuit_id) != told:
                link.send_destroy(circuit_id)
        endpoint, circuit.endpoint = circuit.endpoint, None
        if endpoint is not None:
            self._contain(endpoint.gone)
