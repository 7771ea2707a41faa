"""Which way to a node is taken, and what is learnt from it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.runtime.state_files import StateFiles
from phantomband.transports.base import Address
from phantomband_client.choice.chooser import PAUSE_SECONDS, Chooser, Entrance
from phantomband_client.choice.memory import TransportMemory
from virtual import BEGIN, run_virtual
from world import Seeded

NAMES = ("tls", "quic", "obfs4")
FOREVER = 1e6


def entrance(number: int, *names: str) -> Entrance:
    addresses = tuple(NodeAddress(name, f"192.0.2.{number}", 443) for name in names or NAMES)
    return Entrance(NodeId(bytes((number,)) * 32), b"k" * 32, addresses)


class Link:
    """A link whose dial takes as long as its world says."""

    def __init__(self, world: World, node: NodeId) -> None:
        self.world, self.node_id, self.closed, self.transport = world, node, False, ""

    async def dial(self, network_id: bytes, key: bytes, address: Address, transport: Any) -> None:
        self.transport = address.transport
        now = asyncio.get_running_loop().time() - BEGIN
        self.world.dials.append((round(now, 3), address.transport, int(address.host.rpartition(".")[2])))
        seconds = self.world.times.get((address.transport, self.node_id[0]), 0.1)
        if seconds < 0:
            await asyncio.sleep(-seconds)
            raise Refused("refused")
        await asyncio.sleep(seconds)

    def close(self) -> None:
        self.closed = True


class World:
    """Times to connect by (transport, node); negative: refused after so long."""

    def __init__(self, times: dict[tuple[str, int], float]) -> None:
        self.times, self.dials, self.links = times, list[tuple[float, str, int]](), list[Link]()
        memory = TransportMemory(StateFiles(Path("/nowhere")), self.now, lambda salt: "here", Seeded(1))
        self.chooser = Chooser(b"n" * 32, dict.fromkeys(NAMES), memory, self.now)  # type: ignore[arg-type]
        self.time = 1e9

    def now(self) -> float:
        return self.time

    def make(self, node: NodeId) -> Any:
        self.links.append(Link(self, node))
        return self.links[-1]

    def dial(self, *entrances: Entrance, avoid: frozenset[str] = frozenset()) -> Any:
        self.dials = []
        return run_virtual(self.chooser.dial(entrances, self.make, avoid))


def test_the_first_choice_is_dialled_alone_when_it_is_quick() -> None:
    world = World({})
    assert world.dial(entrance(1)).transport == "tls"
    assert world.dials == [(0.0, "tls", 1)]


def test_a_blocked_transport_costs_a_second_and_then_nothing() -> None:
    world = World({("tls", 1): FOREVER})
    assert world.dial(entrance(1)).transport == "quic"
    assert world.dials == [(0.0, "tls", 1), (PAUSE_SECONDS, "quic", 1)]
    assert world.dial(entrance(1)).transport == "quic"
    assert world.dials == [(0.0, "quic", 1)]
    assert [event.transport for event in world.chooser.events] == ["quic", "tls", "quic"]
    assert world.links[0].transport == "tls"


def test_a_node_that_is_down_blames_no_transport() -> None:
    world = World({(name, 1): -0.05 for name in NAMES})
    with pytest.raises(Refused):
        world.dial(entrance(1))
    assert len(world.dials) == 3
    assert world.dial(entrance(2)).transport == "tls"


def test_of_several_nodes_all_are_tried_by_one_transport_first() -> None:
    world = World({("tls", 1): -0.1, ("tls", 2): -0.1, ("tls", 3): -0.1, ("quic", 1): -0.1})
    link = world.dial(*(entrance(i) for i in (1, 2, 3, 4)))
    assert (link.transport, link.node_id[0]) == ("quic", 2)
    assert [(name, node) for _, name, node in world.dials] == [
        ("tls", 1), ("tls", 2), ("tls", 3), ("quic", 1), ("quic", 2),
    ]  # fmt: skip
    assert world.chooser.memory.pausing("tls"), "quic reached a node that tls did not"


def test_the_pause_follows_what_connecting_took_here() -> None:
    world = World({("tls", 1): 0.8})
    world.dial(entrance(1))
    world.times = {("tls", 1): 2.3}
    assert world.dial(entrance(1)).transport == "tls", "2.4 s for itself"
    assert world.dials == [(0.0, "tls", 1)]


def test_what_is_avoided_is_not_dialled() -> None:
    world = World({})
    assert world.dial(entrance(1), avoid=frozenset(("tls",))).transport == "quic"
    with pytest.raises(Refused, match="does not offer"):
        world.dial(entrance(1, "tls"), avoid=frozenset(("tls",)))
    with pytest.raises(Refused, match="does not offer"):
        world.dial(entrance(1, "websocket"))


def test_events_hold_no_address() -> None:
    world = World({("tls", 1): -0.1})
    world.dial(entrance(1))
    assert not any("192.0.2" in event.what for event in world.chooser.events)
