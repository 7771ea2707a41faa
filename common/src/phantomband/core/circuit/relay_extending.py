"""How circuits grow at a relay: EXTEND, a link to the next relay, CREATE on it, its CREATED back as EXTENDED.

A relay refuses more than 64 CREATEs at once of a link, so fewer are sent: a mixer may let a new one overtake the end of
an old one. The others wait here, and those of each source in turn: else one client, which has this relay extend without
end, would take all places of a link between two relays, and others' circuits would be refused at the next.
"""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.cell import Command
from phantomband.core.circuit.fair_queue import FairQueue
from phantomband.core.circuit.messages import encode_create
from phantomband.core.circuit.outbox import ZERO_BODY
from phantomband.core.circuit.relay_circuit import RelayCircuit, RelayLink
from phantomband.core.circuit.relay_types import RelayEffects, RelayLimits
from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import RELAY_BYTES
from phantomband.core.ids import NodeId
from phantomband.core.onion import MAX_HOPS, OWN
from phantomband.core.stream.messages import Message, encode


class RelayExtending:
    """The circuits of one relay that wait for their next hop."""

    def __init__(self, effects: RelayEffects, limits: RelayLimits, destroy: Callable[[RelayCircuit], None]) -> None:
        self._effects, self._destroy = effects, destroy
        self._most = max(1, limits.pending_per_link * 3 // 4)
        self._limit = limits.extends_per_link
        self._waiting: dict[NodeId, FairQueue[tuple[RelayCircuit, bytes]]] = {}
        """By the node whose link is being opened: asked for once, however many wait."""

    def asked(self, circuit: RelayCircuit, node: NodeId, onion_skin: bytes) -> None:
        """The client asks for `node` as the hop behind us.

        Raises:
            Malformed: the circuit has its next hop, waits for one, or may have none.
        """
        if circuit.next_link is not None or circuit.extending is not None:
            raise Malformed("EXTEND for a circuit that has its next hop")
        if circuit.hop >= MAX_HOPS:
            raise Malformed("a circuit over its longest")
        circuit.extending = node
        waiting = self._waiting.get(node)
        first = waiting is None
        if waiting is None:
            waiting = self._waiting[node] = FairQueue(self._limit)
        self._wait(waiting, circuit, onion_skin)
        if first:
            self._effects.open_link(node)

    def link_ready(self, node: NodeId, link: RelayLink | None) -> None:
        """The link that was asked for, or None: then the circuits that waited die."""
        waiting = self._waiting.pop(node, None)
        while waiting:
            circuit, onion_skin = waiting.pop()
            if not circuit.alive:
                continue
            if link is None:
                self._destroy(circuit)
            elif link.creating < self._most:
                self._extend(circuit, link, onion_skin)
            else:
                self._wait(link.extends, circuit, onion_skin)

    def _wait(self, queue: FairQueue[tuple[RelayCircuit, bytes]], circuit: RelayCircuit, onion_skin: bytes) -> None:
        previous = circuit.previous_link
        shed = queue.add((circuit, onion_skin), source=previous.source, link=previous.id)
        if shed is not None:
            self._destroy(shed[0])

    def _answered(self, link: RelayLink) -> None:
        """A CREATE was answered, or its circuit is gone: the next one's turn."""
        link.creating -= 1
        while link.extends and link.creating < self._most:
            circuit, onion_skin = link.extends.pop()
            if circuit.alive:
                self._extend(circuit, link, onion_skin)

    def lost(self, link: RelayLink) -> None:
        """The link, or all circuits of it, are gone: those that wait for their turn die."""
        while link.extends:
            self._destroy(link.extends.pop()[0])

    def ended(self, circuit: RelayCircuit) -> None:
        """A circuit is gone."""
        if circuit.extending is not None and circuit.next_link is not None:
            circuit.extending = None
            self._answered(circuit.next_link)

    def _extend(self, circuit: RelayCircuit, link: RelayLink, onion_skin: bytes) -> None:
        try:
            circuit.next_id = link.free_id()
        except Malformed:
            self._destroy(circuit)
            return
        circuit.next_link = link
        circuit.next_header = circuit.next_id + bytes((Command.RELAY,))
        link.owners[circuit.next_id] = circuit
        link.creating += 1
        body = encode_create(circuit.hop + 1, onion_skin)
        link.out.add(circuit.next_id + bytes((Command.CREATE,)), body, ZERO_BODY[len(body) :])

    def created(self, circuit: RelayCircuit, link: RelayLink, circuit_id: bytes, body: bytes) -> None:
        """The next relay's answer came on `link`.

        Raises:
            Malformed: nobody asked for it.
        """
        if circuit.next_link is not link or circuit.next_id != circuit_id or circuit.extending is None:
            raise Malformed("CREATED that nobody asked for")
        circuit.extending = None
        self._answered(link)
        link.circuits[circuit_id] = circuit.wrap
        circuit.send([OWN + encode(Message.EXTENDED, 0, body[:RELAY_BYTES])])

    def forget(self) -> None:
        """No circuit waits any more."""
        self._waiting.clear()
