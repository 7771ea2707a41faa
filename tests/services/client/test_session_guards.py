"""Which guard a session uses: the first of its sample that answers, and the first again when it is back."""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from phantomband.core.bridge_line import BridgeLine
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.view import View
from phantomband.core.profiles import FAST
from phantomband.runtime.contained import Contained
from phantomband.runtime.settings import ClientConfig
from phantomband.runtime.state_files import StateFiles
from phantomband.transports.managed.program import ProgramFailed
from phantomband_client.choice.chooser import Entrance, MakeLink
from phantomband_client.guard_health import REFUSALS, REFUSED_SECONDS, GuardHealth
from phantomband_client.guard_link import GuardLink
from phantomband_client.guards import Retries, StoredGuards
from phantomband_client.session import GUARDS, TEND_SECONDS, Session
from phantomband_client.troubles import Troubles
from phantomband_client.unlisted import Unlisted
from virtual import run_virtual
from world import Seeded

MAKE: Any = runpy.run_path(str(Path(__file__).parents[2] / "core" / "netdir" / "conftest.py"))["World"]()
GENESIS = MAKE.genesis(4)
RELAYS = [MAKE.entry(i, flags=7, addresses=(NodeAddress("tls", f"10.{i}.0.1", 443),)) for i in range(12)]
VIEW = MAKE.view(GENESIS, RELAYS)


class Net:
    """The client around a session: dials succeed but to those that are down."""

    def __init__(self, folder: Path, bridges: tuple[BridgeLine, ...] = ()) -> None:
        self.config = ClientConfig(genesis=folder / "g", data_dir=folder)
        self.bridges, self.genesis = bridges, GENESIS
        self.random, self.measures = Seeded(1), Measures()
        self.health, self.troubles, self.contained = GuardHealth(), Troubles(), Contained()
        self.guards = StoredGuards(StateFiles(folder), lambda: 1e9, self.random)
        self.view: View = VIEW
        self.transports = ("tls",)
        self.unlisted = Unlisted(GENESIS.network_id, frozenset(b.node_id for b in bridges), lambda: 1e9)
        self.down: set[NodeId] = set()
        self.dialled: list[NodeId] = []
        self.closed: list[NodeId] = []
        self.session = Session(self, FAST, lambda: None)

    def require_view(self) -> View:
        return self.view

    def connected(self) -> None:
        pass

    @property
    def chooser(self) -> Any:
        return self

    async def dial(self, entrances: list[Entrance], make: MakeLink, avoid: frozenset[str]) -> GuardLink:
        (entrance,) = entrances
        self.dialled.append(entrance.node_id)
        if entrance.node_id in self.down:
            raise Refused("down")
        link = make(entrance.node_id)
        link.up = True
        link.close = lambda: self.closed.append(link.node_id)  # type: ignore[method-assign]
        return link

    async def guard(self) -> NodeId:
        return (await self.session.guard()).node_id

    def lose(self) -> None:
        link = self.session.link
        assert link is not None
        link.up = False
        self.session._lost(link)

    def sample(self) -> list[NodeId]:
        return [guard.node_id for guard in self.guards.load()]


def run(tmp_path: Path, test: Callable[[Net], Coroutine[Any, Any, None]], bridges: tuple[BridgeLine, ...] = ()) -> None:
    async def main() -> None:
        await test(Net(tmp_path, bridges))

    run_virtual(main())


def test_the_first_of_three_is_used_again_and_again(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        first = await net.guard()
        assert net.sample()[0] == first
        assert len(net.sample()) == GUARDS
        for _ in range(5):
            net.lose()
            assert await net.guard() == first
        assert set(net.dialled) == {first}

    run(tmp_path, test)


def test_guards_that_are_down_are_not_replaced_however_often_they_fail(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        await net.guard()
        sample = net.sample()
        net.lose()
        net.down = set(sample)
        for _ in range(50):
            with pytest.raises(Refused):
                await net.guard()
            await asyncio.sleep(120)
        assert net.sample() == sample
        assert set(net.dialled) == set(sample)
        net.down = set(sample[:2])
        assert await net.guard() == sample[2]

    run(tmp_path, test)


def test_one_that_is_out_of_the_view_is_stood_in_for_and_comes_back_first(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        first = await net.guard()
        net.lose()
        net.view = MAKE.view(GENESIS, [entry for entry in RELAYS if entry.node_id != first])
        second = await net.guard()
        assert second == net.sample()[1]
        assert len(net.sample()) == GUARDS + 1
        net.lose()
        net.view = VIEW
        assert await net.guard() == first
        assert len(net.sample()) == GUARDS + 1

    run(tmp_path, test)


def test_the_session_goes_back_to_the_first_when_it_is_there_again(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        first = await net.guard()
        net.lose()
        net.down = {first}
        second = await net.guard()
        assert second != first
        async with asyncio.TaskGroup() as tasks:
            tending = tasks.create_task(net.session.tend())
            await asyncio.sleep(3600)
            assert net.dialled.count(first) < 15, "tried again, later and later"
            assert await net.guard() == second
            net.down.clear()
            await asyncio.sleep(Retries.LAST_SECONDS + TEND_SECONDS)
            assert await net.guard() == first
            await asyncio.sleep(TEND_SECONDS)
            assert net.closed == [second], "it had no circuits left"
            tending.cancel()

    run(tmp_path, test)


def test_streams_keep_the_link_that_is_left(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        first = await net.guard()
        net.lose()
        net.down = {first}
        second = await net.session.guard()
        circuit: Any = SimpleNamespace(endpoint=SimpleNamespace(streams={}))
        second.circuits[b"1"] = circuit
        net.down.clear()
        async with asyncio.TaskGroup() as tasks:
            tending = tasks.create_task(net.session.tend())
            await asyncio.sleep(60)
            assert await net.guard() == first
            assert net.closed == []
            second.circuits.clear()
            await asyncio.sleep(TEND_SECONDS)
            assert net.closed == [second.node_id]
            tending.cancel()

    run(tmp_path, test)


def bridge(entry: Any, port: int = 8443) -> BridgeLine:
    address = NodeAddress("quic", "192.0.2.7", port)
    return BridgeLine(address, entry.node_id, entry.link_key, GENESIS.network_id)


def test_bridges_are_the_guards_and_nobody_else_is(tmp_path: Path) -> None:
    one, two = bridge(RELAYS[4]), bridge(RELAYS[7])

    async def test(net: Net) -> None:
        assert await net.guard() == one.node_id
        net.lose()
        net.down = {one.node_id}
        assert await net.guard() == two.node_id
        net.lose()
        net.down.add(two.node_id)
        for _ in range(20):
            with pytest.raises(Refused):
                await net.guard()
            await asyncio.sleep(60)
        assert set(net.dialled) == {one.node_id, two.node_id}
        assert net.sample() == []

    run(tmp_path, test, (one, two))


def test_a_bridge_that_is_not_in_the_view_is_said(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        with pytest.raises(Refused, match="no bridge is in the view"):
            await net.guard()
        assert net.dialled == []

    run(tmp_path, test, (bridge(MAKE.entry(99)),))


def test_what_a_transport_program_says_is_the_trouble(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        async def fail(*_: object) -> GuardLink:
            raise Refused("no way works") from ProgramFailed("no link: the program lyrebird says: broker failure")

        net.dial = fail  # type: ignore[method-assign]
        with pytest.raises(Refused):
            await net.guard()
        assert net.troubles.text == "no guard can be reached: no link: the program lyrebird says: broker failure"

    run(tmp_path, test)


def refuse(net: Net, times: int = REFUSALS) -> None:
    """The guard in use answers no CREATE."""
    link = net.session.link
    assert link is not None
    for _ in range(times):
        net.session.built(link, 0, 3)


def test_a_guard_that_refuses_circuits_is_left_for_the_next_of_the_same_three(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        first = await net.guard()
        sample = net.sample()
        seen = [first]
        for _ in range(30):
            refuse(net)
            seen.append(await net.guard())
        assert list(dict.fromkeys(seen)) == sample
        assert net.sample() == sample, "nobody is drawn for them"
        assert set(net.dialled) == set(sample)
        assert "refused" in net.health.words(asyncio.get_running_loop().time())

    run(tmp_path, test)


def test_the_first_guard_is_first_again_after_its_pause(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        first = await net.guard()
        refuse(net)
        assert await net.guard() != first
        async with asyncio.TaskGroup() as tasks:
            tending = tasks.create_task(net.session.tend())
            await asyncio.sleep(REFUSED_SECONDS[0] + 2 * TEND_SECONDS)
            assert await net.guard() == first
            tending.cancel()

    run(tmp_path, test)


def test_when_no_other_of_the_sample_answers_the_guard_that_refuses_is_kept(tmp_path: Path) -> None:
    async def test(net: Net) -> None:
        first = await net.guard()
        net.down = set(net.sample()[1:])
        refuse(net)
        for _ in range(5):
            assert await net.guard() == first
        assert net.dialled.count(first) == 1, "the link that is there is used on"
        assert net.closed == []

    run(tmp_path, test)
