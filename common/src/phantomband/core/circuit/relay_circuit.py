"""One circuit at one relay: peels forward cells, wraps backward cells, seals messages of its own; and its link."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import itemgetter

from phantomband.core.cell import BODY_BYTES, CELL_BYTES, HEADER_BYTES, LINK_CIRCUIT, Command
from phantomband.core.circuit.client import CircuitWatcher, ClientCircuit
from phantomband.core.circuit.fair_queue import FairQueue
from phantomband.core.circuit.outbox import PADDING, ZERO_BODY, OutLink, padded
from phantomband.core.circuit.stray import Stray
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import CircuitKeys, RelayKeys
from phantomband.core.ids import CircuitId, LinkId, NodeId
from phantomband.core.onion import (
    MARK_OWN,
    MARK_RELAYED,
    MAX_HOPS,
    RELAYED,
    TAG_BYTES,
    Layer,
    sealed_bytes,
)
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.wire import u32

CellHandler = Callable[[bytes, int, int, float], None]
"""Takes (batch, offset of the first cell, cells, now)."""


@dataclass(slots=True)
class RelayLink:
    """A link as the relay sees it: its circuits and what waits to be sent on it."""

    id: LinkId
    out: OutLink
    dialed: bool
    circuits: dict[bytes, CellHandler] = field(default_factory=dict)
    owners: dict[bytes, RelayCircuit | None] = field(default_factory=dict)
    next_id: int = 0
    pending: int = 0
    """Circuits that wait for their handshake: the values of `owners` that are None."""
    stray: Stray = field(default_factory=Stray)
    own: dict[bytes, ClientCircuit] = field(default_factory=dict)
    """Circuits that this relay itself is the client of."""
    source: Hashable = None
    """Where it comes from: what there is of something is shared by it."""
    creating: int = 0
    """CREATEs of circuits through us that are not answered yet."""
    extends: FairQueue[tuple[RelayCircuit, bytes]] = field(default_factory=lambda: FairQueue(0))
    """Those that wait for their turn, with their onion skins."""

    def free_id(self) -> CircuitId:
        """A circuit id of our half that this link has never used (PROTOCOL.md section 1).

        Raises:
            Malformed: two thousand million ids are used up; the link must be dialled anew.
        """
        self.next_id += 1
        if self.next_id >= 0x8000_0000:
            raise Malformed("the circuit ids of a link are used up")
        return CircuitId(u32(self.next_id | (0 if self.dialed else 0x8000_0000)))

    def start_own(
        self,
        path: Sequence[RelayKeys],
        network_id: bytes,
        random: RandomSource,
        watcher: CircuitWatcher,
        congestion: CongestionParameters,
    ) -> ClientCircuit:
        """A circuit of which this relay is the client."""
        circuit = ClientCircuit(self.out, self.free_id(), path, network_id, random, watcher, congestion)
        self.own[circuit.id] = circuit
        self.circuits[circuit.id] = partial(circuit.cells, Command.RELAY)
        circuit.start()
        return circuit

    def forget(self, circuit: bytes) -> RelayCircuit | None:
        """A circuit id is used no more; what the peer has sent on it may still come. Returns: whose it was."""
        self.circuits.pop(circuit, None)
        if circuit not in self.owners:
            return None
        self.stray.ended()
        owner = self.owners.pop(circuit)
        self.pending -= owner is None
        return owner

    def forget_own(self, circuit: ClientCircuit) -> None:
        """It has ended."""
        if self.own.pop(circuit.id, None) is not None:
            self.circuits.pop(circuit.id, None)
            self.stray.ended()

    def send_destroy(self, circuit: bytes) -> None:
        """Tells the peer that a circuit is no more; LINK_CIRCUIT: all of them."""
        self.out.add(circuit + bytes((Command.DESTROY,)), ZERO_BODY[:BODY_BYTES], b"")

    def lose_own(self) -> list[ClientCircuit]:
        """The circuits of which this relay is the client are gone with the link; they are to be told."""
        own = list(self.own.values())
        for circuit in own:
            self.forget_own(circuit)
        return own


OwnMessages = Callable[["RelayCircuit", list[bytes], list[bytes], float], None]
"""Takes (circuit, messages for this hop behind their marks, the layers that they came in, now)."""

_mark = itemgetter(0)


class RelayCircuit:
    """One circuit at one relay."""

    __slots__ = (
        "_body", "_own", "_pad_next", "_pad_previous", "_previous_header", "alive", "backward", "endpoint", "extending",
        "forward", "hop", "next_header", "next_id", "next_link", "previous_id", "previous_link",
    )  # fmt: skip

    def __init__(self, link: RelayLink, circuit: CircuitId, hop: int, keys: CircuitKeys, own: OwnMessages) -> None:
        self._own = own
        self.hop = hop
        self.alive = True
        self.forward = Layer(keys.forward)
        self.backward = Layer(keys.backward)
        self.previous_link, self.previous_id = link, circuit
        self._previous_header = circuit + bytes((Command.RELAY,))
        self.next_link: RelayLink | None = None
        self.next_id = LINK_CIRCUIT
        self.next_header = b""
        self.extending: NodeId | None = None
        self._body = sealed_bytes(hop)
        self._pad_previous = PADDING[hop - 1]
        self._pad_next = PADDING[hop] if hop < MAX_HOPS else b""
        self.endpoint: Endpoint | None = None

    # ---- towards the exit ----------------------------------------------------------------------------------------

    def peel(self, data: bytes, at: int, count: int, now: float) -> None:
        """`count` RELAY cells from the client's side, at `data[at:]`."""
        size = self._body
        starts = range(at + HEADER_BYTES, at + count * CELL_BYTES, CELL_BYTES)
        sealed = [data[i : i + size] for i in starts]
        plain = self.forward.open_all(sealed)
        done = 0
        for mark, group in groupby(plain, _mark):
            run = list(group)
            if mark == MARK_RELAYED:
                self._forward(run)
            elif mark == MARK_OWN:
                self._own(self, run, sealed[done : done + len(run)], now)
            else:
                raise Malformed("unknown mark in an onion layer")
            done += len(run)

    def _forward(self, plain: list[bytes]) -> None:
        link = self.next_link
        if link is None:
            raise Malformed("a cell for a hop that does not exist")
        link.out.add_all(self.next_header, [p[1:] for p in plain], self._pad_next)

    # ---- towards the client --------------------------------------------------------------------------------------

    def wrap(self, data: bytes, at: int, count: int, now: float) -> None:
        """`count` RELAY cells from the next hop, at `data[at:]`."""
        size = self._body - TAG_BYTES - 1
        starts = range(at + HEADER_BYTES, at + count * CELL_BYTES, CELL_BYTES)
        sealed = self.backward.seal_all([RELAYED + data[i : i + size] for i in starts])
        self.previous_link.out.add_all(self._previous_header, sealed, self._pad_previous)

    def send(self, marked: list[bytes]) -> list[bytes]:
        """Seals messages of our own, behind their marks, towards the client; returns the sealed layers."""
        sealed = self.backward.seal_all(padded(marked, self._body - TAG_BYTES))
        self.previous_link.out.add_all(self._previous_header, sealed, self._pad_previous)
        return sealed
