"""Loops, and circuits that the last hop answers at a fixed pace: machines over an in-memory network."""

from __future__ import annotations

import pytest
from phantomband.core.circuit.client import CircuitState, ClientCircuit
from phantomband.core.circuit.loops import MAX_OUT
from phantomband.core.circuit.paced import PacedCircuits
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.onion import OWN
from phantomband.core.stream.messages import EndReason, Message, encode, encode_pace, target
from phantomband.core.stream.slot_queue import MAX_CONTROL
from world import Recorder, World

PATH = ("r1", "r2", "r3")


def run_slots(world: World, seconds: float) -> list[int]:
    """Lets time pass; returns the cells that r3 sent back in each whole tenth of a second."""
    counts: list[int] = []
    for _ in range(round(seconds * 10)):
        before, end = world.carried.get(("r3", "r2"), 0), world.now + 0.1
        while world.now < end - 1e-9:
            for relay in world.relays.values():
                if relay.slots_due is not None and relay.slots_due <= world.now:
                    relay.slots_due = None
                    relay.machine.slots(world.now)
            world.step()
        counts.append(world.carried.get(("r3", "r2"), 0) - before)
    return counts


def paced(world: World, rate: int) -> ClientCircuit:
    circuit = world.built(*PATH)
    circuit.ask_pace(rate)
    run_slots(world, 0.2)
    return circuit


@pytest.mark.parametrize("hop", [1, 2, 3])
def test_a_loop_comes_back_from_any_hop_and_measures_the_way(hop: int) -> None:
    world = World()
    circuit = world.built(*PATH)
    circuit.send_loop(hop, world.now)
    assert circuit.loops.out == 1
    world.run()
    assert circuit.loops.out == 0
    ((found, seconds),) = world.watcher.looped
    assert found == hop
    assert seconds == pytest.approx(0.001 * 2 * hop, abs=0.0011)


def test_loops_travel_among_data_and_do_not_disturb_it() -> None:
    world = World()
    circuit = world.built(*PATH)
    handler = Recorder()
    stream = circuit.endpoint.open(target("example.net", 80), handler)
    payload = world.random(300_000)
    stream.write(payload)
    for i in range(60):
        circuit.send_loop(1 + i % 3, world.now)
        world.step()
    world.run()
    assert bytes(handler.received) == payload
    assert len(world.watcher.looped) == 60


def test_no_more_loops_are_out_than_their_limit_and_the_rest_are_drops() -> None:
    world = World()
    circuit = world.built(*PATH)
    for _ in range(MAX_OUT + 10):
        circuit.send_loop(2, world.now)
    assert circuit.loops.sent == MAX_OUT
    world.run()
    assert len(world.watcher.looped) == MAX_OUT
    assert circuit.state is CircuitState.OPEN


@pytest.mark.parametrize("relay", PATH)
@pytest.mark.parametrize("nonce", [b"12345678", b"", b"123456789"])
def test_a_loop_that_was_not_sent_kills_the_circuit(relay: str, nonce: bytes) -> None:
    world = World()
    circuit = world.built(*PATH)
    (owner,) = [o for link in world.relays[relay].machine._links.values() for o in {*link.owners.values()} if o][:1]
    owner.send([OWN + encode(Message.LOOPED, 0, nonce)])
    world.run()
    assert circuit.state is CircuitState.GONE


def test_a_loop_from_another_hop_than_asked_kills_the_circuit() -> None:
    world = World()
    circuit = world.built(*PATH)
    nonce = circuit.loops.start(3, world.now)
    assert nonce is not None
    (owner,) = [o for link in world.relays["r2"].machine._links.values() for o in {*link.owners.values()} if o][:1]
    owner.send([OWN + encode(Message.LOOPED, 0, nonce)])
    world.run()
    assert circuit.state is CircuitState.GONE


@pytest.mark.parametrize("command", [Message.DATA, Message.CONNECTED, Message.DROP, Message.PACED, Message.EXTENDED])
def test_a_hop_before_the_last_may_say_nothing_else(command: Message) -> None:
    world = World()
    circuit = world.built(*PATH)
    (owner,) = [o for link in world.relays["r2"].machine._links.values() for o in {*link.owners.values()} if o][:1]
    owner.send([OWN + encode(command, 0, b"")])
    world.run()
    assert circuit.state is CircuitState.GONE


@pytest.mark.parametrize("data", [b"", b"1234567", bytes(9)])
def test_a_relay_takes_no_loop_of_another_size(data: bytes) -> None:
    world = World()
    circuit = world.built(*PATH)
    circuit._send_last([OWN + encode(Message.LOOP, 0, data)])
    world.run()
    assert world.relays["r3"].machine.counters.malformed == 1
    assert circuit.state is CircuitState.GONE


# ---- pace ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [20, 320])
def test_a_paced_exit_sends_the_same_with_and_without_traffic(rate: int) -> None:
    world = World()
    circuit = paced(world, rate)
    assert circuit.pace == rate
    assert world.watcher.paced == [rate]
    idle = run_slots(world, 3.0)
    handler = Recorder()
    stream = circuit.endpoint.open(target("example.net", 80), handler)
    payload = world.random(150_000)
    stream.write(payload)
    stream.finish()
    busy = run_slots(world, 3.0)
    per_tenth = rate // 10
    slot = max(1, rate // 32)
    for counts in (idle, busy):
        assert all(abs(c - per_tenth) <= slot for c in counts), counts
    assert abs(sum(idle) - sum(busy)) <= slot
    run_slots(world, 8.0)
    assert bytes(handler.received) == payload
    assert handler.reason is EndReason.DONE


def test_pace_zero_ends_the_pace_and_nothing_that_waited_is_lost() -> None:
    world = World()
    circuit = paced(world, 2)
    handler = Recorder()
    stream = circuit.endpoint.open(target("example.net", 80), handler)
    stream.write(bytes(100_000))
    world.run()
    circuit.ask_pace(0)
    world.run()
    assert circuit.pace == 0
    assert len(handler.received) == 100_000
    assert sum(run_slots(world, 2.0)) == 0


def test_an_exit_gives_no_more_pace_than_its_limits() -> None:
    world = World(limits=RelayLimits(pace=64, paced_cells=256))
    assert paced(world, 500).pace == 64
    assert paced(world, 64).pace == 64, "of what is for those who ask for little"
    refused = paced(world, 64)
    assert refused.pace == 0
    handler = Recorder()
    refused.endpoint.open(target("example.net", 80), handler).write(b"still works")
    world.run()
    assert bytes(handler.received) == b"still works"


def test_a_dead_circuit_frees_its_share_of_the_pace() -> None:
    world = World(limits=RelayLimits(paced_cells=1024))
    for _ in range(3):
        circuit = paced(world, 256)
        assert circuit.pace == 256
        circuit.destroy()
        world.run()


def test_asking_for_more_answers_than_the_pace_lets_through_ends_the_circuit() -> None:
    world = World()
    circuit = paced(world, 1)
    for i in range(MAX_CONTROL + 2):
        circuit._send_last([OWN + encode(Message.LOOP, 0, i.to_bytes(8, "big"))])
    run_slots(world, 2.0)
    assert circuit.state is CircuitState.GONE
    assert world.relays["r3"].machine.counters.malformed == 1


@pytest.mark.parametrize("data", [b"", b"1", b"123"])
def test_a_pace_of_another_form_kills_the_circuit(data: bytes) -> None:
    world = World()
    circuit = world.built(*PATH)
    circuit._send_last([OWN + encode(Message.PACE, 0, data)])
    world.run()
    assert circuit.state is CircuitState.GONE


def test_an_answer_to_no_pace_kills_the_circuit() -> None:
    world = World()
    circuit = world.built(*PATH)
    (owner,) = [o for link in world.relays["r3"].machine._links.values() for o in {*link.owners.values()} if o][:1]
    owner.send([OWN + encode(Message.PACED, 0, encode_pace(7))])
    world.run()
    assert circuit.state is CircuitState.GONE


def test_slots_come_in_the_order_of_their_times() -> None:
    circuits: PacedCircuits[str] = PacedCircuits(limit=100)
    assert circuits.deadline is None
    assert circuits.set("slow", 1, 5.0)
    assert circuits.set("fast", 10, 5.75)
    assert not circuits.set("too much", 90, 5.0)
    assert "too much" not in circuits
    assert circuits.deadline == pytest.approx(5.85)
    assert circuits.due(5.8) == []
    assert circuits.due(6.0) == [("fast", 2), ("slow", 1)]
    assert circuits.deadline == pytest.approx(6.05)
    circuits.remove("fast")
    assert circuits.deadline == pytest.approx(7.0)
    assert circuits.rate == 1
