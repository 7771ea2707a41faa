"""A circuit at the client: builds hop by hop, seals for each, opens what comes back. Sans-io.

Telescoped: CREATE to the guard, then an EXTEND message to the last hop so far for each further hop. The client binds
in each handshake the hop number that it expects; no relay sees another number than its own (PROTOCOL.md section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from phantomband.core.cell import CELL_BYTES, HEADER_BYTES, Command
from phantomband.core.circuit.drops import Drops
from phantomband.core.circuit.loops import Loops
from phantomband.core.circuit.messages import encode_create, encode_extend
from phantomband.core.circuit.outbox import ZERO_BODY, OutLink, padded
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import RELAY_BYTES, CircuitKeys, ClientHandshake, RelayKeys, client_start
from phantomband.core.ids import CircuitId, HopNumber
from phantomband.core.onion import (
    MARK_OWN,
    MARK_RELAYED,
    OWN,
    RELAYED,
    TAG_BYTES,
    Layer,
    message_room,
    sealed_bytes,
)
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import (
    Message,
    decode_pace_untrusted,
    decode_untrusted,
    encode,
    encode_pace,
)


class CircuitState(Enum):
    """Life of a circuit at the client."""

    BUILDING = auto()
    OPEN = auto()
    GONE = auto()


class CircuitWatcher(Protocol):
    """Who is told what becomes of a circuit."""

    def circuit_open(self, circuit: ClientCircuit) -> None:
        """All hops answered."""

    def circuit_gone(self, circuit: ClientCircuit) -> None:
        """Called once: it failed to build, was destroyed, or broke."""

    def circuit_looped(self, circuit: ClientCircuit, hop: int, seconds: float) -> None:
        """A loop came back from hop `hop`."""

    def circuit_paced(self, circuit: ClientCircuit) -> None:
        """The last hop answered `ask_pace`."""


class _Hop:
    """Both layers shared with one relay."""

    __slots__ = ("backward", "forward")

    def __init__(self, keys: CircuitKeys) -> None:
        self.forward = Layer(keys.forward)
        self.backward = Layer(keys.backward)


class ClientCircuit:
    """One circuit of the client."""

    def __init__(
        self,
        out: OutLink,
        circuit_id: CircuitId,
        path: Sequence[RelayKeys],
        network_id: bytes,
        random: RandomSource,
        watcher: CircuitWatcher,
        congestion: CongestionParameters | None = None,
        max_streams: int = 1024,
        mixing: float = 0.0,
    ) -> None:
        """Args: path: keys of the relays, guard first; mixing: seconds that mixing adds to a round trip."""
        self.id = circuit_id
        self.path = tuple(path)
        self.state = CircuitState.BUILDING
        self._out = out
        self._network_id = network_id
        self._random = random
        self._watcher = watcher
        self._hops: list[_Hop] = []
        self._handshake: ClientHandshake | None = None
        self._header = circuit_id + bytes((Command.RELAY,))
        self._now = 0.0
        self.loops = Loops(random)
        self.pace_asked: int | None = None
        self.pace: int | None = None
        """Cells a second at which the last hop sends whatever it has to say; None until it answered."""
        self._pace_before = 0
        """What it kept until it answers anew."""
        room = message_room(len(self.path))
        self.endpoint = Endpoint(room, self._send_last, congestion or CongestionParameters(), None, max_streams, mixing)
        self.endpoint.extra = self._extra
        self.endpoint.dropped = self._dropped
        self._drops = Drops()

    # ---- building ------------------------------------------------------------------------------------------------

    @property
    def answered(self) -> int:
        """Relays of the path that have answered their handshake, from the guard on."""
        return len(self._hops)

    def start(self) -> None:
        """Sends CREATE to the guard. With an onion key that cannot be used the circuit is gone at once."""
        try:
            body = encode_create(1, self._onion_skin())
        except Malformed:
            self.lost()
            return
        self._out.add(self.id + bytes((Command.CREATE,)), body, ZERO_BODY[len(body) :])

    def _onion_skin(self) -> bytes:
        hop = len(self._hops) + 1
        self._handshake, onion_skin = client_start(
            self.path[hop - 1], self._network_id, HopNumber(hop), b"", self._random
        )
        return onion_skin

    def _hop_answered(self, reply: bytes) -> None:
        if self._handshake is None:
            raise Malformed("an answer to a handshake that was not asked for")
        keys, _ = self._handshake.finish(reply)
        self._handshake = None
        self._hops.append(_Hop(keys))
        if len(self._hops) == len(self.path):
            self.state = CircuitState.OPEN
            self._watcher.circuit_open(self)
            return
        node = self.path[len(self._hops)].node_id
        self._send(len(self._hops), [OWN + encode(Message.EXTEND, 0, encode_extend(node, self._onion_skin()))])

    # ---- cells ---------------------------------------------------------------------------------------------------

    def cells(self, command: int, data: bytes, at: int, count: int, now: float) -> None:
        """`count` cells of this circuit with one command, at `data[at:]`; what breaks the protocol ends the circuit."""
        while count and self.state is not CircuitState.GONE:
            if self.state is CircuitState.OPEN and command == Command.RELAY:
                self._open_cells(data, at, count, now)
                return
            self._cell(command, data, at)
            at, count = at + CELL_BYTES, count - 1

    def _open_cells(self, data: bytes, at: int, count: int, now: float) -> None:
        try:
            self._relay(data, at, count, now)
        except Malformed:
            self.destroy()

    def _cell(self, command: int, data: bytes, at: int) -> None:
        try:
            if command == Command.RELAY:
                self._building_cell(data[at + HEADER_BYTES : at + HEADER_BYTES + sealed_bytes(1)])
            elif command == Command.CREATED and not self._hops:
                self._hop_answered(data[at + HEADER_BYTES : at + HEADER_BYTES + RELAY_BYTES])
            elif command == Command.DESTROY:
                self.lost()
            else:
                raise Malformed(f"unexpected cell command {command}")
        except Malformed:
            self.destroy()

    def _relay(self, data: bytes, at: int, count: int, now: float) -> None:
        """Opens all layers: nearly all cells are the last hop's; hops before it only send loops back."""
        size = sealed_bytes(1)
        sealed = [data[i : i + size] for i in range(at + HEADER_BYTES, at + count * CELL_BYTES, CELL_BYTES)]
        self._now = now
        *before, last = self._hops
        for number, hop in enumerate(before, 1):
            plain = hop.backward.open_all(sealed)
            own = [p for p in plain if p[0] != MARK_RELAYED]
            if own:
                _check_marks(own, MARK_OWN)
                plain = [p for p in plain if p[0] == MARK_RELAYED]
                for message in own:
                    self._from_inner(number, message)
            sealed = [p[1:] for p in plain]
        plain = last.backward.open_all(sealed)
        _check_marks(plain, MARK_OWN)
        self.endpoint.messages(plain, sealed, now)

    def _from_inner(self, hop: int, marked: bytes) -> None:
        """A message from a hop before the last: only loops come back from there."""
        command, stream, data = decode_untrusted(marked[1:])
        if command != Message.LOOPED or stream:
            raise Malformed("a message from a hop that has nothing to say")
        self._looped(hop, data)

    def _extra(self, command: int, data: bytes) -> None:
        """What the last hop says beside its streams."""
        if command == Message.LOOPED:
            self._looped(len(self._hops), data)
        elif command == Message.PACED and self.pace_asked is not None:
            self.pace, self.pace_asked = decode_pace_untrusted(data), None
            self._pace_before = 0
            self._drops.paced(self._now)
            self._watcher.circuit_paced(self)
        else:
            raise Malformed(f"unexpected message command {command}")

    def _dropped(self) -> None:
        """Ends the circuit when the exit writes to who watches the guard's link."""
        pace, endpoint = self.pace or self._pace_before, self.endpoint
        self._drops.came_untrusted(self._now, pace, streams=bool(endpoint.streams), used=endpoint.used)

    def _looped(self, hop: int, nonce: bytes) -> None:
        self._watcher.circuit_looped(self, hop, self.loops.returned_untrusted(hop, nonce, self._now))

    def _building_cell(self, sealed: bytes) -> None:
        """The answer to an EXTEND, from the last hop so far."""
        for hop in self._hops[:-1]:
            plain = hop.backward.open(sealed)
            _check_marks([plain], MARK_RELAYED)
            sealed = plain[1:]
        if not self._hops:
            raise Malformed("a RELAY cell before the circuit has a hop")
        plain = self._hops[-1].backward.open(sealed)
        _check_marks([plain], MARK_OWN)
        command, stream, data = decode_untrusted(plain[1:])
        if command != Message.EXTENDED or stream != 0:
            raise Malformed("a message before the circuit is built")
        self._hop_answered(data)

    def _send(self, hop: int, marked: list[bytes]) -> list[bytes]:
        """Seals messages, behind their marks, for hop `hop`; returns their innermost layers."""
        sealed = inner = self._hops[hop - 1].forward.seal_all(padded(marked, sealed_bytes(hop) - TAG_BYTES))
        for layer in self._hops[hop - 2 :: -1] if hop > 1 else ():
            sealed = layer.forward.seal_all([RELAYED + s for s in sealed])
        self._out.add_all(self._header, sealed, b"")
        return inner

    def _send_last(self, marked: list[bytes]) -> list[bytes]:
        return self._send(len(self._hops), marked)

    def send_drop(self, hop: int) -> None:
        """A cover cell to hop `hop` (leaky pipe)."""
        self._send(hop, [OWN + encode(Message.DROP, 0)])

    def send_loop(self, hop: int, now: float) -> None:
        """A cover cell that hop `hop` sends back; a DROP when too many loops are out."""
        nonce = self.loops.start(hop, now)
        self._send(hop, [OWN + (encode(Message.DROP, 0) if nonce is None else encode(Message.LOOP, 0, nonce))])

    def slot(self, now: float, cells: int, *, loop: bool) -> None:
        """A slot of a circuit whose endpoint is paced: exactly `cells` cells to the last hop.

        Args: loop: whether a dummy, should the slot need one, is a loop.
        """
        if loop and self.endpoint.idle and (nonce := self.loops.start(len(self._hops), now)) is not None:
            self.endpoint.send_control(encode(Message.LOOP, 0, nonce))
        self.endpoint.slot(now, cells)

    def ask_pace(self, rate: int) -> None:
        """Asks the last hop to send `rate` cells a second whatever it has to say; 0: as they come.

        Its answer is in `pace`: it may be less than asked, 0 when it has no room for paced circuits.
        """
        self._pace_before = self.pace or 0
        self.pace_asked, self.pace = rate, None
        self._send_last([OWN + encode(Message.PACE, 0, encode_pace(rate))])

    # ---- ending --------------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """Ends the circuit and tells the guard."""
        if self.state is not CircuitState.GONE:
            self._out.add(self.id + bytes((Command.DESTROY,)), ZERO_BODY, b"")
            self.lost()

    def lost(self) -> None:
        """The circuit is gone; nobody needs to be told."""
        if self.state is CircuitState.GONE:
            return
        self.state = CircuitState.GONE
        self._handshake = None
        self.endpoint.gone()
        self._watcher.circuit_gone(self)


def _check_marks(plain: list[bytes], mark: int) -> None:
    for one in plain:
        if one[0] != mark:
            raise Malformed("a cell that its hop should not have sent")
