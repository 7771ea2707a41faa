"""The client: proxies, circuits, the guard's link, the view; bootstraps and says how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc.aio
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused, UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.path import choose_path, weighted_draws
from phantomband.core.netdir.view import Flags, View, ViewEntry
from phantomband.proto import client_pb2, client_pb2_grpc
from phantomband.runtime.service import Service, new_incarnation
from phantomband.runtime.settings import ClientConfig
from phantomband.runtime.shared import SharedAttempts
from phantomband.transports.base import Address, Transport

from phantomband_client.circuits import CircuitPool
from phantomband_client.control import ControlRpc, Progress
from phantomband_client.guard_link import GuardLink
from phantomband_client.guards import StoredGuards
from phantomband_client.http_connect import HttpNegotiation
from phantomband_client.network_view import NetworkView
from phantomband_client.proxy import Application, Proxy
from phantomband_client.socks import Negotiation

GUARDS_FILE = "guards.json"
GUARDS = 3
"""Guards kept; the first that answers is used."""

REFRESH_SECONDS = (1.0, 30.0)
"""Pause between attempts to get a view, from the first to the last."""


@dataclass(frozen=True, slots=True)
class ClientParts:
    """What the client is made of; collaborators arrive here."""

    config: ClientConfig
    genesis: Genesis
    transports: Mapping[str, Transport]
    random: RandomSource
    clock: Callable[[], float]


class ClientService(Service):
    """One client. It is the `Paths` of its circuit pool."""

    name = "client"

    def __init__(self, parts: ClientParts) -> None:
        self.incarnation = new_incarnation()
        config = self.config = parts.config
        self.network_id = parts.genesis.network_id
        self.progress = Progress()
        self.trouble = ""
        self.view = NetworkView(parts.genesis, config.data_dir, parts.clock)
        self.pool = CircuitPool(self, parts.random, config.ready_circuits, config.circuit_lifetime, self._changed)
        self._parts = parts
        self._link: GuardLink | None = None
        self._dialing: SharedAttempts[str, GuardLink] = SharedAttempts()
        self._unreachable: set[NodeId] = set()
        self._stored_guards = StoredGuards(config.data_dir / GUARDS_FILE, parts.clock)
        self._tasks: asyncio.TaskGroup | None = None
        self._news = asyncio.Event()
        self._bootstrapped = asyncio.Event()
        self._have_view = asyncio.Event()
        self.proxies: list[Proxy] = []
        self.addresses: dict[str, str] = {}
        self._socks = Proxy("socks", Negotiation, self.pool, self._serve, config.max_streams, config.connect_timeout)
        self._http = Proxy("http", HttpNegotiation, self.pool, self._serve, config.max_streams, config.connect_timeout)

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        client_pb2_grpc.add_ClientServicer_to_server(ControlRpc(self), server)
        return [client_pb2.DESCRIPTOR.services_by_name["Client"].full_name]

    async def run(self, ready: Callable[[], None]) -> None:
        async with AsyncExitStack() as stack:
            config = self.config
            await self._listen(stack, "socks", self._socks, config.socks_host, config.socks_port)
            if config.http_port is not None:
                await self._listen(stack, "http", self._http, config.http_host, config.http_port)
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._dialing.spawn = self.pool.building.spawn = tasks.create_task
                tasks.create_task(self._keep_view())
                tasks.create_task(self._announce(ready))
                await self._wait_view()
                self._advance(60, "connecting to the guard")
                await self.pool.keep_ready()

    async def _listen(self, stack: AsyncExitStack, name: str, proxy: Proxy, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(proxy.protocol, host, port, backlog=1024)
        except OSError as e:
            raise UserError(
                f"{host}:{port} cannot be bound for the {name} proxy ({e.strerror}). Choose another with {name}_port"
            ) from None
        bound = server.sockets[0].getsockname()
        self.addresses[name] = f"{bound[0]}:{bound[1]}"
        self.proxies.append(proxy)
        stack.callback(server.close)

    def _serve(self, application: Application) -> None:
        if self._tasks is not None:
            self._tasks.create_task(application.serve())

    async def drain(self) -> None:
        """A client's user is in a hurry: streams end with the process."""

    def status(self) -> Mapping[str, float]:
        return {
            "circuits": len(self.pool.circuits),
            "circuits_made": self.pool.made,
            "circuits_failed": self.pool.failed,
            "streams": self.streams_open,
            "bugs": self._link.bugs if self._link is not None else 0,
            "bytes_in": sum(p.bytes_in for p in self.proxies),
            "bytes_out": sum(p.bytes_out for p in self.proxies),
            "bootstrap_percent": self.progress.percent,
        }

    @property
    def streams_open(self) -> int:
        return sum(m.streams for m in self.pool.circuits.values())

    # ---- progress ------------------------------------------------------------------------------------------------

    def _advance(self, percent: int, phase: str) -> None:
        if percent > self.progress.percent:
            self.progress = Progress(percent, phase)
            self._news.set()
            self._news = asyncio.Event()

    async def next_progress(self) -> None:
        """Returns when the bootstrap has gone further."""
        await self._news.wait()

    def _changed(self) -> None:
        if any(m.open for m in self.pool.circuits.values()):
            self.trouble = ""
            self._advance(100, "done")
            self._bootstrapped.set()

    async def _announce(self, ready: Callable[[], None]) -> None:
        await self._bootstrapped.wait()
        ready()

    # ---- the view ------------------------------------------------------------------------------------------------

    async def _wait_view(self) -> None:
        if not self.view.usable():
            await self._have_view.wait()

    async def _keep_view(self) -> None:
        """Gets a view when there is none or a newer one should exist, until cancelled."""
        first, last = REFRESH_SECONDS
        delay = 0.1
        while True:
            if not self.view.stale():
                await asyncio.sleep(self._refresh_wait())
                delay = first
            try:
                await self._get_view()
                if self.view.usable():
                    self._have_view.set()
                self.trouble = self.view.warning
            except Refused as e:
                self.trouble = f"no view of the network yet: {e}"
            if self.view.stale():
                await asyncio.sleep(delay)
                delay = min(2 * delay, last if self.view.usable() else first)

    def _refresh_wait(self) -> float:
        """A random time within the view's freshness, so that clients do not come all at once."""
        view = self.view.current
        left = max(0.0, view.fresh_until - self._parts.clock()) if view is not None else 0.0
        part = int.from_bytes(self._parts.random(4), "big") / 2**32
        return left + part * min(left, 600.0) * 0.5 + 0.05

    async def _get_view(self) -> None:
        link = self._link
        if link is not None and link.up:
            self.view.take(await link.directory_call(self.view.request()))
            return
        self._advance(10, "connecting to a directory")
        link = await self._dial_directory()
        try:
            self._advance(30, "asking for the view of the network")
            self.view.take(await link.directory_call(self.view.request()))
            if self.view.current is not None:
                self._advance(50, "the view of the network is verified")
        finally:
            link.close()

    async def _dial_directory(self) -> GuardLink:
        directories = list(self._parts.genesis.directories)
        start = int.from_bytes(self._parts.random(4), "big") % len(directories)
        problem: Refused | None = None
        for directory in directories[start:] + directories[:start]:
            try:
                return await self._dial(directory.node_id, directory.link_key, directory.addresses)
            except Refused as e:
                problem = e
        raise Refused(
            f"no directory of the genesis file can be reached by {self.config.transport}. "
            "Check the network connection, or try another transport"
        ) from problem

    # ---- the guard -----------------------------------------------------------------------------------------------

    async def _dial(self, node: NodeId, link_key: bytes, addresses: tuple[NodeAddress, ...]) -> GuardLink:
        link = GuardLink(node, self._guard_lost)
        wanted = [
            Address(a.transport, a.host, a.port, dict(a.parameters))
            for a in addresses
            if a.transport == self.config.transport
        ]
        await link.dial(self.network_id, link_key, wanted, self._parts.transports, self._parts.random)
        return link

    async def guard(self) -> GuardLink:
        """The guard's link, dialled if it is down; callers share one attempt."""
        if self._link is not None and self._link.up:
            return self._link
        try:
            return await self._dialing.get(GUARDS_FILE, self._dial_guard)
        except Refused as e:
            self.trouble = f"no guard can be reached: {e}"
            raise

    async def _dial_guard(self) -> GuardLink:
        view = self._require_view()
        problem: Refused = Refused("the view has no guard that offers this transport")
        for entry in self._guards(view):
            try:
                self._link = await self._dial(entry.node_id, entry.link_key, entry.addresses)
            except Refused as e:
                problem = e
                self._unreachable.add(entry.node_id)
                continue
            self._unreachable.clear()
            self._advance(80, "building circuits")
            return self._link
        self._unreachable.clear()
        raise problem

    def _guard_lost(self, link: GuardLink) -> None:
        """Its circuits are gone already; the pool dials anew when it builds."""
        if link is self._link:
            self._link = None

    def _require_view(self) -> View:
        view = self.view.current
        if view is None or not self.view.usable():
            raise Refused("there is no valid view of the network yet")
        return view

    def _guards(self, view: View) -> list[ViewEntry]:
        """Our guards, in order, as far as they are in the view; new ones are drawn when they run short."""
        transport = self.config.transport
        only_exit = _only_exit(view) if self.config.hops > 1 else None

        def fits(entry: ViewEntry) -> bool:
            offers = any(a.transport == transport for a in entry.addresses)
            known_bad = entry.node_id in self._unreachable or entry.node_id == only_exit
            return offers and entry.has(Flags.GUARD) and not known_bad

        def present(ids: list[NodeId]) -> list[ViewEntry]:
            return [e for i in ids if (e := view.find(i)) is not None and fits(e)]

        others = [e for e in view.entries if fits(e)]
        draws = (e.node_id for e in weighted_draws(others, self._parts.random))
        return present(self._stored_guards.extended(draws, lambda ids: len(present(ids)) >= min(GUARDS, len(others))))

    # ---- paths ---------------------------------------------------------------------------------------------------

    def choose(
        self, guard: GuardLink, port: int, address: str | None, exclude: frozenset[NodeId] = frozenset()
    ) -> tuple[ViewEntry, ...]:
        """A path through `guard` to an exit for the target (port 0: any exit, for RESOLVE)."""
        return choose_path(
            self._require_view(), self._parts.genesis, port, {guard.node_id}, self._parts.random,
            hops=self.config.hops, target_address=address if port else None, exclude=exclude,
        )  # fmt: skip


def _only_exit(view: View) -> NodeId | None:
    """The view's exit if it has only one: as a guard it would leave no path, since no relay stands in one twice."""
    exits = [entry.node_id for entry in view.entries if entry.has(Flags.EXIT)]
    return exits[0] if len(exits) == 1 else None
