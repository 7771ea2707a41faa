"""Whatever a peer's cell raises in the relay's machine, expected or not, ends that circuit and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from phantomband.core.cell import Command, encode
from phantomband.core.circuit.client import CircuitState
from phantomband.core.circuit.relay_circuit import RelayCircuit
from phantomband.core.errors import Bug, Forged, Malformed, Refused, UserError
from phantomband.core.handshake.ntor import RelayKeys
from phantomband.core.ids import LinkId
from phantomband.core.onion import OWN
from phantomband.core.stream.messages import Message, target
from phantomband.core.stream.messages import encode as message
from world import NETWORK_ID, Recorder, Watcher, World

DECLARED = (Malformed, Forged)
ERRORS = (*DECLARED, Refused, UserError, Bug, KeyError, ZeroDivisionError, OSError)


def failing(error: type[Exception]) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise error("from a peer")

    return fail


class Two:
    """Two circuits of one client through r1 and r2; the first is about to meet an error at r2."""

    def __init__(self) -> None:
        self.world = World(relays=2)
        self.mine, self.other = self.world.built("r1", "r2"), self.world.built("r1", "r2")
        self.machine = self.world.relays["r2"].machine
        (link,) = self.machine._links.values()
        first, _ = (owner for owner in link.owners.values() if owner is not None)
        self.link, self.circuit = link, first

    def check(self, error: type[Exception]) -> None:
        """Mine has ended, the other carries a stream."""
        self.world.run()
        assert self.mine.state is CircuitState.GONE
        recorder = Recorder()
        stream = self.other.endpoint.open(target("192.0.2.1", 80), recorder)
        stream.write(b"still here")
        self.world.run()
        assert recorder.received == b"still here"
        counters = self.machine.counters
        assert (counters.malformed > 0) == (error in DECLARED)
        assert (counters.bugs > 0) == (error not in DECLARED)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["peel", "own", "deliver", "slot", "wrap", "keepalive"])
def test_an_error_in_one_circuit_ends_that_circuit(error: type[Exception], where: str) -> None:
    two = Two()
    circuit: Any = two.circuit
    match where:
        case "peel":
            two.link.circuits[circuit.previous_id] = failing(error)
            two.mine.send_drop(2)
        case "own":
            circuit._own = failing(error)
            two.mine.send_drop(2)
        case "deliver":
            circuit.endpoint.deliver = failing(error)
            two.mine.send_drop(2)
            two.world.run()
        case "slot":
            two.mine.ask_pace(10)
            two.world.run()
            circuit.endpoint.slot = failing(error)
            two.machine.slots(two.world.now + 1)
        case "wrap":
            guard = two.world.relays["r1"].machine
            (link,) = [link for link in guard._links.values() if link.owners and link.dialed]
            link.circuits[next(iter(link.circuits))] = failing(error)
            two.machine = guard
            two.mine.send_loop(2, two.world.now)
        case "keepalive":
            two.mine.endpoint.open(target("192.0.2.1", 80), Recorder())
            two.world.run()
            broken = failing(error)
            with pytest.MonkeyPatch.context() as patch:
                send = RelayCircuit.send
                patch.setattr(RelayCircuit, "send", lambda c, m: broken() if c is circuit else send(c, m))
                two.machine.keepalive()
            two.machine.counters.malformed += error in DECLARED  # nobody sends on a keepalive: any error is ours
            two.machine.counters.bugs -= error in DECLARED
    if where == "deliver" and error in DECLARED:  # handlers raise nothing that a peer is to blame for
        two.machine.counters.malformed, two.machine.counters.bugs = 1, 0
    two.check(error)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_while_a_circuit_is_made_is_answered_with_destroy(error: type[Exception]) -> None:
    world = World(relays=1)
    machine: Any = world.relays["r1"].machine
    acceptor, machine._acceptor = machine._acceptor, failing(error)
    circuit = world.circuit("r1")
    world.run()
    assert circuit.state is CircuitState.GONE
    assert (machine.counters.bugs, machine.circuit_count) == (1, 0)
    machine._acceptor = acceptor
    world.built("r1")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("command", [Command.CREATE, Command.CREATED, Command.DESTROY])
def test_an_error_in_a_command_is_contained(error: type[Exception], command: Command) -> None:
    two = Two()
    machine: Any = two.machine
    parts = {Command.CREATE: (machine._handshakes, "create_untrusted"), Command.CREATED: (machine, "_created")}
    owner, name = parts.get(command, (machine, "_destroyed"))
    setattr(owner, name, failing(error))
    two.world.inject("r1", "r2", encode(two.circuit.previous_id, command))
    two.world.run()
    if command is Command.DESTROY:
        delattr(machine, "_destroyed")
    two.check(error)


@pytest.mark.parametrize("error", ERRORS)
def test_a_handler_that_fails_at_the_end_keeps_no_other_circuit_from_ending(error: type[Exception]) -> None:
    two = Two()
    two.circuit.endpoint.gone = failing(error)  # type: ignore[union-attr, method-assign]
    two.machine.link_down(two.link.id)
    assert (two.machine.circuit_count, two.machine.counters.bugs) == (0, 1)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_the_relays_own_circuit_ends_it_alone(error: type[Exception]) -> None:
    world = World(relays=2)
    machine = world.relays["r1"].machine
    link = world.connect("r1", "r2")
    watcher = Watcher()
    own = machine.start_own(link, [world.relays["r2"].keys], NETWORK_ID, world.random, watcher)
    world.run()
    other = world.built("r1", "r2")
    watcher.circuit_looped = failing(error)  # type: ignore[method-assign]
    own.send_loop(1, world.now)
    world.run()
    assert own.state is CircuitState.GONE
    assert other.state is CircuitState.OPEN
    assert machine.counters.bugs == (error not in DECLARED)


@pytest.mark.parametrize("hops", [1, 2])
def test_a_relays_onion_key_that_cannot_be_used_ends_the_circuit_alone(hops: int) -> None:
    """Small order: the exchange is refused. Whoever certified the key, its reader must not end by it."""
    world = World(relays=2)
    machine = world.relays["r1"].machine
    link = world.connect("r1", "r2")
    bad = RelayKeys(world.relays["r2"].node_id, bytes(32))
    path = [world.relays["r2"].keys, bad][2 - hops :]
    watcher = Watcher()
    own = machine.start_own(link, path, NETWORK_ID, world.random, watcher)
    world.run()
    assert own.state is CircuitState.GONE
    assert watcher.gone == [own]
    machine.end_own(link, own)
    assert machine.counters.bugs == 0
    assert not machine._links[LinkId(link)].own
    circuit = world.built("r1")
    circuit._send(1, [OWN + message(Message.DROP, 0)])
    world.run()
    assert circuit.state is CircuitState.OPEN
    assert not world.relays["r1"].closed_links
