"""The client's circuits: built ahead, given to streams by isolation, replaced when they break, retired when old.

Streams of different SOCKS credentials, destinations or ports never share a circuit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused
from phantomband.core.handshake.ntor import RelayKeys
from phantomband.core.ids import NodeId
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.path import NoExitAllows
from phantomband.core.netdir.view import ViewEntry
from phantomband.core.profiles import FAST, Profile, mean_delay
from phantomband.core.stream.messages import Target
from phantomband.runtime.shared import SharedAttempts

from phantomband_client.guard_link import GuardLink
from phantomband_client.managed import Isolation, Managed

BUILD_SECONDS = 10.0
"""A circuit that is not built by then is given up."""

IDLE_SECONDS = 120.0
"""A used circuit without streams is closed after so long."""

AHEAD_SECONDS = 3.0
"""A circuit that replaces one of several ready ones is built within this time."""

SWEEP_SECONDS = 1.0
"""How often retired and idle circuits are looked for."""

BUSY_SECONDS = 10.0
"""An exit that had no room for a stream is not chosen for so long."""

BUILD_RETRIES = 6
"""Circuits tried for one stream before it fails."""

COMMON_PORT = 443
"""Circuits built ahead end at an exit that allows this port."""

ANY_PORT = 0
"""Any exit will do, as for RESOLVE."""


class ExitsBusy(Refused):
    """The exits that could serve a target have no room for another stream now."""


class Paths(Protocol):
    """Who picks paths and holds the guard's link."""

    network_id: bytes

    async def guard(self) -> GuardLink:
        """The guard's link, up. Raises: Refused."""

    def choose(
        self, guard: GuardLink, port: int, address: str | None, exclude: frozenset[NodeId]
    ) -> tuple[ViewEntry, ...]:
        """A path through this guard, without the relays in `exclude`, to an exit for the target. Raises: Refused."""


class CircuitPool:
    """All circuits of the client. It is the watcher of each."""

    def __init__(
        self,
        paths: Paths,
        random: RandomSource,
        ready: int,
        lifetime: float,
        changed: Callable[[], None],
        profile: Profile = FAST,
        measures: Measures | None = None,
    ) -> None:
        """Args:

        ready: circuits kept ahead; at most as many as the profile lets be there beside one that is used.
        changed: called when a circuit opened or went.
        measures: told of the circuits' loops.
        """
        self.circuits: dict[ClientCircuit, Managed] = {}
        self.made = self.failed = 0
        self._paths = paths
        self._random = random
        self.profile = profile
        self.measures = measures or Measures()
        self._ready = min(ready, max(1, profile.max_circuits - 1))
        self._lifetime = lifetime
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._kick = asyncio.Event()
        self._busy: dict[NodeId, float] = {}
        self.building: SharedAttempts[Isolation, Managed] = SharedAttempts()

    # ---- for streams ---------------------------------------------------------------------------------------------

    async def get(self, isolation: Isolation, target: Target) -> Managed:
        """An open circuit for this isolation and target; built now if none is ready.

        Raises:
            Refused: none could be built.
        """
        address = None if target.is_name else target.host
        if not self.profile.by_destination:
            isolation = (*isolation[:3], "", 0)
        for managed in self.circuits.values():
            if (
                managed.isolation == isolation
                and managed.open
                and self._fresh(managed)
                and managed.has_room
                and managed.serves(target.port, address)
            ):
                return self._used(managed, isolation)
        managed = await self.building.get(isolation, lambda: self._provide(isolation, target.port, address))
        if not managed.open:
            raise Refused("the circuit broke")
        return managed

    async def _provide(self, isolation: Isolation, port: int, address: str | None) -> Managed:
        for managed in self.circuits.values():
            if managed.isolation is None and managed.open and not managed.retired and managed.serves(port, address):
                self._kick.set()
                return self._used(managed, isolation)
        return self._used(await self._build(port, address), isolation)

    def _used(self, managed: Managed, isolation: Isolation) -> Managed:
        managed.isolation = isolation
        managed.last_used = self._loop.time()
        if managed.first_used is None:
            managed.first_used = managed.last_used
        return managed

    def _fresh(self, managed: Managed) -> bool:
        young = managed.first_used is None or self._loop.time() - managed.first_used < self._lifetime
        return young and not managed.retired

    def exit_is_busy(self, managed: Managed) -> None:
        """Its exit had no room for a stream: new circuits end elsewhere for a while."""
        managed.retired = True
        self._busy[managed.path[-1].node_id] = self._loop.time() + BUSY_SECONDS

    def _choose(self, guard: GuardLink, port: int, address: str | None) -> tuple[ViewEntry, ...]:
        now = self._loop.time()
        self._busy = {node: until for node, until in self._busy.items() if until > now}
        if not self._busy:
            return self._paths.choose(guard, port, address, frozenset())
        try:
            return self._paths.choose(guard, port, address, frozenset(self._busy))
        except Refused:
            self._paths.choose(guard, port, address, frozenset())
            raise ExitsBusy("every exit that allows this target has no room now") from None

    def leave(self, guard: GuardLink) -> None:
        """No new streams for the circuits through this link: there is a better one."""
        for managed in self.circuits.values():
            managed.retired = managed.retired or managed.guard is guard
        self._kick.set()

    def new_identity(self) -> int:
        """Takes all circuits away from new streams; returns how many."""
        count = 0
        for managed in list(self.circuits.values()):
            if not managed.retired:
                managed.retired = True
                count += 1
        self._sweep(self._loop.time())
        self._kick.set()
        return count

    # ---- building ------------------------------------------------------------------------------------------------

    async def _build(self, port: int, address: str | None) -> Managed:
        self._make_room()
        guard = await self._paths.guard()
        path = self._choose(guard, port, address)
        self._number += 1
        managed = Managed(path, guard, self._number, self._loop.time())
        keys = [RelayKeys(e.node_id, e.onion_key) for e in path]
        circuit = ClientCircuit(
            guard.out, guard.new_circuit_id(), keys, self._paths.network_id, self._random, self,
            mixing=self._waits(path),
        )  # fmt: skip
        circuit.endpoint.wake = lambda: guard.touch(circuit)
        managed.circuit = circuit
        self.circuits[circuit] = managed
        guard.circuits[circuit.id] = circuit
        circuit.start()
        try:
            async with asyncio.timeout(BUILD_SECONDS + self._waits(path)):
                await managed.built
        except BaseException as e:
            circuit.destroy()
            if isinstance(e, TimeoutError):
                self.failed += 1
                raise Refused("the circuit was not built in time") from None
            raise
        return managed

    @staticmethod
    def _waits(path: tuple[ViewEntry, ...]) -> float:
        """Seconds that the mixing of these relays adds to a round trip, as they say."""
        return 2 * sum(mean_delay(relay) for relay in path)

    def _make_room(self) -> None:
        most = self.profile.max_circuits
        if len(self.circuits) < most:
            return
        idle = [m for m in self.circuits.values() if m.open and not m.streams]
        if not idle:
            raise Refused(f"all {most} circuits are in use")
        oldest = min(idle, key=lambda m: m.last_used)
        if oldest.circuit is not None:
            oldest.circuit.destroy()

    async def keep_ready(self) -> None:
        """Keeps circuits built ahead, until cancelled; those that serve a stream are not counted."""
        delay, swept = 0.1, self._loop.time()
        while True:
            self._kick.clear()
            if self._loop.time() - swept >= SWEEP_SECONDS:
                swept = self._loop.time()
                self._sweep(swept)
            spare = sum(m.isolation is None and not m.retired for m in self.circuits.values())
            if spare < self._ready:
                if spare:
                    await asyncio.sleep(self._some_time())
                try:
                    await self._build_ahead()
                    delay = 0.1
                except Refused:
                    delay = min(2 * delay, 5.0)
                    await asyncio.sleep(delay)
                continue
            try:
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._kick.wait()
            except TimeoutError:
                pass

    def _some_time(self) -> float:
        """Circuits are built ahead at random times, so that building one does not tell that another was taken."""
        return AHEAD_SECONDS * int.from_bytes(self._random(4), "big") / 2**32

    async def _build_ahead(self) -> None:
        """To an exit that most streams can use, or, where no exit allows the common port, to any."""
        try:
            await self._build(COMMON_PORT, None)
        except NoExitAllows:
            await self._build(ANY_PORT, None)

    def _sweep(self, now: float) -> None:
        """Closes what is retired, or used and long idle."""
        for managed in list(self.circuits.values()):
            if managed.streams or managed.circuit is None or not managed.open:
                continue
            idle = managed.isolation is not None and now - managed.last_used > IDLE_SECONDS
            if managed.retired or idle or not self._fresh(managed):
                managed.circuit.destroy()

    # ---- CircuitWatcher ------------------------------------------------------------------------------------------

    def circuit_open(self, circuit: ClientCircuit) -> None:
        if self.profile.pace:
            circuit.ask_pace(self.profile.pace)
        else:
            self._usable(self.circuits[circuit])

    def circuit_paced(self, circuit: ClientCircuit) -> None:
        """A circuit whose exit does not keep the pace is not used."""
        managed = self.circuits.get(circuit)
        if managed is None:
            return
        if circuit.pace != self.profile.pace:
            circuit.destroy()
            return
        managed.guard.pace(circuit, self.profile.pace)
        self._usable(managed)

    def circuit_looped(self, circuit: ClientCircuit, hop: int, seconds: float) -> None:
        managed = self.circuits.get(circuit)
        if managed is not None:
            self.measures.loop_returned([e.node_id for e in managed.path[:hop]], seconds)

    def _usable(self, managed: Managed) -> None:
        managed.usable = True
        self.made += 1
        if not managed.built.done():
            managed.built.set_result(None)
        self._changed()

    def circuit_gone(self, circuit: ClientCircuit) -> None:
        managed = self.circuits.pop(circuit, None)
        if managed is None:
            return
        managed.guard.forget(circuit)
        if circuit.loops.out:
            self.measures.loops_lost([e.node_id for e in managed.path], circuit.loops.out)
        if not managed.built.done():
            self.failed += 1
            managed.built.set_exception(Refused("the circuit could not be built"))
            managed.built.exception()
        self._kick.set()
        self._changed()
