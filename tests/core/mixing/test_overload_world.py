"""A relay whose mixer is too small, among real machines: what it drops ends cleanly, and nothing else does."""

from __future__ import annotations

from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.circuit.outbox import Outbox
from phantomband.core.ids import LinkId
from phantomband.core.mixing.intake import Intake
from phantomband.core.mixing.timed import TimedMixing
from phantomband.core.stream.messages import target
from world import Recorder, Seeded, World

INTERVAL = 0.05
ROOM = 40
MIXING = "r2"


class MixedWorld(World):
    """The cells of one relay go through a mixer with room for 40 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.strategy = TimedMixing(INTERVAL, ROOM, Seeded(5))
        self.intake = Intake(self.strategy)
        self.dropped = 0

    def _push(self, sender: str, outbox: Outbox) -> None:
        if sender != MIXING:
            super()._push(sender, outbox)
            return
        for link, cells in self.strategy.release(self.now):
            self._out(link, cells)
        for link, _, parts in list(outbox.drain()):
            data = b"".join(parts)
            cells = [data[at : at + CELL_BYTES] for at in range(0, len(data), CELL_BYTES)]
            self._out(link, self.intake.add(link, cells, self.now))
        for (link, circuit), destroy in self.intake.take_dropped():
            self.dropped += 1
            self._out(link, [destroy])
            self.relays[MIXING].machine.overflow(link, circuit)

    def _out(self, link: LinkId, cells: list[bytes]) -> None:
        for cell in cells:
            self.inject(MIXING, self._ends[MIXING, link], cell)

    def run_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.step()

    def opened(self, *names: str) -> ClientCircuit:
        circuit = self.circuit(*names)
        self.run_for(1.0)
        assert circuit in self.watcher.opened
        return circuit


def test_a_circuit_that_floods_the_mixer_ends_without_a_broken_cell_and_its_neighbour_goes_on() -> None:
    world = MixedWorld()
    flood, quiet = world.opened("r1", "r2", "r3"), world.opened("r1", "r2", "r3")
    loud, soft = Recorder(), Recorder()
    loud_stream = flood.endpoint.open(target("example.net", 80), loud)
    soft_stream = quiet.endpoint.open(target("example.net", 80), soft)
    world.run_for(1.0)
    soft_stream.write(b"before")
    loud_stream.write(bytes(200_000))
    world.run_for(5.0)
    assert world.dropped == 1
    assert world.watcher.gone == [flood]
    assert loud.reason is not None
    assert world.strategy.held == 0
    soft_stream.write(b" and after")
    world.run_for(2.0)
    assert bytes(soft.received) == b"before and after"
    for relay in world.relays.values():
        assert relay.machine.circuit_count == 1
        assert relay.machine.counters.malformed == 0, "nobody got a cell that did not open"
        assert relay.machine.counters.bugs == 0
