"""A pool of circuits over an in-memory world of relays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.errors import Refused
from phantomband.core.ids import CircuitId, NodeId
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.core.profiles import FAST, Profile
from phantomband.core.stream.messages import target
from phantomband.core.wire import u32
from phantomband_client.circuits import CircuitPool
from phantomband_client.managed import Isolation
from virtual import run_virtual
from world import World

WEB = target("example.net", 443)


def isolation(user: bytes = b"", host: str = "example.net", port: int = 443) -> Isolation:
    return ("socks", user, b"", host, port)


class Guard:
    """The guard's link of an in-memory world; cells move in the loop's next turn."""

    def __init__(self, world: World) -> None:
        self.world, self.circuits, self.out = world, world.circuits, world.out
        self.held = False
        self.up, self.resetting = True, False
        self._last = 0
        self.paced: list[int] = []

    def new_circuit_id(self) -> CircuitId:
        self._last += 1
        self.touch(None)
        return CircuitId(u32(self._last))

    def forget(self, circuit: ClientCircuit) -> None:
        self.circuits.pop(circuit.id, None)

    def pace(self, circuit: ClientCircuit, rate: int) -> None:
        self.paced.append(rate)

    def touch(self, circuit: ClientCircuit | None) -> None:
        if not self.held:
            asyncio.get_running_loop().call_soon(self.world.run)


class Rig:
    def __init__(
        self, ready: int = 0, policy: tuple[str, ...] = ("accept *:*",), lifetime: float = 600.0,
        profile: Profile = FAST, limits: RelayLimits | None = None,
    ) -> None:  # fmt: skip
        self.world = World(limits=limits)
        self.guard_link = Guard(self.world)
        self.network_id = bytes(range(32))
        self.policy = ExitPolicy.parse(policy)
        self.mix = "none"
        self.asked: list[tuple[int, str | None]] = []
        self.refuse = False
        self.changes = 0
        self.outcomes: list[int] = []
        """Relays that had answered when a circuit was built, or failed; -1: one that collapsed."""
        self.pool = CircuitPool(
            self,  # type: ignore[arg-type]
            self.world.random, ready, lifetime, self._changed, profile,
        )  # fmt: skip

    def _changed(self) -> None:
        self.changes += 1

    def built(self, guard: Any, answered: int, hops: int) -> None:
        self.outcomes.append(answered)

    def collapsed(self, guard: Any, path: Any) -> None:
        self.outcomes.append(-1)

    async def guard(self) -> Any:
        if self.refuse:
            raise Refused("no guard")
        return self.guard_link

    def choose(self, guard: Any, port: int, address: str | None, exclude: frozenset[NodeId]) -> Any:
        self.asked.append((port, address))
        if list(self.world.relays.values())[-1].node_id in exclude:
            raise Refused("the only exit is excluded")
        return tuple(
            SimpleNamespace(node_id=r.node_id, onion_key=r.key.public, policy=self.policy, mix=self.mix, padding="off")
            for r in self.world.relays.values()
        )


def run(test: Callable[[Rig], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        await test(Rig(**options))

    run_virtual(main())


async def idle(rig: Rig, seconds: float) -> None:
    """Lets `keep_ready` work for a while."""
    task = asyncio.ensure_future(rig.pool.keep_ready())
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
