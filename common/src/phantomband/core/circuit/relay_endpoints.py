"""What a relay and its clients say to each other: the endpoint of each circuit, served once for each batch of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from phantomband.core.circuit.loops import LOOP_BYTES
from phantomband.core.circuit.messages import decode_extend_untrusted
from phantomband.core.circuit.relay_circuit import RelayCircuit
from phantomband.core.circuit.relay_extending import RelayExtending
from phantomband.core.circuit.relay_pacing import RelayPacing
from phantomband.core.circuit.relay_types import RelayCounters, RelayEffects
from phantomband.core.errors import Malformed
from phantomband.core.onion import OWN
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import Message, decode_pace_untrusted, encode


class RelayEndpoints:
    """The relay's ends of all its circuits."""

    def __init__(
        self,
        effects: RelayEffects,
        counters: RelayCounters,
        pacing: RelayPacing,
        extending: RelayExtending,
        destroy: Callable[[RelayCircuit], None],
    ) -> None:
        self._effects, self._counters, self._destroy = effects, counters, destroy
        self._pacing, self._extending = pacing, extending
        self._touched: dict[RelayCircuit, None] = {}
        self._now = 0.0

    def attach(self, circuit: RelayCircuit, endpoint: Endpoint) -> None:
        """The circuit stands: this is its end at the relay."""
        endpoint.extra = lambda command, data: self._extra(circuit, command, data)
        endpoint.wake = lambda: self.touch(circuit)
        circuit.endpoint = endpoint

    def messages(self, circuit: RelayCircuit, marked: list[bytes], sealed: list[bytes], now: float) -> None:
        """Messages for this hop, behind their marks, and the layers that they came in.

        Raises:
            Malformed: kill the circuit.
        """
        endpoint = circuit.endpoint
        if endpoint is None:
            raise Malformed("a message for a circuit that is gone")
        self.touch(circuit)
        self._now = now
        endpoint.messages(marked, sealed, now)

    def _extra(self, circuit: RelayCircuit, command: int, data: bytes) -> None:
        """A message that is not about streams."""
        match command:
            case Message.LOOP if len(data) == LOOP_BYTES and circuit.endpoint is not None:
                circuit.endpoint.send_control(encode(Message.LOOPED, 0, data))
            case Message.PACE:
                self._pacing.asked(circuit, decode_pace_untrusted(data), self._now)
            case Message.EXTEND:
                self._extending.asked(circuit, *decode_extend_untrusted(data))
            case _:
                raise Malformed(f"unexpected message command {command}")

    def touch(self, circuit: RelayCircuit) -> None:
        """The circuit is served in the next `flush`."""
        if not self._touched:
            self._effects.wake()
        self._touched[circuit] = None

    def flush(self, now: float) -> None:
        """Hands data to the streams of touched circuits and sends what windows now allow."""
        touched, self._touched = self._touched, {}
        for circuit in touched:
            if not circuit.alive or circuit.endpoint is None:
                continue
            try:
                circuit.endpoint.deliver()
                circuit.endpoint.pump(now)
            except Exception:  # noqa: BLE001 - a fault of ours in one circuit must not stall the others of this batch
                self._counters.bugs += 1
                self._destroy(circuit)

    def keepalive(self, circuits: Iterable[RelayCircuit]) -> None:
        """Sends a DROP on each that carries streams, unless its pace does so, and looks at it anew."""
        for circuit in circuits:
            if circuit.endpoint is None or not circuit.endpoint.streams or circuit in self._pacing:
                continue
            try:
                circuit.send([OWN + encode(Message.DROP, 0)])
                self.touch(circuit)
            except Exception:  # noqa: BLE001 - as in flush
                self._counters.bugs += 1
                self._destroy(circuit)
