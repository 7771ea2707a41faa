"""Places of the gateway's tables are shared by source and transport: a flood costs itself, not the others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fakes import FakeConnection
from links_rig import ME, MY_KEY, NETWORK, Rig, run
from phantomband.core.link import dial
from phantomband_gateway.sources import NOWHERE, SourceNumbers, crowded, source_of
from world import Seeded

FLOOD, HONEST = bytes((192, 0, 2, 66)), bytes((198, 51, 100, 1))


class From(FakeConnection):
    def __init__(self, ip: bytes) -> None:
        super().__init__()
        self._ip = ip

    @property
    def peer_ip(self) -> bytes:
        return self._ip


def come(rig: Rig, ip: bytes, transport: str = "tcp", seed: int = 0) -> From:
    """A connection; with a seed its handshake is done at once."""
    connection = From(ip)
    receiver = rig.links.accept(connection, transport)
    if seed and connection.ended is None:
        machine = dial(NETWORK, ME, MY_KEY.public, None, Seeded(seed))
        receiver.received(machine.start())
        for event in machine.receive(connection.take()):
            if hasattr(event, "data"):
                receiver.received(event.data)
    return connection


@pytest.mark.parametrize("same", [True, False])
def test_silent_connections_never_shut_others_out(same: bool) -> None:
    """Not even from their own network: a handshake takes one round trip, they take for ever."""

    async def test(rig: Rig) -> None:
        flood = [come(rig, FLOOD) for _ in range(20)]
        assert len(rig.links.shaking) == 3
        assert come(rig, FLOOD if same else HONEST, seed=5).ended is None
        assert len(rig.links.by_id) == 1
        assert [c.ended for c in flood[-2:]] == [None, None], "the oldest give way"
        assert rig.links.evicted == 18

    run(test, max_links=30)


def test_a_flood_of_one_source_takes_no_place_from_another_that_shakes_hands() -> None:
    async def test(rig: Rig) -> None:
        slow = come(rig, HONEST)
        for _ in range(20):
            come(rig, FLOOD)
        assert slow.ended is None

    run(test, max_links=30)


def test_a_flood_on_one_transport_takes_no_place_of_another() -> None:
    """From many networks, each with one connection."""

    async def test(rig: Rig) -> None:
        slow = come(rig, HONEST, "tls")
        for i in range(20):
            come(rig, bytes((203, 0, i, 1)), "tcp")
        assert slow.ended is None

    run(test, max_links=30)


def test_one_source_cannot_take_every_link() -> None:
    async def test(rig: Rig) -> None:
        flood = [come(rig, FLOOD, seed=i + 1) for i in range(6)]
        assert [c.ended for c in flood] == [None] * 4 + ["abort"] * 2, "one of its own gives way to no other of its own"
        honest = come(rig, HONEST, seed=7)
        assert honest.ended is None
        assert [c.ended for c in flood].count("abort") == 3
        for seed in range(10, 20):
            come(rig, FLOOD, seed=seed)
        assert honest.ended is None

    run(test)


def test_of_the_heaviest_source_the_link_gives_way_whose_circuits_are_silent_longest() -> None:
    async def test(rig: Rig) -> None:
        flood = [come(rig, FLOOD, seed=i + 1) for i in range(4)]
        drivers = list(rig.links.by_id.values())
        for at, driver in zip((9.0, 3.0, 7.0, 5.0), drivers, strict=True):
            driver.used = at
        come(rig, HONEST, seed=7)
        assert [c.ended for c in flood] == [None, "abort", None, None]

    run(test)


@pytest.mark.parametrize(
    ("ip", "source"),
    [
        (bytes((192, 0, 2, 66)), bytes((192, 0, 2))),
        (bytes(range(16)), bytes(range(6))),
        (bytes((127, 0, 0, 1)), NOWHERE),
        (bytes(15) + b"\1", NOWHERE),
        (b"", NOWHERE),
        (b"xyz", NOWHERE),
    ],
)
def test_sources_are_networks(ip: bytes, source: bytes) -> None:
    assert source_of(ip) == source


def test_numbers_tell_sources_apart_and_say_nothing_of_addresses() -> None:
    ours, others = SourceNumbers(Seeded(1)), SourceNumbers(Seeded(2))
    assert ours.of(FLOOD) == ours.of(bytes((192, 0, 2, 1))) != ours.of(HONEST)
    assert ours.of(FLOOD) != others.of(FLOOD)
    assert ours.of(b"") == 0


@dataclass(frozen=True)
class At:
    place: tuple[bytes, str]


def test_crowded_of_nobody_is_nobody() -> None:
    assert crowded([]) == []
    one = At((b"a", "tcp"))
    assert crowded([one]) == [one]
