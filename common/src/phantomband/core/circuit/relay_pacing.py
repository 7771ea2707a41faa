"""What a relay does for clients that ask for a fixed pace of its cells (PACE, docs/reference/wire-format.md)."""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.circuit.paced import PacedCircuits
from phantomband.core.circuit.rate_shares import RateShares
from phantomband.core.circuit.relay_circuit import RelayCircuit
from phantomband.core.circuit.relay_types import RelayCounters, RelayEffects, RelayLimits
from phantomband.core.errors import Malformed
from phantomband.core.stream.messages import Message, encode, encode_pace


class RelayPacing:
    """The paced circuits of one relay."""

    def __init__(
        self,
        limits: RelayLimits,
        effects: RelayEffects,
        counters: RelayCounters,
        destroy: Callable[[RelayCircuit], None],
    ) -> None:
        self._limits, self._effects, self._counters, self._destroy = limits, effects, counters, destroy
        self._circuits: PacedCircuits[RelayCircuit] = PacedCircuits(limits.paced_cells)
        self._shares = RateShares(limits.paced_cells)

    def __contains__(self, circuit: RelayCircuit) -> bool:
        return circuit in self._circuits

    def asked(self, circuit: RelayCircuit, rate: int, now: float) -> None:
        """The client asks for `rate` cells a second towards it; it is told what it gets."""
        if circuit.endpoint is None:
            return
        rate = min(rate, self._limits.pace)
        paced = self._shares.take(circuit, circuit.previous_link.source, rate)
        self._circuits.set(circuit, rate if paced else 0, now)
        circuit.endpoint.send_control(encode(Message.PACED, 0, encode_pace(rate if paced else 0)))
        circuit.endpoint.pace(paced)
        self._ask()

    def remove(self, circuit: RelayCircuit) -> None:
        """The circuit is gone."""
        self._circuits.remove(circuit)
        self._shares.give_back(circuit)

    def slots(self, now: float) -> None:
        """Lets every circuit send whose slot has come."""
        for circuit, cells in self._circuits.due(now):
            if circuit.endpoint is None:
                continue
            try:
                circuit.endpoint.slot(now, cells)
            except Malformed:
                self._counters.malformed += 1
                self._destroy(circuit)
            except Exception:  # noqa: BLE001 - a fault of ours in one circuit must not stall the others
                self._counters.bugs += 1
                self._destroy(circuit)
        self._ask()

    def _ask(self) -> None:
        deadline = self._circuits.deadline
        if deadline is not None:
            self._effects.slots_at(deadline)
