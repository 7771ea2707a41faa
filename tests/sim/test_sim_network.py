"""The simulated network: the same for the same seed, loses nothing, takes the time that its links say."""

from __future__ import annotations

from random import Random
from statistics import fmean

import pytest
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.timed import TimedMixing
from phantomband_cli.sim.events import Events
from phantomband_cli.sim.network import Network, Outcome, Scenario, Strategies
from phantomband_cli.sim.wire import Shape, Wire

SMALL = Scenario(flows=6, seconds=10.0, nodes=4)
INTERVAL = 0.2


def none(random: object) -> NoMixing:
    return NoMixing()


def timed(interval: float) -> Strategies:
    return lambda random: TimedMixing(interval, 131_072, random)


@pytest.fixture(scope="module")
def control() -> Outcome:
    return Network(SMALL, none, 1).run()


@pytest.mark.parametrize("strategies", [none, timed(INTERVAL)])
def test_the_same_seed_gives_the_same_run(strategies: Strategies) -> None:
    assert Network(SMALL, strategies, 7).run() == Network(SMALL, strategies, 7).run()


def test_another_seed_gives_another_run(control: Outcome) -> None:
    assert Network(SMALL, none, 2).run() != control


@pytest.mark.parametrize("interval", [0.01, 0.3, 2.0])
def test_every_byte_arrives_through_mixing(interval: float) -> None:
    network = Network(SMALL, timed(interval), 3)
    assert network.run().whole == SMALL.flows
    assert all(node.mixer.strategy.held == 0 for node in network.nodes)
    assert all(node.machine.counters.malformed == node.machine.counters.stray == 0 for node in network.nodes)


def test_every_byte_arrives_without_mixing(control: Outcome) -> None:
    assert control.whole == SMALL.flows
    assert control.payload_bytes > 0


def test_a_flow_that_loses_bytes_is_noticed() -> None:
    network = Network(SMALL, none, 1)
    network.flows[0].sent.add(b"never sent")
    assert network.run().whole == SMALL.flows - 1


def test_the_watcher_sees_what_was_carried(control: Outcome) -> None:
    """Clients ask little and get much; each direction of a client's link carries the server's bytes and more."""
    for client, server in zip(control.clients, control.servers):
        assert sum(n for _, n in client.up) > sum(n for _, n in server.up)
        assert all(0 <= when < SMALL.seconds for when, _ in client.up + client.down + server.up + server.down)
    assert control.backbone


def test_timed_mixing_delays_a_page_by_five_half_intervals() -> None:
    """A request is held at guard and middle, its answer at exit, middle and guard, each for interval / 2 on average."""
    calm = Scenario(flows=15, seconds=30.0)
    before = Network(calm, none, 1).run().first_bytes
    after = Network(calm, timed(INTERVAL), 1).run().first_bytes
    # The sum of five uniform delays has a deviation of interval x sqrt(5 / 12); pages wait 0.05 s or so of their own.
    error = 4 * (INTERVAL**2 * 5 / 12 + 2 * 0.06**2) ** 0.5 / min(len(before), len(after)) ** 0.5
    assert fmean(after) - fmean(before) == pytest.approx(2.5 * INTERVAL, abs=error)


def test_a_wire_takes_the_time_of_its_rate_and_delay_and_keeps_order() -> None:
    events = Events()
    got: list[tuple[float, bytes]] = []
    wire = Wire(events, Shape(0.1, 0.05, 1000.0), Random(1), lambda data: got.append((events.now, data)))
    for i in range(20):
        wire.send(bytes([i]), 10)
    events.run(10.0, lambda: False)
    assert [data for _, data in got] == [bytes([i]) for i in range(20)]
    assert [when for when, _ in wire.trace] == pytest.approx([0.01 * (i + 1) for i in range(20)])
    assert all(0.1 <= when - left <= 0.15 + 1e-9 for (when, _), (left, _) in zip(got, wire.trace))


def test_a_wire_sends_again_what_it_lost_and_keeps_order() -> None:
    """With half of all writes lost each time, one takes a further round trip on average."""
    events = Events()
    got: list[tuple[float, int]] = []
    wire = Wire(events, Shape(0.1, 0.0, 1e9, loss=0.5), Random(1), lambda data: got.append((events.now, data[0])))
    for i in range(200):
        events.at(i * 10.0, lambda i=i: wire.send(bytes([i]), 1))
    events.run(1e9, lambda: False)
    assert [number for _, number in got] == list(range(200))
    late = [when - 10.0 * number - 0.1 for when, number in got]
    assert fmean(late) == pytest.approx(0.2, abs=4 * 0.28 / 200**0.5)


def test_links_differ_by_the_spread_and_lose_nothing_in_the_end() -> None:
    scenario = Scenario.of(4, 5.0, 4, 0.05, 0.5)
    network = Network(scenario, none, 1)
    assert network.run().whole == 4
    delays = [Shape(0.1, 0.0, 1.0).varied(0.5, Random(i)).delay for i in range(50)]
    assert min(delays) >= 0.05
    assert max(delays) <= 0.15
    assert max(delays) - min(delays) > 0.05
