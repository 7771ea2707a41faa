"""The client's circuits: built ahead, given to streams by isolation, replaced when they break, retired when old.

Streams of different SOCKS credentials, destinations or ports never share a circuit: whom a circuit is for is said
before its first cell leaves, or when one that was built for nobody is taken, and never changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed, Refused
from phantomband.core.handshake.ntor import RelayKeys
from phantomband.core.ids import NodeId
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.path import NoExitAllows
from phantomband.core.netdir.view import ViewEntry
from phantomband.core.profiles import FAST, Profile, mean_delay
from phantomband.core.stream.messages import EndReason, Target
from phantomband.runtime.shared import SharedAttempts

from phantomband_client.exits import BusyExits
from phantomband_client.guard_link import GuardLink
from phantomband_client.managed import Isolation, Managed
from phantomband_client.turns import Turns

BUILD_SECONDS = 10.0
"""A circuit that is not built by then is given up."""

SWEEP_SECONDS = 1.0
"""How often circuits that are over are looked for."""

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

    def built(self, guard: GuardLink, answered: int, hops: int) -> None:
        """A circuit of `hops` relays through `guard` was built, or failed after `answered` of them had answered."""

    def collapsed(self, guard: GuardLink, path: Sequence[ViewEntry]) -> None:
        """A circuit over `path` that had been built was ended by the network."""

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
        self._turns = Turns(profile, ready, lifetime, random)
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._kick = asyncio.Event()
        self._busy = BusyExits()
        self._identity = 0
        """Raised by `new_identity`: attempts from before are not for streams from after."""
        self._spare: asyncio.Future[None] = self._loop.create_future()
        """Done when a circuit built ahead can be taken; fails when building one has failed."""
        self.building: SharedAttempts[tuple[int, Isolation], Managed] = SharedAttempts()

    # ---- for streams ---------------------------------------------------------------------------------------------

    async def get(self, isolation: Isolation, target: Target) -> Managed:
        """An open circuit for this isolation and target; built now if none is ready.

        Raises:
            Refused: none could be built.
        """
        address = None if target.is_name else target.host
        if not self.profile.by_destination:
            isolation = (*isolation[:3], "", 0)
        while True:
            found = self._found(isolation, target.port, address)
            if found is not None:
                return self._used(found)
            own = _Attempt(self, isolation, target.port, address)
            managed = await self.building.get((self._identity, isolation), own.run)
            if not managed.open:
                raise Refused("the circuit broke")
            if own.begun or managed.serves(target.port, address):
                return managed
            # Another stream of this isolation asked for it, and its exit does not suit our target.

    def _found(self, isolation: Isolation, port: int, address: str | None) -> Managed | None:
        """A circuit that is there for this isolation."""
        now = self._loop.time()
        for managed in self.circuits.values():
            usable = managed.isolation == isolation and managed.open and self._turns.fresh(managed, now)
            if usable and managed.has_room and managed.serves(port, address):
                return managed
        return None

    async def provide(self, isolation: Isolation, port: int, address: str | None) -> Managed:
        """One that was built ahead, or a new one, for this isolation and none else."""
        while True:
            now = self._loop.time()
            busy = self._busy.of(isolation, now)
            for managed in self.circuits.values():
                spare = managed.isolation is None and managed.open and self._turns.fresh(managed, now)
                if spare and managed.path[-1].node_id not in busy and managed.serves(port, address):
                    managed.isolation = isolation
                    self._kick.set()
                    return self._used(managed)
            if not (self._turns.planned and (self._turns.lacking(self.circuits.values()) or self._coming())):
                return self._used(await self._build(port, address, isolation))
            await asyncio.shield(self._spare)  # built as the plan says, not because a stream waits

    def _coming(self) -> bool:
        """Whether a circuit is being built for nobody."""
        return any(m.isolation is None and not m.usable and not m.retired for m in self.circuits.values())

    def _used(self, managed: Managed) -> Managed:
        managed.last_used = self._loop.time()
        if managed.first_used is None:
            managed.first_used = managed.last_used
        return managed

    def exit_failed(self, managed: Managed, reason: EndReason) -> None:
        """Its exit did not serve a stream, for a reason that another exit may not have.

        Paced circuits stay when a name did not resolve: a mistyped name must not show as a new circuit.
        """
        if reason is EndReason.RESOLVE_FAILED and self._turns.planned:
            return
        self._turns.retire(managed, self._loop.time())
        if reason is EndReason.RESOURCE and managed.isolation is not None:  # its new circuits end elsewhere for a while
            self._busy.refused(managed.isolation, managed.path[-1].node_id, self._loop.time())

    def _choose(
        self, guard: GuardLink, port: int, address: str | None, isolation: Isolation | None
    ) -> tuple[ViewEntry, ...]:
        busy = self._busy.of(isolation, self._loop.time())
        if not busy:
            return self._paths.choose(guard, port, address, frozenset())
        try:
            return self._paths.choose(guard, port, address, busy)
        except Refused:
            self._paths.choose(guard, port, address, frozenset())
            raise ExitsBusy("every exit that allows this target has no room now") from None

    def leave(self, guard: GuardLink) -> None:
        """No new streams for the circuits through this link: there is a better one. Those that are being built end: who
        waits for one must not wait for a link that may be dead."""
        for managed in list(self.circuits.values()):
            if managed.guard is guard and not managed.usable:
                managed.end()
            elif managed.guard is guard and not managed.retired:
                self._turns.retire(managed, self._loop.time(), soon=True)  # the new link shows that it was left
        self._kick.set()

    def new_identity(self) -> int:
        """Takes all circuits away from new streams; returns how many."""
        count = 0
        self._identity += 1
        for managed in list(self.circuits.values()):
            if not managed.retired:
                self._turns.retire(managed, self._loop.time(), soon=True)
                count += 1
        self._sweep(self._loop.time())
        self._kick.set()
        return count

    # ---- building ------------------------------------------------------------------------------------------------

    async def _build(self, port: int, address: str | None, isolation: Isolation | None = None) -> Managed:
        """Args: isolation: whom it is for; None: it is built ahead, for whoever comes first."""
        self._make_room()
        guard = await self._paths.guard()
        path = self._choose(guard, port, address, isolation)
        self._number += 1
        managed = Managed(path, guard, self._number, self._loop.time(), isolation)
        self._turns.born(managed)
        keys = [RelayKeys(e.node_id, e.onion_key) for e in path]
        circuit = ClientCircuit(
            guard.out, guard.new_circuit_id(), keys, self._paths.network_id, self._random, self,
            mixing=self._waits(path),
        )  # fmt: skip
        circuit.endpoint.wake = lambda: guard.touch(circuit)
        managed.circuit = circuit
        self.circuits[circuit] = managed
        guard.circuits[circuit.id] = circuit
        try:
            circuit.start()
        except Malformed as e:  # the guard's key cannot be used: as if it had refused
            circuit.lost()
            raise Refused(f"the guard's onion key cannot be used: {e}") from e
        try:
            async with asyncio.timeout(BUILD_SECONDS + self._waits(path)):
                await managed.built
        except BaseException as e:
            answered = circuit.answered
            managed.end()
            if isinstance(e, TimeoutError):
                self.failed += 1
                self._paths.built(guard, answered, len(path))
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
        yielding = self._turns.yielding(self.circuits.values(), self._loop.time())
        if yielding is None:
            raise Refused(f"all {most} circuits are in use")
        yielding.end()

    async def keep_ready(self) -> None:
        """Keeps circuits built ahead, until cancelled; those that serve a stream are not counted."""
        delay, sweep = 0.1, self._loop.time() + SWEEP_SECONDS
        while True:
            self._kick.clear()
            now = self._loop.time()
            if now >= sweep:  # at even times, whatever woke us meanwhile: it says when circuits end
                sweep += SWEEP_SECONDS * (1 + (now - sweep) // SWEEP_SECONDS)
                self._sweep(now)
            if self._turns.lacking(self.circuits.values()):
                await asyncio.sleep(self._turns.ahead(self.circuits.values()))
                try:
                    await self._build_ahead()
                    delay = 0.1
                except Refused as e:
                    self._tell(e)
                    delay = min(2 * delay, 5.0)
                    await asyncio.sleep(delay)
                except Exception:
                    self._tell(Refused("no circuit can be built"))
                    raise
                continue
            try:
                async with asyncio.timeout_at(sweep):
                    await self._kick.wait()
            except TimeoutError:
                pass

    def _tell(self, problem: Refused | None = None) -> None:
        """Wakes the streams that wait for a circuit built ahead."""
        told, self._spare = self._spare, self._loop.create_future()
        if problem is None:
            told.set_result(None)
        else:
            told.set_exception(problem)
            told.exception()  # nobody may be waiting

    async def _build_ahead(self) -> None:
        """To an exit that most streams can use, or, where no exit allows the common port, to any."""
        try:
            await self._build(COMMON_PORT, None)
        except NoExitAllows:
            await self._build(ANY_PORT, None)

    def _sweep(self, now: float) -> None:
        """Closes those that are over."""
        for managed in list(self.circuits.values()):
            if managed.streams:
                managed.last_used = now
            if managed.open and self._turns.over(managed, now):
                managed.end()

    # ---- CircuitWatcher ------------------------------------------------------------------------------------------

    def circuit_open(self, circuit: ClientCircuit) -> None:
        self._paths.built(self.circuits[circuit].guard, circuit.answered, len(circuit.path))
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
            managed.end()
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
        if managed.isolation is None:
            self._tell()
        self._changed()

    def circuit_gone(self, circuit: ClientCircuit) -> None:
        managed = self.circuits.pop(circuit, None)
        if managed is None:
            return
        managed.guard.forget(circuit)
        if managed.guard.up and not managed.guard.resetting and not managed.ours:
            if managed.usable:
                self._paths.collapsed(managed.guard, managed.path)
            elif circuit.answered < len(circuit.path):
                self._paths.built(managed.guard, circuit.answered, len(circuit.path))
        if circuit.loops.out:
            self.measures.loops_lost([e.node_id for e in managed.path], circuit.loops.out)
        if not managed.built.done():
            self.failed += 1
            managed.built.set_exception(Refused("the circuit could not be built"))
            managed.built.exception()
        self._kick.set()
        self._changed()


class _Attempt:
    """One stream's attempt to get a circuit, which others of its isolation may come to share."""

    def __init__(self, pool: CircuitPool, isolation: Isolation, port: int, address: str | None) -> None:
        self.begun = False
        self._pool, self._wanted = pool, (isolation, port, address)

    async def run(self) -> Managed:
        self.begun = True
        return await self._pool.provide(*self._wanted)
