"""What a mixer does before its strategy sees a cell: the link's own cells, and circuits that were dropped.

**Circuit 0** names the link (core/cell.py); its cells pass at once and are not held. A DESTROY of circuit 0 says
that all circuits of the link are dead, so what is held for the link is forgotten: the peer would get cells of circuits
that it does not know any more. It must not wait either, since it would end the circuits that are made after it. The
cells of circuits, CREATE, CREATED and DESTROY included, are mixed alike and keep their order.

**A dropped circuit** (queues.py) ends cleanly: the peer gets its DESTROY at once in place of the cells that were
dropped, the relay is told, and later cells of the circuit are swallowed, up to and with the DESTROY that the relay
answers with.
"""

from __future__ import annotations

from collections import OrderedDict

from phantomband.core.cell import CIRCUIT_ID_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.ids import CircuitId, LinkId
from phantomband.core.mixing.base import Circuit, Strategy
from phantomband.core.mixing.queues import runs

MAX_ENDED = 131_072
"""Dropped circuits that are remembered: twice the 65,536 that a relay has, for two directions. Cells of one that
was forgotten pass, and end it at the next hop, where they do not open."""


class Intake:
    """Cells on their way into one strategy."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._ended: OrderedDict[Circuit, None] = OrderedDict()
        self.dropped = 0
        """Circuits dropped so far."""

    def add(self, link: LinkId, cells: list[bytes], now: float) -> list[bytes]:
        """Takes cells for a link. Returns: those that pass at once."""
        at_once = [cell for cell in cells if cell.startswith(LINK_CIRCUIT)]
        if at_once:
            cells = self._for_circuits(link, cells)
        if self._ended:
            cells = self._of_living(link, cells)
        if cells:
            self._strategy.add(link, cells, now)
        return at_once

    def take_dropped(self) -> list[tuple[Circuit, bytes]]:
        """Circuits that the strategy dropped since the last call, each with the DESTROY cell for its peer."""
        out = [(circuit, encode(CircuitId(circuit[1]), Command.DESTROY)) for circuit in self._strategy.take_dropped()]
        self.dropped += len(out)
        self._ended.update((circuit, None) for circuit, _ in out)
        while len(self._ended) > MAX_ENDED:
            self._ended.popitem(last=False)
        return out

    def clear(self) -> None:
        """Every circuit is dead: forgets all."""
        self._strategy.release(float("inf"))
        self._strategy.take_dropped()
        self._ended.clear()

    def _for_circuits(self, link: LinkId, cells: list[bytes]) -> list[bytes]:
        """The cells without the link's own; those before a DESTROY of the link are forgotten."""
        out: list[bytes] = []
        for cell in cells:
            if not cell.startswith(LINK_CIRCUIT):
                out.append(cell)
            elif cell[CIRCUIT_ID_BYTES] == Command.DESTROY:
                out.clear()
                self._strategy.drop_link(link)
                for circuit in [circuit for circuit in self._ended if circuit[0] == link]:
                    del self._ended[circuit]
        return out

    def _of_living(self, link: LinkId, cells: list[bytes]) -> list[bytes]:
        out: list[bytes] = []
        for circuit, run in runs(link, cells):
            if circuit not in self._ended:
                out += run
            elif any(cell[CIRCUIT_ID_BYTES] == Command.DESTROY for cell in run):
                del self._ended[circuit]
        return out
