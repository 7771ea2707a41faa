"""The gateway's table of links: who they lead to, what the relay and the directory are told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.dircall import DirectoryMessage
from phantomband.core.errors import Refused
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.link import Link, LinkKey, dial, listen
from phantomband.core.shaping import Policy
from phantomband.runtime.link_driver import UNPACED, LinkDriver, LinkOwner
from phantomband.runtime.shared import SharedAttempts
from phantomband.transports.base import Address, Connection, Receiver, Transport, packed_ip

DIAL_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class PeerContact:
    """How to reach a node: its id, its gateway's link key (32 bytes), where it listens."""

    node_id: NodeId
    link_key: bytes
    addresses: tuple[Address, ...]


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
    pending: set[LinkDriver] = field(default_factory=set)
    connections: set[LinkDriver] = field(default_factory=set)
    """Incoming ones, those included that failed and linger."""
    refused: int = 0
    _replay: ReplayCache = field(default_factory=ReplayCache)
    dialing: SharedAttempts[bytes, LinkDriver] = field(default_factory=SharedAttempts)
    _last_id: int = 0

    # ---- incoming ------------------------------------------------------------------------------------------------

    def accept(self, connection: Connection) -> Receiver:
        """A transport's new incoming connection."""
        if len(self.pending) >= self.max_pending or len(self.connections) >= self.max_links:
            self.refused += 1
            connection.abort()
            return _Refused()
        machine = listen(
            self.network_id, self.node_id, self.key, self.random, encapsulate_untrusted, replay=self._replay
        )
        driver = _Accepted(machine, self, connection.peer_ip)
        self.pending.add(driver)
        self.connections.add(driver)
        return driver.attach(connection)

    # ---- outgoing ------------------------------------------------------------------------------------------------

    async def to(self, peer: PeerContact) -> LinkDriver:
        """A link to `peer`: one that is there, or a new one; callers for the same peer share one attempt.

        Raises:
            Refused: none of its addresses answers.
        """
        present = self.by_key.get(peer.link_key)
        if present is not None:
            return present
        return await self.dialing.get(peer.link_key, lambda: self._dial(peer))

    async def reach(self, peer: PeerContact) -> None:
        """Returns if `peer` answers at one of its addresses and proves its link key; the link is closed again.

        A link that is there proves no address: the peer may have dialled it. The new one is anonymous, so neither end
        takes it for one that circuits may use.

        Raises:
            Refused: none of its addresses answers.
        """
        for transport, address in self._dialable(peer):
            machine = dial(self.network_id, peer.node_id, peer.link_key, None, self.random)
            probe = _Probe(machine, self.random)
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

    async def _dial(self, peer: PeerContact) -> LinkDriver:
        if peer.node_id == self.node_id:
            raise Refused("a node has no link to itself")
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
        self.pending.add(driver)
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await transport.dial(address, driver.attach, DIAL_SECONDS)
                await driver.done
        except BaseException:
            self.pending.discard(driver)
            driver.abort()
            raise
        return driver

    # ---- the table -----------------------------------------------------------------------------------------------

    def established(self, driver: LinkDriver, peer_key: bytes | None) -> LinkId:
        """Names a link whose handshake is done."""
        self.pending.discard(driver)
        self._last_id = self._last_id + 1 if self._last_id else 1 + (int.from_bytes(self.random(4), "big") >> 2)
        link = LinkId(self._last_id)
        self.by_id[link], self.ids[driver] = driver, link
        known = peer_key or (driver.target_key if isinstance(driver, _Dialed) else None)
        if known is not None:
            self.by_key[known] = driver
        if isinstance(driver, _Dialed) and not driver.done.done():
            driver.done.set_result(None)
        return link

    def closed(self, driver: LinkDriver) -> LinkId | None:
        """Forgets a link; its id if it had one."""
        self.pending.discard(driver)
        if isinstance(driver, _Dialed) and not driver.done.done():
            driver.done.set_exception(Refused("the link's handshake failed"))
        link = self.ids.pop(driver, None)
        if link is not None:
            del self.by_id[link]
        for key in [k for k, d in self.by_key.items() if d is driver]:
            del self.by_key[key]
        return link

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
        super().__init__(machine, links.owner, links.random, incoming=False, policy=links.pacing)
        self.target_key, self.ip = target_key, ip
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda f: f.cancelled() or f.exception())


class _Accepted(LinkDriver):
    """A link that came from `ip`, packed; empty where its transport does not say."""

    def __init__(self, machine: Link, links: Links, ip: bytes) -> None:
        super().__init__(machine, links.owner, links.random, incoming=True, policy=links.pacing)
        self.ip = ip


class _Probe:
    """Owner of a link that is dialled only to see whether it stands: `done` is set when its handshake ends."""

    def __init__(self, machine: Link, random: RandomSource) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda f: f.cancelled() or f.exception())
        self.driver = LinkDriver(machine, self, random, incoming=False)

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
