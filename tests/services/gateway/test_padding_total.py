"""What dialers make a gateway pad has a total, and no network takes it from the others."""

from __future__ import annotations

from typing import Any

from fakes import FakeConnection, FakeOwner
from links_rig import ME, MY_KEY, NETWORK, Rig, run
from phantomband.core.link import dial
from phantomband.core.profiles import BALANCED, STRONG
from phantomband.core.shaping import OFF, Mode, Policy, Schedule, Shape
from phantomband.runtime.link_driver import LinkDriver
from phantomband_gateway.paddings import ADAPTIVE_SHARE, Paddings
from world import Seeded

LARGE = Shape(Mode.CONSTANT, Schedule.FIXED, 512)
TOTAL = 8192


class Link:
    """Compared by identity."""

    def __init__(self, source: str) -> None:
        self.source = source


def many(paddings: Paddings, shape: Shape, source: str, count: int) -> int:
    return sum(paddings.take(Link(source), shape, OFF) for _ in range(count))  # type: ignore[arg-type]


def test_links_of_one_network_never_pad_more_than_its_share() -> None:
    paddings = Paddings(TOTAL)
    assert many(paddings, LARGE, "greedy", 30) * LARGE.rate == TOTAL // 4
    assert many(paddings, STRONG.link, "honest", 10) == 10
    assert paddings.rate <= TOTAL


def test_many_networks_together_leave_room_for_those_who_ask_for_little() -> None:
    paddings = Paddings(TOTAL)
    for i in range(20):
        many(paddings, LARGE, f"greedy {i}", 30)
    assert paddings.rate == TOTAL * 3 // 4
    assert many(paddings, STRONG.link, "honest", 1) == 1
    assert many(paddings, BALANCED.link, "honest", 1) == 1
    assert many(paddings, LARGE, "honest", 1) == 0


def test_an_adaptive_link_counts_for_what_it_pads_and_what_links_have_anyway_for_nothing() -> None:
    paddings = Paddings(TOTAL)
    one: Any = Link("a")
    assert paddings.take(one, BALANCED.link, OFF)
    assert paddings.rate == BALANCED.link.rate // ADAPTIVE_SHARE
    assert paddings.take(one, LARGE, LARGE)
    assert paddings.rate == 0


def test_a_dialer_is_answered_with_what_is_done_and_a_closed_link_frees_its_share() -> None:
    async def test(rig: Rig) -> None:
        rig.links.paddings = Paddings(1024)
        shape = Shape(Mode.CONSTANT, Schedule.FIXED, 256)
        listeners: list[Any] = []
        for seed in (5, 6):
            here, there = FakeConnection(), FakeConnection()
            listener: Any = rig.links.accept(there)
            machine = dial(NETWORK, ME, MY_KEY.public, None, Seeded(seed))
            dialer = LinkDriver(machine, FakeOwner(), Seeded(seed), incoming=False).attach(here)
            for _ in range(3):
                listener.received(here.take())
                dialer.received(there.take())
            dialer.shape(OFF, shape)
            listener.received(here.take())
            listeners.append(listener)
        assert [listener.shaped for listener in listeners] == [shape, shape], "their networks are not known: one each"
        assert rig.links.paddings.rate == 512  # type: ignore[attr-defined]
        for listener in listeners:
            listener.closed(None)
        assert rig.links.paddings.rate == 0  # type: ignore[attr-defined]

    run(test, pacing=Policy(OFF, 512))
