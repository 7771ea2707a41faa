"""One profile's link to a guard and its circuits. Each profile in use has a session of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog
from phantomband.core.bridge_line import BridgeLine
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.path import choose_path, weighted_draws
from phantomband.core.netdir.view import Flags, View, ViewEntry
from phantomband.core.profiles import Profile
from phantomband.core.shaping import Mode
from phantomband.runtime.contained import Contained
from phantomband.runtime.settings import ClientConfig
from phantomband.runtime.shared import SharedAttempts

from phantomband_client.choice.chooser import Chooser, Entrance
from phantomband_client.choice.watch import LinkWatch
from phantomband_client.circuits import CircuitPool
from phantomband_client.first_links import of_program
from phantomband_client.guard_health import GuardHealth
from phantomband_client.guard_link import GuardLink
from phantomband_client.guards import Retries, StoredGuards
from phantomband_client.troubles import Troubles
from phantomband_client.unlisted import Unlisted

GUARDS = 3
"""Guards of the sample that are in the view and fit; the first that answers is used."""

TEND_SECONDS = 5.0
"""How often a session looks whether an earlier guard may be tried again, and whether an old link is idle."""

_ONE_ATTEMPT = "guard"


class Network(Protocol):
    """What a session needs of the client around it."""

    config: ClientConfig
    bridges: tuple[BridgeLine, ...]
    genesis: Genesis
    random: RandomSource
    guards: StoredGuards
    measures: Measures
    health: GuardHealth
    contained: Contained
    troubles: Troubles
    chooser: Chooser
    unlisted: Unlisted

    def require_view(self) -> View:
        """The view in force. Raises: Refused."""

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
        self.watch = LinkWatch(self, network.chooser, always=profile.link.mode is not Mode.OFF)
        self._network = network
        self._log = structlog.get_logger()
        self._retries = Retries()
        self._left: list[GuardLink] = []
        """Links to guards that stood in for an earlier one; closed when their last circuit is gone."""

    @property
    def links(self) -> list[GuardLink]:
        """The one in use, and those that older circuits are on."""
        return [link for link in (self.link, *self._left) if link is not None]

    # ---- the guard -----------------------------------------------------------------------------------------------

    async def guard(self) -> GuardLink:
        """The guard's link, dialled if it is down or the guard does not build; callers share one attempt."""
        if self.link is not None and self.link.up and not self._to_be_left(self.link):
            return self.link
        try:
            link = await self.dialing.get(_ONE_ATTEMPT, self._dial_guard)
        except Refused as e:
            self._network.troubles.say("guard", f"no guard can be reached: {of_program(e) or e}")
            raise
        self._network.troubles.say("guard", "")
        return link

    def _to_be_left(self, link: GuardLink) -> bool:
        """Whether the guard in use does not build circuits, and another of the sample may be tried."""
        if not self._network.health.left(link.node_id, self._now()):
            return False
        try:
            entrances = self._entrances(self._network.require_view())
        except Refused:
            return False
        return any(self._worth_trying(entrance.node_id) for entrance in entrances)

    def _worth_trying(self, node: NodeId) -> bool:
        now = self._now()
        return self._retries.due(node, now) and not self._network.health.left(node, now)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    async def _dial_guard(self) -> GuardLink:
        network = self._network
        view = network.require_view()
        self._check_strength(view)
        problem = Refused(
            "no bridge is in the view of the network, or has said its keys: no circuit can begin there"
            if network.bridges
            else f"the view has no guard that offers {' or '.join(network.chooser.transports)}"
        )
        entrances = {entrance.node_id: entrance for entrance in self._entrances(view)}
        for node in sorted(entrances, key=lambda node: not self._worth_trying(node)):  # no guard at all is worse
            held = self.link
            if held is not None and held.up and held.node_id == node:
                return held
            try:
                link = await self._dial(entrances[node])
            except Refused as e:
                problem = e
                continue
            if held is not None and held.up and self.link is held:
                self.change_to(link, held)
            else:
                self.link = link
            network.connected()
            return link
        raise problem

    async def _dial(self, entrance: Entrance, avoid: frozenset[str] = frozenset()) -> GuardLink:
        try:
            link = await self._network.chooser.dial([entrance], self._make_link, avoid)
        except Refused:
            if not avoid:
                self._retries.failed(entrance.node_id, self._now())
            raise
        self._retries.worked(entrance.node_id)
        return link

    def _make_link(self, node: NodeId) -> GuardLink:
        network = self._network
        return GuardLink(
            node, self._lost, network.random, self.profile, cover=network.config.cover, contained=network.contained
        )

    async def elsewhere(self, link: GuardLink, *, other_nodes: bool) -> GuardLink:
        """A second link to the node of `link`, by another transport; or, if that is allowed, to another guard.

        Raises:
            Refused: there is none.
        """
        entrances = self._entrances(self._network.require_view())
        for entrance in entrances:
            if entrance.node_id == link.node_id:
                try:
                    return await self._dial(entrance, frozenset((link.transport,)))
                except Refused:
                    break
        for entrance in entrances if other_nodes else ():
            if entrance.node_id != link.node_id:
                try:
                    return await self._dial(entrance)
                except Refused:
                    continue
        raise Refused("there is no other way")

    async def tend(self) -> None:
        """Goes back to an earlier guard when it is there again, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._network.contained.keep(self.watch.run))
            await self._tend_guards()

    async def _tend_guards(self) -> None:
        while True:
            await asyncio.sleep(TEND_SECONDS)
            for link in [old for old in self._left if not old.circuits]:
                self._left.remove(link)
                link.close()
            await self._go_back()

    async def _go_back(self) -> None:
        """Tries the guards that come before the one in use, each when it may be tried again."""
        link, network = self.link, self._network
        if link is None or not link.up:
            return
        try:
            entrances = self._entrances(network.require_view())
        except Refused:
            return
        for entrance in entrances:
            if entrance.node_id == link.node_id:
                return
            if not self._worth_trying(entrance.node_id):
                continue
            try:
                better = await self._dial(entrance)
            except Refused:
                continue
            self.change_to(better, link)
            return

    def change_to(self, better: GuardLink, link: GuardLink) -> None:
        """New circuits begin at `better`; streams of the others stay where they are."""
        if self.link is not link:
            better.close()
            return
        self.link = better
        self._left.append(link)
        self.pool.leave(link)

    def _lost(self, link: GuardLink) -> None:
        """Its circuits are gone already; the pool dials anew when it builds."""
        if link is self.link:
            self.link = None

    # ---- what becomes of circuits --------------------------------------------------------------------------------

    def built(self, guard: GuardLink, answered: int, hops: int) -> None:
        """For the pool: counts a circuit by its guard, and by the hop at which it failed."""
        self._judge(left=self._network.health.built(guard.node_id, answered, hops, self._now()))

    def collapsed(self, guard: GuardLink, path: Sequence[ViewEntry]) -> None:
        """For the pool: a circuit that had been built was ended by the network."""
        others = [entry.node_id for entry in path[1:]]
        self._judge(left=self._network.health.collapsed(guard.node_id, others, self._now()))

    def _judge(self, *, left: bool) -> None:
        if left:  # the next circuit that is built asks for a guard: see `guard`
            self._log.warning("a guard does not build circuits: the next of the same sample stands in, if it answers")

    def _check_strength(self, view: View) -> None:
        if sum(self.profile.suits(e) for e in view.entries) < self._network.config.hops:
            raise Refused(
                f"too few relays of this network do what the profile {self.profile.name} asks for: at least "
                f"{self.profile.min_delay * 1000:g} ms of mixing and {self.profile.min_padding.name.lower()} padding. "
                "Choose another profile; a weaker path is never taken instead"
            )

    def _entrances(self, view: View) -> list[Entrance]:
        """The guards in order of choice: the bridges, where there are any."""
        bridges = Entrance.of_bridges(self._network.bridges)
        if bridges:
            unlisted = self._network.unlisted
            found = [(bridge, unlisted.find(view, bridge.node_id)) for bridge in bridges]
            return [bridge for bridge, entry in found if entry is not None and self.profile.suits(entry)]
        return [Entrance(e.node_id, e.link_key, e.addresses) for e in self._guards(view)]

    def _guards(self, view: View) -> list[ViewEntry]:
        """Those of the sample that are there and fit, in order; new ones are drawn when they run short."""
        config, guards = self._network.config, self._network.guards
        only_exit = _only_exit(view) if config.hops > 1 else None

        def fits(entry: ViewEntry) -> bool:
            offers = any(a.transport in self._network.chooser.transports for a in entry.addresses)
            good = entry.has(Flags.GUARD) and entry.node_id != only_exit
            return offers and good and self.profile.suits(entry)

        def present(ids: list[NodeId]) -> list[ViewEntry]:
            return [e for i in ids if (e := view.find(i)) is not None and fits(e)]

        guards.noted(lambda node: view.find(node) is not None)
        others = [e for e in view.entries if fits(e)]
        draws = (e.node_id for e in weighted_draws(others, self._network.random))
        enough = min(GUARDS, len(others))
        return present(guards.extended(draws, lambda ids: len(present(ids)) >= enough))

    # ---- paths ---------------------------------------------------------------------------------------------------

    def choose(
        self, guard: GuardLink, port: int, address: str | None, exclude: frozenset[NodeId] = frozenset()
    ) -> tuple[ViewEntry, ...]:
        """A path through `guard` to an exit for the target (port 0: any exit, for RESOLVE)."""
        network = self._network
        view = network.unlisted.view_with(network.require_view(), guard.node_id)
        weak = frozenset(e.node_id for e in view.entries if not self.profile.suits(e))
        return choose_path(
            view, network.genesis, port, {guard.node_id}, network.random,
            hops=network.config.hops, target_address=address if port else None, exclude=exclude | weak,
        )  # fmt: skip


def _only_exit(view: View) -> NodeId | None:
    """The view's exit if it has only one: as a guard it would leave no path, since no relay stands in one twice."""
    exits = [entry.node_id for entry in view.entries if entry.has(Flags.EXIT)]
    return exits[0] if len(exits) == 1 else None
