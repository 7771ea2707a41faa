"""The gateway's table of links: who they lead to, what the relay and the directory are told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.dircall import DirectoryMessage
from phantomband.core.errors import Refused
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.link import Link, LinkKey, dial, listen
from phantomband.core.shaping import Policy
from phantomband.runtime.contained import Contained
from phantomband.runtime.link_driver import UNPACED, LinkDriver
from phantomband.runtime.link_owner import LinkOwner, Paddings
from phantomband.runtime.memory_budget import MemoryBudget
from phantomband.runtime.shared import SharedAttempts
from phantomband.transports.base import Address, Connection, Receiver, Transport, packed_ip

from phantomband_gateway.sources import SourceNumbers, crowded, source_of

DIAL_SECONDS = 8.0

MAX_DIALS = 256
"""Links that we dial at once, for circuits ..."""

MAX_CALL_DIALS = 64
"""... and for directory requests and probes, whose addresses strangers name: they leave room for circuits."""


@dataclass(frozen=True, slots=True)
class PeerContact:
    """How to reach a node: its id, its gateway's link key (32 bytes), where it listens."""

    node_id: NodeId
    link_key: bytes
    addresses: tuple[Address, ...]

    @property
    def asked(self) -> Hashable:
        """All that a dial depends on: who names another id or address must not hold up, or fail, those who do not."""
        addresses = ((a.transport, a.host, a.port, *sorted(a.parameters.items())) for a in self.addresses)
        return self.node_id, self.link_key, tuple(addresses)


@dataclass(slots=True)
class Links:
    """All links of a gateway. Ids are never reused within an incarnation."""

    network_id: bytes
    node_id: NodeId
    key: LinkKey
    transports: Mapping[str, Transport]
    random: RandomSource
    owner: LinkOwner
    max_links: int
    max_pending: int
    pacing: Policy = UNPACED
    """How links are paced, and what is done for dialers that ask."""
    listed: bool = True
    """Whether nodes that we dial learn our key; else we look like a client."""
    by_id: dict[LinkId, LinkDriver] = field(default_factory=dict)
    ids: dict[LinkDriver, LinkId] = field(default_factory=dict)
    by_key: dict[bytes, LinkDriver] = field(default_factory=dict)
    """The newest link with each node."""
    shaking: dict[_Accepted, None] = field(default_factory=dict)
    """Incoming ones whose handshake is not done, the oldest first."""
    outgoing: set[LinkDriver] = field(default_factory=set)
    """Those that we dial."""
    connections: set[_Accepted] = field(default_factory=set)
    """Incoming ones, those included that failed and linger."""
    refused: int = 0
    evicted: int = 0
    """Incoming ones that gave way to others."""
    contained: Contained = field(default_factory=Contained)
    budget: MemoryBudget | None = None
    paddings: Paddings | None = None
    replay: ReplayCache = field(default_factory=ReplayCache)
    dialing: SharedAttempts[Hashable, LinkDriver] = field(default_factory=SharedAttempts)
    _keys: dict[LinkDriver, bytes] = field(default_factory=dict)
    """The node at the other end of each link, where it is known; in the order of the links."""
    _last_id: int = 0
    _sources: SourceNumbers = field(init=False)

    def __post_init__(self) -> None:
        self._sources = SourceNumbers(self.random)

    @property
    def pending(self) -> set[LinkDriver]:
        """All whose handshake is not done."""
        return {*self.shaking, *self.outgoing}

    def source(self, driver: LinkDriver) -> int:
        """The number by which the relay knows where a link comes from."""
        return self._sources.of(self.ip_of(driver))

    # ---- incoming ------------------------------------------------------------------------------------------------

    def accept(self, connection: Connection, transport: str = "") -> Receiver:
        """A transport's new incoming connection."""
        source = source_of(connection.peer_ip)
        if not self._place_to_shake() or not self._place_to_stay(source):
            self.refused += 1
            connection.abort()
            return _Refused()
        machine = listen(
            self.network_id, self.node_id, self.key, self.random, encapsulate_untrusted, replay=self.replay
        )
        driver = _Accepted(machine, self, connection.peer_ip, (source, transport))
        self.shaking[driver] = None
        self.connections.add(driver)
        return driver.attach(connection)

    def _place_to_shake(self) -> bool:
        """Where handshakes hold all places, the oldest silent one of whoever holds most gives way.

        A handshake takes one round trip; who holds a place in silence is not about to finish. So a flood of connections
        costs itself, and neither other networks nor other transports.
        """
        if len(self.shaking) < self.max_pending:
            return True
        if not self.max_pending:
            return False
        heavy = crowded(self.shaking)
        self._evict(next((driver for driver in heavy if not driver.heard), heavy[0]))
        return True

    def _place_to_stay(self, source: bytes) -> bool:
        """Where links hold all places, who holds most gives one to a source that holds less: one that failed and
        lingers, else the one whose circuits have been silent longest."""
        if len(self.connections) < self.max_links:
            return True
        heavy = crowded(self.connections)
        most = sum(driver.place[0] == heavy[0].place[0] for driver in self.connections)
        ours = sum(driver.place[0] == source for driver in self.connections)
        if most <= ours + 1:
            return False
        self._evict(min(heavy, key=lambda driver: (driver.established, driver.used)))
        return True

    def _evict(self, driver: _Accepted) -> None:
        self.evicted += 1
        self.shaking.pop(driver, None)
        self.connections.discard(driver)
        driver.abort()

    # ---- outgoing ------------------------------------------------------------------------------------------------

    async def to(self, peer: PeerContact, most: int = MAX_DIALS) -> LinkDriver:
        """A link to `peer`: one that is there, or a new one; callers that ask for the same share one attempt.

        Args: most: with so many dials under way, no more are begun.

        Raises:
            Refused: none of its addresses answers.
        """
        present = self.by_key.get(peer.link_key)
        if present is not None:
            return present
        return await self.dialing.get(peer.asked, lambda: self._dial(peer, most))

    async def reach(self, peer: PeerContact) -> None:
        """Returns if `peer` answers at one of its addresses and proves its link key; the link is closed again.

        A link that is there proves no address: the peer may have dialled it. The new one is anonymous, so neither end
        takes it for one that circuits may use.

        Raises:
            Refused: none of its addresses answers.
        """
        for transport, address in self._dialable(peer):
            machine = dial(self.network_id, peer.node_id, peer.link_key, None, self.random)
            probe = _Probe(machine, self.random, self.contained)
            try:
                async with asyncio.timeout(DIAL_SECONDS):
                    await transport.dial(address, probe.driver.attach, DIAL_SECONDS)
                    await probe.done
                return
            except (Refused, TimeoutError):
                continue
            finally:
                probe.driver.close() if probe.driver.established else probe.driver.abort()
        raise Refused("no address of the node answers")

    async def _dial(self, peer: PeerContact, most: int) -> LinkDriver:
        if peer.node_id == self.node_id:
            raise Refused("a node has no link to itself")
        if len(self.outgoing) >= most:
            raise Refused("too many links are being dialled")
        problem: Exception = Refused("the node has no address that this gateway can dial")
        for transport, address in self._dialable(peer):
            try:
                return await self._dial_one(peer, transport, address)
            except (Refused, TimeoutError) as e:
                problem = e
        raise Refused("no address of the node answers") from problem

    def _dialable(self, peer: PeerContact) -> list[tuple[Transport, Address]]:
        """The peer's addresses of the cheapest transport that both have, and no other.

        Public relays talk records over plain TCP (PROTOCOL.md section 5); one that is late must not be reached by QUIC
        for good.
        """
        for name in ("tcp", "tls", "websocket", "obfs4", "doh", "quic"):
            found = [a for a in peer.addresses if a.transport == name]
            if found and name in self.transports:
                return [(self.transports[name], a) for a in found]
        return []

    async def _dial_one(self, peer: PeerContact, transport: Transport, address: Address) -> LinkDriver:
        own = self.key if self.listed else None
        machine = dial(self.network_id, peer.node_id, peer.link_key, own, self.random)
        driver = _Dialed(machine, self, peer.link_key, packed_ip(address.host))
        self.outgoing.add(driver)
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await transport.dial(address, driver.attach, DIAL_SECONDS)
                await driver.done
        except BaseException:
            self.outgoing.discard(driver)
            driver.abort()
            raise
        return driver

    # ---- the table -----------------------------------------------------------------------------------------------

    def established(self, driver: LinkDriver, peer_key: bytes | None) -> LinkId:
        """Names a link whose handshake is done."""
        self._shaken(driver)
        self._last_id = self._last_id + 1 if self._last_id else 1 + (int.from_bytes(self.random(4), "big") >> 2)
        link = LinkId(self._last_id)
        self.by_id[link], self.ids[driver] = driver, link
        known = peer_key or (driver.target_key if isinstance(driver, _Dialed) else None)
        if known is not None:
            self.by_key[known] = self._named(driver, known)
        if isinstance(driver, _Dialed) and not driver.done.done():
            driver.done.set_result(None)
        return link

    def closed(self, driver: LinkDriver) -> LinkId | None:
        """Forgets a link; its id if it had one."""
        self._shaken(driver)
        if isinstance(driver, _Dialed) and not driver.done.done():
            driver.done.set_exception(Refused("the link's handshake failed"))
        link = self.ids.pop(driver, None)
        if link is not None:
            del self.by_id[link]
        key = self._keys.pop(driver, None)
        if key is not None and self.by_key.get(key) is driver:
            del self.by_key[key]
            for other in [d for d, k in self._keys.items() if k == key]:  # the newest that is left
                self.by_key[key] = other
        return link

    def _named(self, driver: LinkDriver, key: bytes) -> LinkDriver:
        self._keys[driver] = key
        return driver

    def _shaken(self, driver: LinkDriver) -> None:
        """Its handshake is done, or will not be."""
        self.outgoing.discard(driver)
        if isinstance(driver, _Accepted):
            self.shaking.pop(driver, None)

    def released(self, driver: LinkDriver) -> None:
        """Its connection is closed."""
        if isinstance(driver, _Accepted):
            self.connections.discard(driver)

    def peer_of(self, driver: LinkDriver) -> bytes | None:
        """The link key of the node at the other end; None for a client."""
        return driver.target_key if isinstance(driver, _Dialed) else driver.peer_key

    @staticmethod
    def ip_of(driver: LinkDriver) -> bytes:
        """Packed IP address of the link's other end: what we dialled, or where it came from; empty if not known."""
        return driver.ip if isinstance(driver, _Dialed | _Accepted) else b""

    def abort_all(self) -> None:
        for driver in {*self.by_id.values(), *self.pending, *self.connections}:
            driver.abort()


class _Dialed(LinkDriver):
    """A link that we dialled; `done` is set when its handshake ends."""

    def __init__(self, machine: Link, links: Links, target_key: bytes, ip: bytes) -> None:
        super().__init__(
            machine, links.owner, links.random, incoming=False, policy=links.pacing,
            contained=links.contained, budget=links.budget, source=target_key,
        )  # fmt: skip
        self.target_key, self.ip = target_key, ip
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda f: f.cancelled() or f.exception())


class _Accepted(LinkDriver):
    """A link that came from `ip`, packed; empty where its transport does not say."""

    def __init__(self, machine: Link, links: Links, ip: bytes, place: tuple[bytes, str]) -> None:
        super().__init__(
            machine, links.owner, links.random, incoming=True, policy=links.pacing,
            contained=links.contained, budget=links.budget, source=place[0], paddings=links.paddings,
        )  # fmt: skip
        self.ip, self.place = ip, place


class _Probe:
    """Owner of a link that is dialled only to see whether it stands: `done` is set when its handshake ends."""

    def __init__(self, machine: Link, random: RandomSource, contained: Contained) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda f: f.cancelled() or f.exception())
        self.driver = LinkDriver(machine, self, random, incoming=False, contained=contained)

    def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def link_closed(self, driver: LinkDriver) -> None:
        if not self.done.done():
            self.done.set_exception(Refused("the link's handshake failed"))

    def link_cells(self, driver: LinkDriver, cells: bytearray | bytes) -> None: ...

    def link_directory(self, driver: LinkDriver, message: DirectoryMessage) -> None: ...

    def link_overflow(self, driver: LinkDriver, circuit: bytes) -> None: ...

    def link_released(self, driver: LinkDriver) -> None: ...


class _Refused:
    """Receiver of a connection that was closed unanswered."""

    def received(self, data: object) -> None: ...

    def writable(self) -> None: ...

    def closed(self, error: Exception | None) -> None: ...
