"""The client: proxies, circuits, the guard's link, the view; bootstraps and says how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc.aio
from phantomband.core.bridge_line import BridgeLine
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused, UserError
from phantomband.core.netdir.certified import Freshness
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.measures import Measures
from phantomband.core.netdir.view import View
from phantomband.core.profiles import PROFILES, ProfileName
from phantomband.core.stream.messages import Target
from phantomband.proto import client_pb2, client_pb2_grpc
from phantomband.runtime.contained import Contained
from phantomband.runtime.service import Service, new_incarnation
from phantomband.runtime.settings import ClientConfig
from phantomband.runtime.state_files import StateFiles

from phantomband_client.choice.chooser import Chooser
from phantomband_client.clock_check import ClockOff
from phantomband_client.control import ControlRpc, Progress
from phantomband_client.first_links import FirstLinks
from phantomband_client.guard_health import COLLAPSED, GuardHealth
from phantomband_client.guard_link import GuardLink
from phantomband_client.guards import StoredGuards
from phantomband_client.http_connect import HttpNegotiation
from phantomband_client.jumps import Jumps
from phantomband_client.local_targets import stays_here
from phantomband_client.managed import Managed
from phantomband_client.network_view import NetworkView
from phantomband_client.proxy import Application, Choose, Negotiating, Proxy
from phantomband_client.session import Session
from phantomband_client.socks import Negotiation
from phantomband_client.troubles import Troubles
from phantomband_client.unlisted import Unlisted

REFRESH_SECONDS = (1.0, 30.0)
"""Pause between attempts to get a view, from the first to the last."""

MAX_QUESTIONS = 4
"""To one directory in a row: a difference, the whole view, changes of the directory set, the view again."""


@dataclass(frozen=True, slots=True)
class ClientParts:
    """What the client is made of; collaborators arrive here."""

    config: ClientConfig
    genesis: Genesis
    chooser: Chooser
    random: RandomSource
    clock: Callable[[], float]
    files: StateFiles
    bridges: tuple[BridgeLine, ...] = ()
    """Where there are any, they are the guards, and nothing else is dialled."""


class ClientService(Service):
    """One client: a session for each profile in use, and the proxies that give streams to them."""

    name = "client"

    def __init__(self, parts: ClientParts) -> None:
        self.incarnation = new_incarnation()
        self.config = parts.config
        self.genesis, self.random, self.bridges = parts.genesis, parts.random, parts.bridges
        self.chooser = parts.chooser
        bridges = frozenset(bridge.node_id for bridge in parts.bridges)
        self.unlisted = Unlisted(parts.genesis.network_id, bridges, parts.clock)
        self.progress = Progress()
        self.troubles = Troubles()
        self.health = GuardHealth()
        self.view = NetworkView(parts.genesis, parts.files, parts.clock)
        self.guards = StoredGuards(parts.files, parts.clock, parts.random)
        self.contained = Contained()
        self._jumps = Jumps(parts.clock)
        self.measures = Measures()
        self._parts = parts
        self._sessions = {name: Session(self, profile, self._changed) for name, profile in PROFILES.items()}
        self._running: set[ProfileName] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._news = asyncio.Event()
        self._bootstrapped = asyncio.Event()
        self._have_view = asyncio.Event()
        self.proxies: list[Proxy] = []
        self.addresses: dict[str, str] = {}

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        client_pb2_grpc.add_ClientServicer_to_server(ControlRpc(self), server)
        return [client_pb2.DESCRIPTOR.services_by_name["Client"].full_name]

    async def run(self, ready: Callable[[], None]) -> None:
        async with AsyncExitStack() as stack:
            config = self.config
            wanted = [config.profile]
            await self._listen(stack, "socks", config.profile, Negotiation, config.socks_host, config.socks_port)
            for name, port in config.profile_ports.items():
                wanted.append(name)
                await self._listen(stack, f"{name}_socks", name, Negotiation, config.socks_host, port)
            if config.http_port is not None:
                await self._listen(stack, "http", config.profile, HttpNegotiation, config.http_host, config.http_port)
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self.contained.start(tasks)
                tasks.create_task(self.contained.keep(self._keep_view))
                tasks.create_task(self.contained.keep(self._parts.files.keep))
                tasks.create_task(self._announce(ready))
                for name in dict.fromkeys(wanted):
                    self.session(name)

    def session(self, name: ProfileName) -> Session:
        """The session of a profile; begins when it is first asked for, and then stays."""
        session = self._sessions[name]
        if name not in self._running and self._tasks is not None:
            self._running.add(name)
            session.dialing.spawn = session.pool.building.spawn = self.contained.spawn
            self._tasks.create_task(self._run_session(session))
        return session

    async def _run_session(self, session: Session) -> None:
        await self._wait_view()
        self._advance(60, "connecting to the guard")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.contained.keep(session.tend))
            await self.contained.keep(session.pool.keep_ready)

    async def _listen(
        self,
        stack: AsyncExitStack,
        name: str,
        profile: ProfileName,
        negotiation: Callable[[], Negotiating],
        host: str,
        port: int,
    ) -> None:
        config = self.config
        choose = Choose(profile, lambda chosen: self.session(chosen).pool)
        proxy = Proxy(
            name, negotiation, choose, self._serve, config.max_streams, config.connect_timeout, self._stays_here
        )
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(proxy.protocol, host, port, backlog=1024)
        except OSError as e:
            raise UserError(
                f"{host}:{port} cannot be bound for the {name} proxy ({e.strerror}). Choose another with {name}_port"
            ) from None
        bound = server.sockets[0].getsockname()
        self.addresses[name] = _shown(bound[0], bound[1])
        self.proxies.append(proxy)
        stack.callback(server.close)

    def _stays_here(self, where: Target) -> bool:
        return stays_here(where, test_network=self.genesis.test_network)

    def _serve(self, application: Application) -> None:
        self.contained.spawn(application.serve(), application.abort)

    async def drain(self) -> None:
        """A client's user is in a hurry: streams end with the process."""

    def status(self) -> Mapping[str, float]:
        return {
            "circuits": len(self.circuits),
            "circuits_made": sum(s.pool.made for s in self._sessions.values()),
            "circuits_failed": sum(s.pool.failed for s in self._sessions.values()),
            **{f"circuits_failed_at_hop_{hop + 1}": self.health.totals[hop] for hop in range(self.config.hops)},
            "circuits_collapsed": self.health.totals[COLLAPSED],
            "streams": self.streams_open,
            "bugs": self.contained.bugs,
            "loops_returned": self.measures.returned,
            "loops_lost": self.measures.lost,
            "padding_cells": sum(s.link.padding_sent for s in self._sessions.values() if s.link is not None),
            "bytes_in": sum(p.bytes_in for p in self.proxies),
            "bytes_out": sum(p.bytes_out for p in self.proxies),
            "bootstrap_percent": self.progress.percent,
        }

    @property
    def circuits(self) -> list[tuple[Session, Managed]]:
        """Of all sessions, in the order of their numbers."""
        return [
            (s, m) for s in self._sessions.values() for m in sorted(s.pool.circuits.values(), key=lambda m: m.number)
        ]

    @property
    def sessions(self) -> Mapping[ProfileName, Session]:
        """One for each profile, whether or not it is in use."""
        return self._sessions

    @property
    def transport(self) -> str:
        """By which the guards are reached now; before that, those that may be used."""
        up = dict.fromkeys(s.link.transport for s in self._sessions.values() if s.link is not None and s.link.up)
        return " ".join(up or self.chooser.transports)

    @property
    def trouble(self) -> str:
        """What is wrong now; what was wrong before a suspend, or yesterday, is not in it."""
        bugs = self.contained.bugs
        said = (
            self.view.warning,
            self.troubles.text,
            self.health.words(asyncio.get_running_loop().time()),
            self._parts.files.problem,
            f"{bugs} errors inside the client: please report them, its log has their places" if bugs else "",
        )
        return "; ".join(one for one in said if one)

    @property
    def streams_open(self) -> int:
        return sum(m.streams for _, m in self.circuits)

    def new_identity(self) -> int:
        """Takes all circuits away from new streams; returns how many."""
        return sum(s.pool.new_identity() for s in self._sessions.values())

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
        if any(m.open for _, m in self.circuits):
            self.troubles.say("view", "")
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
            if not self._must_ask():
                jumped = await self._jumps.sleep(self._refresh_wait())
                delay = first
                if jumped:
                    self._resumed(jumped)
                    continue
            try:
                await self._get_view()
                if self.view.usable():
                    self._have_view.set()
                self.troubles.say("view", "")
            except Refused as e:
                self.troubles.say("view", str(e) if isinstance(e, ClockOff) else f"no newer view of the network: {e}")
            if self._must_ask():
                if jumped := await self._jumps.sleep(delay):
                    self._resumed(jumped)
                    delay = first
                    continue
                delay = min(2 * delay, last if self.view.usable() else first)

    def _resumed(self, jumped: float) -> None:
        """The machine slept, or its clock was set: what was wrong before says nothing now, and links may be dead."""
        self.troubles.say("view", "")
        self.troubles.say("guard", "")
        if jumped > 0:
            for session in self._sessions.values():
                session.watch.suspect()

    def _must_ask(self) -> bool:
        """Whether there should be a newer view, or no bridge's keys are known yet."""
        view = self.view.current
        return self.view.stale() or (view is not None and self.unlisted.lacking(view))

    def _refresh_wait(self) -> float:
        """A random time within the view's freshness, so that clients do not come all at once."""
        view = self.view.current
        left = max(0.0, view.fresh_until - self._parts.clock()) if view is not None else 0.0
        part = int.from_bytes(self._parts.random(4), "big") / 2**32
        return left + part * min(left, 600.0) * 0.5 + 0.05

    async def _get_view(self) -> None:
        """Asks the guard; while there is none to ask, or it has had nothing newer for long, a first link that is
        closed again: no guard can keep its clients on an old view."""
        link = await self._guard_if_any()
        if link is not None:
            await self._ask_view(link)
            if self.bridges or self.view.freshness in (Freshness.FRESH, Freshness.VALID):
                return
        self._advance(10, "connecting to a bridge" if self.bridges else "connecting to a directory")
        link = await self._first_link()
        try:
            self._advance(30, "asking for the view of the network")
            await self._ask_view(link)
            if self.view.current is not None:
                self._advance(50, "the view of the network is verified")
        finally:
            link.close()

    async def _first_link(self) -> GuardLink:
        parts = self._parts
        return await FirstLinks(parts.bridges, self.view.newest_set, parts.chooser, parts.random).dial()

    async def _guard_if_any(self) -> GuardLink | None:
        """The guard's link; None when there is no view to choose one from, or it does not answer."""
        if not self.view.usable():
            return None
        try:
            return await self._sessions[self.config.profile].guard()
        except Refused:
            return None

    async def _ask_view(self, link: GuardLink) -> None:
        for _ in range(MAX_QUESTIONS):
            self.view.take(await link.directory_call(self.view.request()))
            if not self.view.more_to_ask:
                break
        if self.view.current is not None:
            await self.unlisted.ask(link, self.view.current)

    # ---- for the sessions -------------------------------------------------------------------------------------

    def require_view(self) -> View:
        view = self.view.current
        if view is None or not self.view.usable():
            raise Refused("there is no valid view of the network yet")
        return view

    def connected(self) -> None:
        self._advance(80, "building circuits")


def _shown(host: str, port: int) -> str:
    """As URLs and other programs want it: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
