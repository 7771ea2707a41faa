"""A client's dummies: which circuits and hops they go to, and that the guard cannot tell them from other cells."""

from __future__ import annotations

from collections import Counter

import pytest
from phantomband.core.cell import CELL_BYTES, Command
from phantomband_client.cover import LOOP_SECONDS, Cover
from world import CLIENT, World


def test_nothing_is_sent_while_no_circuit_is_open() -> None:
    world = World()
    world.circuit("r1", "r2", "r3")
    cover = Cover(world.circuits, world.random)
    before = world.out.cells
    cover.add(10, world.now)
    assert cover.loop(world.now) is None
    assert world.out.cells == before


def test_dummies_go_to_every_hop_but_the_guard_and_a_tenth_come_back() -> None:
    world = World(relays=4)
    circuits = [world.built("r1", "r2", "r3", "r4"), world.built("r1", "r3", "r2")]
    cover = Cover(world.circuits, world.random)
    world.carried.clear()
    count = 3000
    for _ in range(count // 20):
        cover.add(20, world.now)
        assert world.out.cells == 20
        world.run()
    assert world.carried[CLIENT, "r1"] == count
    loops = sum(c.loops.sent for c in circuits)
    assert loops == pytest.approx(count / 10, abs=4 * (count * 0.09) ** 0.5)
    returned = Counter(hop for hop, _ in world.watcher.looped)
    assert sum(returned.values()) == loops
    assert set(returned) == {2, 3, 4}
    forward = world.carried["r1", "r2"] + world.carried["r1", "r3"]
    assert forward == count, "each dummy goes on behind the guard"


def test_a_dummy_looks_like_any_other_cell_of_its_circuit() -> None:
    world = World()
    circuit = world.built("r1", "r2", "r3")
    Cover(world.circuits, world.random).add(5, world.now)
    cells = b"".join(world.out.parts)
    assert len(cells) == 5 * CELL_BYTES
    headers = {cells[i : i + 5] for i in range(0, len(cells), CELL_BYTES)}
    assert headers == {circuit.id + bytes((Command.RELAY,))}


def test_a_single_hop_gets_the_dummies_of_its_circuit() -> None:
    world = World(relays=1)
    world.built("r1")
    Cover(world.circuits, world.random).add(50, world.now)
    world.run()
    assert world.relays["r1"].machine.counters.malformed == 0


def test_times_between_loops_are_exponential() -> None:
    cover = Cover({}, World().random)
    times = [cover.until_loop() for _ in range(4000)]
    assert sum(times) / len(times) == pytest.approx(LOOP_SECONDS, rel=0.07)
    assert sum(t > LOOP_SECONDS for t in times) / len(times) == pytest.approx(0.3679, abs=0.03)
