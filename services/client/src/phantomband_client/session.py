"""One profile's link to a guard and its circuits. Each profile in use has a session of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.path import choose_path, weighted_draws
from phantomband.core.netdir.view import Flags, View, ViewEntry
from phantomband.core.profiles import Profile
from phantomband.runtime.settings import ClientConfig
from phantomband.runtime.shared import SharedAttempts

from phantomband_client.circuits import CircuitPool
from phantomband_client.guard_link import GuardLink
from phantomband_client.guards import StoredGuards

GUARDS = 3
"""Guards kept; the first that answers is used."""

_ONE_ATTEMPT = "guard"


class Network(Protocol):
    """What a session needs of the client around it."""

    config: ClientConfig
    genesis: Genesis
    random: RandomSource
    guards: StoredGuards
    measures: Measures
    trouble: str

    def require_view(self) -> View:
        """The view in force. Raises: Refused."""

    async def dial(
        self, node: NodeId, link_key: bytes, addresses: tuple[NodeAddress, ...], link: GuardLink
    ) -> GuardLink:
        """`link`, connected and shaped. Raises: Refused."""

    def connected(self) -> None:
        """A guard is reached."""


class Session:
    """The `Paths` of its circuit pool."""

    def __init__(self, network: Network, profile: Profile, changed: Callable[[], None]) -> None:
        """Args: changed: called when a circuit opened or went."""
        self.profile = profile
        self.network_id = network.genesis.network_id
        config = network.config
        self.pool = CircuitPool(
            self, network.random, config.ready_circuits, config.circuit_lifetime, changed, profile, network.measures
        )
        self.dialing: SharedAttempts[str, GuardLink] = SharedAttempts()
        self.link: GuardLink | None = None
        self._network = network
        self._unreachable: set[NodeId] = set()

    # ---- the guard -----------------------------------------------------------------------------------------------

    async def guard(self) -> GuardLink:
        """The guard's link, dialled if it is down; callers share one attempt."""
        if self.link is not None and self.link.up:
            return self.link
        try:
            return await self.dialing.get(_ONE_ATTEMPT, self._dial_guard)
        except Refused as e:
            self._network.trouble = f"no guard can be reached: {e}"
            raise

    async def _dial_guard(self) -> GuardLink:
        network = self._network
        view = network.require_view()
        self._check_strength(view)
        problem: Refused = Refused("the view has no guard that offers this transport")
        for entry in self._guards(view):
            link = GuardLink(entry.node_id, self._lost, network.random, self.profile, cover=network.config.cover)
            try:
                self.link = await network.dial(entry.node_id, entry.link_key, entry.addresses, link)
            except Refused as e:
                problem = e
                self._unreachable.add(entry.node_id)
                continue
            self._unreachable.clear()
            network.connected()
            return self.link
        self._unreachable.clear()
        raise problem

    def _lost(self, link: GuardLink) -> None:
        """Its circuits are gone already; the pool dials anew when it builds."""
        if link is self.link:
            self.link = None

    def _check_strength(self, view: View) -> None:
        if sum(self.profile.suits(e) for e in view.entries) < self._network.config.hops:
            raise Refused(
                f"too few relays of this network do what the profile {self.profile.name} asks for: at least "
                f"{self.profile.min_delay * 1000:g} ms of mixing and {self.profile.min_padding.name.lower()} padding. "
                "Choose another profile; a weaker path is never taken instead"
            )

    def _guards(self, view: View) -> list[ViewEntry]:
        """Our guards, in order, as far as they fit; new ones are drawn when they run short."""
        config = self._network.config
        only_exit = _only_exit(view) if config.hops > 1 else None

        def fits(entry: ViewEntry) -> bool:
            offers = any(a.transport == config.transport for a in entry.addresses)
            known_bad = entry.node_id in self._unreachable or entry.node_id == only_exit
            return offers and entry.has(Flags.GUARD) and not known_bad and self.profile.suits(entry)

        def present(ids: list[NodeId]) -> list[ViewEntry]:
            return [e for i in ids if (e := view.find(i)) is not None and fits(e)]

        others = [e for e in view.entries if fits(e)]
        draws = (e.node_id for e in weighted_draws(others, self._network.random))
        enough = min(GUARDS, len(others))
        return present(self._network.guards.extended(draws, lambda ids: len(present(ids)) >= enough))

    # ---- paths ---------------------------------------------------------------------------------------------------

    def choose(
        self, guard: GuardLink, port: int, address: str | None, exclude: frozenset[NodeId] = frozenset()
    ) -> tuple[ViewEntry, ...]:
        """A path through `guard` to an exit for the target (port 0: any exit, for RESOLVE)."""
        network = self._network
        view = network.require_view()
        weak = frozenset(e.node_id for e in view.entries if not self.profile.suits(e))
        return choose_path(
            view, network.genesis, port, {guard.node_id}, network.random,
            hops=network.config.hops, target_address=address if port else None, exclude=exclude | weak,
        )  # fmt: skip


def _only_exit(view: View) -> NodeId | None:
    """The view's exit if it has only one: as a guard it would leave no path, since no relay stands in one twice."""
    exits = [entry.node_id for entry in view.entries if entry.has(Flags.EXIT)]
    return exits[0] if len(exits) == 1 else None
