"""Clients that extend without end over a link that two relays share refuse no other's circuits there."""

from __future__ import annotations

from phantomband.core.cell import Command
from phantomband.core.circuit.client import CircuitState
from phantomband.core.circuit.relay_types import HandshakeJob, RelayLimits
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.stream.messages import EndReason, target
from world import CLIENT, Recorder, World

LIMITS = RelayLimits(pending_per_link=5, extends_per_link=12)


class Slow:
    """A world whose r2 answers handshakes when told."""

    def __init__(self) -> None:
        self.world = World(relays=2, limits=LIMITS)
        self.relay = self.world.relays["r2"]
        self.jobs: list[HandshakeJob] = []
        self._answer = self.relay.handshake
        self.relay.handshake = self.jobs.append  # type: ignore[method-assign]

    def answer(self, count: int = 1000) -> None:
        while self.jobs and count:
            count -= 1
            self._answer(self.jobs.pop(0))
            self.world.run()


def test_no_more_creates_are_on_the_way_than_the_next_relay_takes_and_all_are_answered() -> None:
    slow = Slow()
    circuits = [slow.world.circuit("r1", "r2") for _ in range(14)]
    slow.world.run()
    assert len(slow.jobs) == 3
    slow.answer()
    assert [c.state for c in circuits] == [CircuitState.OPEN] * 14
    assert slow.relay.machine.counters.circuits_refused == 0
    (link,) = [link for link in slow.world.relays["r1"].machine._links.values() if link.dialed]
    assert (link.creating, link.extends.waiting) == (0, 0)


def test_an_honest_clients_extend_has_its_turn_beside_a_flood() -> None:
    slow = Slow()
    machine = slow.world.relays["r1"].machine
    machine._links[slow.world.client_link].source = "flood"
    flood = [slow.world.circuit("r1", "r2") for _ in range(40)]
    slow.world.run()
    assert sum(c.state is CircuitState.GONE for c in flood) == 40 - 3 - 12
    machine._links[slow.world.client_link].source = "honest"
    honest = slow.world.circuit("r1", "r2")
    slow.world.run()
    assert honest.state is CircuitState.BUILDING
    assert sum(c.state is CircuitState.GONE for c in flood) == 40 - 3 - 12 + 1, "the flood loses one"
    slow.answer(2)
    assert honest.id[-1] == 41
    slow.answer(4)
    assert honest.state is CircuitState.OPEN


def test_places_of_circuits_that_end_while_they_wait_are_free_again() -> None:
    slow = Slow()
    circuits = [slow.world.circuit("r1", "r2") for _ in range(16)]
    slow.world.run()
    for circuit in circuits:
        circuit.destroy()
    slow.world.run()
    again = slow.world.circuit("r1", "r2")
    slow.world.run()
    slow.answer()
    assert again.state is CircuitState.OPEN


def test_a_link_is_asked_for_once_however_many_wait_and_the_wait_is_bounded() -> None:
    """A dial takes up to 12 s: each EXTEND meanwhile cost a call to the gateway, and 1.5 KB until its end."""
    world = World(relays=2, limits=LIMITS)
    relay = world.relays["r1"]
    asked: list[NodeId] = []
    relay.open_link = asked.append  # type: ignore[method-assign]
    relay.machine._links[world.client_link].source = "flood"
    flood = [world.circuit("r1", "r2") for _ in range(30)]
    world.run()
    relay.machine._links[world.client_link].source = "honest"
    honest = world.circuit("r1", "r2")
    world.run()
    assert asked == [world.relays["r2"].node_id]
    assert sum(c.state is CircuitState.GONE for c in flood) == 30 - 12 + 1
    relay.machine.link_ready(asked[0], world.connect("r1", "r2"))
    world.run()
    assert honest.state is CircuitState.OPEN
    world.circuit("r1", "r2")
    world.run()
    assert len(asked) == 2, "for those who come later it is asked again"


def test_when_the_link_goes_down_those_that_wait_die() -> None:
    for what in ("down", "destroy"):
        slow = Slow()
        circuits = [slow.world.circuit("r1", "r2") for _ in range(10)]
        slow.world.run()
        machine = slow.world.relays["r1"].machine
        (link,) = [link for link in machine._links.values() if link.dialed]
        if what == "down":
            machine.link_down(link.id)
        else:
            slow.world.inject("r2", "r1", bytes(4) + bytes((Command.DESTROY,)) + bytes(2043))
        slow.world.run()
        assert {c.state for c in circuits} == {CircuitState.GONE}
        assert machine.circuit_count == 0
        assert (link.extends.waiting, link.creating) == (0, 0)


def test_streams_are_served_from_the_third_hop_on_where_the_network_is_no_test() -> None:
    for hops, served in ((1, False), (2, False), (3, True), (4, True)):
        world = World(relays=4)
        for relay in world.relays.values():
            relay.machine._exit_hop = 3
        circuit = world.built(*[f"r{i + 1}" for i in range(hops)])
        for resolve in (False, True):
            handler = Recorder()
            circuit.endpoint.open(target("192.0.2.1", 0 if resolve else 80), handler, resolve=resolve)
            world.run()
            assert (handler.answers is not None) == served
            assert handler.reason is (EndReason.DONE if served and resolve else None if served else EndReason.POLICY)
        assert circuit.state is CircuitState.OPEN
        assert world._ends[CLIENT, LinkId(world.client_link)] == "r1"
