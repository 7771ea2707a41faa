"""Nothing that leaves a client of the paced profile, or when, depends on whether streams are open."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from guard_node import KEY, BySize, GuardNode
from phantomband.core.cell import Command
from phantomband.core.netdir.measures import Measures
from phantomband.core.profiles import STRONG
from phantomband.core.stream.messages import target
from phantomband.runtime.contained import Contained
from phantomband.runtime.settings import ClientConfig
from phantomband.transports.base import Address
from phantomband_client.choice.chooser import Entrance, MakeLink
from phantomband_client.choice.watch import ASK_SECONDS
from phantomband_client.guard_health import GuardHealth
from phantomband_client.guard_link import GuardLink
from phantomband_client.managed import Isolation
from phantomband_client.session import Session
from phantomband_client.troubles import Troubles
from virtual import run_virtual
from world import NETWORK_ID, Recorder

SECONDS = 40.0


class Net:
    """The client around a session of `strong`, and its guard."""

    def __init__(self, folder: Path) -> None:
        self.config = ClientConfig(genesis=folder / "g", data_dir=folder)
        self.bridges, self.genesis = (), SimpleNamespace(network_id=NETWORK_ID)
        self.random, self.measures = BySize(1), Measures()
        self.health, self.troubles, self.contained = GuardHealth(), Troubles(), Contained()
        self.guard = GuardNode()
        self.transports, self.memory = ("pipe",), SimpleNamespace(failed=lambda name: None)
        self.session = Session(self, STRONG, lambda: None)  # type: ignore[arg-type]
        here: Any = self.session
        here._check_strength = lambda view: None
        here._entrances = lambda view: [Entrance(self.guard.node_id, KEY.public, ())]
        here.choose = lambda *_: self.guard.path()

    @property
    def chooser(self) -> Any:
        return self

    def require_view(self) -> Any:
        return None

    def connected(self) -> None: ...

    def note(self, transport: str, what: str) -> None: ...

    async def dial(self, entrances: list[Entrance], make: MakeLink, avoid: frozenset[str]) -> GuardLink:
        link = make(self.guard.node_id)
        await link.dial(NETWORK_ID, KEY.public, Address("pipe", "192.0.2.1", 1), self.guard)
        return link


async def browse(net: Net, user: bytes, pause: float) -> int:
    """Pages one after the other, each over a connection of its own that is closed; returns how many came back."""
    came = 0
    while True:
        await asyncio.sleep(pause)
        isolation: Isolation = ("socks", user, b"", "example.net", 443)
        managed = await net.session.pool.get(isolation, target("example.net", 443))
        assert managed.circuit is not None
        page = Recorder()
        stream = managed.circuit.endpoint.open(target("example.net", 443), page)
        stream.write(b"x" * 5000)
        await asyncio.sleep(2.0)
        came += len(page.received) == 5000
        stream.finish()
        if asyncio.get_running_loop().time() > 1000 + SECONDS - pause - 2:
            return came


def watched(folder: Path, *, busy: bool) -> GuardNode:
    """What the guard saw of one session."""

    async def main() -> GuardNode:
        net = Net(folder)
        async with asyncio.TaskGroup() as tasks:
            always = [tasks.create_task(net.session.tend()), tasks.create_task(net.session.pool.keep_ready())]
            users = [(b"alice", 1.5), (b"bob", 2.3)] if busy else []
            pages = [tasks.create_task(browse(net, user, pause)) for user, pause in users]
            await asyncio.sleep(SECONDS)
            for task in always:
                task.cancel()
            for page in pages:
                assert await page >= 7, "the busy session was busy"
        for link in net.session.links:
            link.close()
        return net.guard

    return run_virtual(main())


def test_an_idle_and_a_busy_session_send_the_same_at_the_same_times(tmp_path: Path) -> None:
    idle, busy = watched(tmp_path, busy=False), watched(tmp_path, busy=True)
    assert busy.asked == idle.asked
    assert len(idle.asked) >= SECONDS // ASK_SECONDS - 1

    def events(guard: GuardNode) -> list[tuple[float, bytes, int]]:
        return [cell for cell in guard.cells if cell[2] != Command.RELAY]

    assert events(busy) == events(idle)
    assert {command for _, _, command in idle.cells} == {Command.CREATE, Command.RELAY}
    assert busy.cells == idle.cells
    assert busy.writes == idle.writes
