"""Cells of circuits that have ended: no third party can drive the punishment of a link that others share."""

from __future__ import annotations

from collections import deque

from phantomband.core.cell import BODY_BYTES, CELL_BYTES, Command
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.circuit.stray import EXPECTED_A_CIRCUIT, EXPECTED_AT_FIRST, FORGET_SECONDS, Stray
from phantomband.core.stream.messages import target
from world import CLIENT, Recorder, World

STRANGE = b"\0\0\x77\x77" + bytes((Command.RELAY,)) + bytes(CELL_BYTES - 5)


def test_circuits_that_end_with_data_under_way_never_close_a_shared_link() -> None:
    """The client's DESTROY overtakes what its server sends, for more circuits than the limit would let through."""
    world = World(limits=RelayLimits(stray_cells=100))
    r1 = world.relays["r1"]
    for relay in world.relays.values():
        relay.exit.echo = False
    shared = world.connect("r1", "r2")
    r1.machine._links[shared].stray.came(EXPECTED_AT_FIRST, world.now)  # nothing left of what a new link has
    victim = world.built("r1", "r2", "r3")
    for _ in range(4):
        circuit = world.built("r1", "r2", "r3")
        circuit.endpoint.open(target("198.51.100.1", 80), Recorder())
        world.run()
        stream = world.relays["r3"].exit.opened[-1][0]
        while stream.write(bytes(256 * 1024)):
            pass
        world._collect()
        while not world._queues.get(("r2", "r1")):
            world._deliver()
            world._collect()
        others = {way: queue for way, queue in world._queues.items() if way != (CLIENT, "r1")}
        world._queues = {(CLIENT, "r1"): deque([circuit.id + bytes((Command.DESTROY,)) + bytes(BODY_BYTES)]), **others}
        world.circuits.pop(circuit.id)
        world._deliver()
        world.run()
    assert r1.machine.counters.stray > 200
    assert r1.closed_links == []
    assert victim.state.name == "OPEN"


def test_cells_of_circuits_that_never_were_still_close_the_link() -> None:
    world = World(limits=RelayLimits(stray_cells=10))
    for _ in range(EXPECTED_AT_FIRST + 12):
        world.inject(CLIENT, "r1", STRANGE)
    world.run()
    assert world.relays["r1"].closed_links == [world.client_link], "and it is asked for once"


def test_what_was_unexpected_is_forgotten_after_a_minute() -> None:
    stray = Stray()
    assert stray.came(EXPECTED_AT_FIRST + 7, 100.0) == 7
    assert stray.came(1, 100.0 + FORGET_SECONDS - 1) == 8
    assert stray.came(1, 100.0 + FORGET_SECONDS) == 1


def test_an_ended_circuit_is_remembered_for_a_minute_at_least_and_two_at_most() -> None:
    stray = Stray()
    stray.came(EXPECTED_AT_FIRST, 0.0)
    stray.ended()
    assert stray.came(10, 59.0) == 0
    assert stray.came(EXPECTED_A_CIRCUIT - 10, 61.0) == 0
    assert stray.came(1, 61.0) == 1
    stray.ended()
    stray.came(0, 122.0)
    stray.came(0, 183.0)
    assert stray.came(1, 183.0) == 1
