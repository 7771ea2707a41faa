"""What a client sends when it has nothing to say: DROP and LOOP cells on its circuits.

A link's PAD hides nothing from the guard, so a dummy goes to a hop behind it and looks to the guard like any other
cell of its circuit (DESIGN.md section 5).
"""

from __future__ import annotations

from collections.abc import Mapping

from phantomband.core.circuit.client import CircuitState, ClientCircuit
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.mixing.shuffle import Draw

LOOPS_IN_TEN = 1
"""One dummy in ten comes back."""

LOOP_SECONDS = 10.0
"""Mean time between the loops of a link that sends no dummies."""


class Cover:
    """The dummies of one link."""

    def __init__(self, circuits: Mapping[bytes, ClientCircuit], random: RandomSource) -> None:
        self._circuits = circuits
        self._draw = Draw(random)

    def add(self, count: int, now: float) -> None:
        """Sends `count` dummies, each on an open circuit to a hop drawn at random; none while no circuit is open."""
        ready = self._open()
        for _ in range(count if ready else 0):
            circuit = ready[self._draw.below(len(ready))]
            if self.is_loop():
                circuit.send_loop(self._hop(circuit), now)
            else:
                circuit.send_drop(self._hop(circuit))

    def loop(self, now: float) -> ClientCircuit | None:
        """Sends one loop on an open circuit that is not paced; the circuit, or None where there is none."""
        ready = [c for c in self._open() if not c.endpoint.paced]
        if not ready:
            return None
        circuit = ready[self._draw.below(len(ready))]
        circuit.send_loop(self._hop(circuit), now)
        return circuit

    def is_loop(self) -> bool:
        """Whether the next dummy is a loop."""
        return self._draw.below(10) < LOOPS_IN_TEN

    def until_loop(self) -> float:
        """Seconds until the next loop of a link without dummies."""
        return self._draw.exponential(LOOP_SECONDS)

    def _open(self) -> list[ClientCircuit]:
        return [c for c in self._circuits.values() if c.state is CircuitState.OPEN]

    def _hop(self, circuit: ClientCircuit) -> int:
        """From the second hop on, where there is one."""
        hops = len(circuit.path)
        return 2 + self._draw.below(hops - 1) if hops > 1 else 1
