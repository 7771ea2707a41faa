"""Tries whether nodes are where they say (core/netdir/reach.py): a directory votes for no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.descriptor import SignedDescriptor
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.path import uniform_below
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.public_address import is_public
from phantomband.core.netdir.reach import AT_ONCE_OF_NETWORK, Reachability, Try
from phantomband.runtime.contained import Contained

from phantomband_directory.parts import Contact, PeerNetwork

MAX_AT_ONCE = 16
"""Handshakes under way."""

FIRST_TRY_SECONDS = 2.0
"""An address that takes longer was not reached at the first try: the handshake takes three times the way there and
back. So whoever accepts and says nothing holds a try for a moment only."""

TRY_SECONDS = 10.0
"""The same later on: a node may be slow, and then it is only later in."""

AGAIN_EPOCHS, LEAST_AGAIN_SECONDS = 2, 60.0
"""Regular epochs between two tries of a member."""

LEAST_SPAN_SECONDS = 30.0
"""Failures must last so long, and a regular epoch, before a member is given up."""

IDLE_SECONDS = 5.0

TOGETHER_SECONDS = 0.02
"""Descriptors and ends of tries that come within it are looked at together: whose turn it is takes milliseconds among
a thousand."""


class Reach:
    """Of one certifying directory.

    Args:
        now: monotonic seconds: a clock that was ahead for a moment must not put off the next try.
        news: called when a node was reached for the first time, or elsewhere.
    """

    def __init__(
        self,
        genesis: Genesis,
        machine: Reachability,
        network: PeerNetwork,
        now: Callable[[], float],
        random: RandomSource,
        news: Callable[[], None],
        contained: Contained,
    ) -> None:
        self._genesis, self.machine, self._network = genesis, machine, network
        self._now, self._random, self._news, self._contained = now, random, news, contained
        self._wake = asyncio.Event()
        self._under_way = 0

    def begin(self, view: CertifiedView | None, pool: DescriptorPool) -> None:
        """After a restart: members of the newest view count as reached; the others are tried."""
        now = self._now()
        for directory in self._genesis.directories:
            self.machine.assume(directory.node_id, directory.link_key, directory.addresses, self._later(now))
        for entry in () if view is None else view.view.entries:
            self.machine.assume(entry.node_id, entry.link_key, entry.addresses, self._later(now))
        for signed in pool.newest():
            self.machine.note(signed.descriptor, now)

    def note(self, signed: SignedDescriptor) -> None:
        """A descriptor came."""
        self.machine.note(signed.descriptor, self._now())
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            now = self._now()
            for tried in self.machine.take_due(now, MAX_AT_ONCE - self._under_way):
                self._under_way += 1
                self._contained.spawn(self._try(tried))
            try:
                async with asyncio.timeout(self._wait(now)):
                    await self._wake.wait()
                await asyncio.sleep(TOGETHER_SECONDS)
            except TimeoutError:
                continue

    def _wait(self, now: float) -> float:
        due = self.machine.deadline()
        if due is None or self._under_way >= MAX_AT_ONCE:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.01, due - now))

    async def _try(self, tried: Try) -> None:
        reached, silent = frozenset[NodeAddress](), False
        try:
            reached, silent = await self._reaches(tried)
        finally:
            self._under_way -= 1
            news = bool(reached) and self.machine.succeeded(tried, self._now(), self._fraction(), reached)
            if not reached:
                self.machine.failed(tried, self._now(), self._fraction(), silent=silent)
            self._wake.set()
        if news:
            self._news()

    async def _reaches(self, tried: Try) -> tuple[frozenset[NodeAddress], bool]:
        """The addresses whose IP address answers as the node, and whether another took all its time.

        One try for each IP address, all at once: what stands in a view was proved one by one. Which of the addresses
        with that IP address is dialled is the gateway's to say.
        """
        by_host: dict[str, list[NodeAddress]] = {}
        for address in tried.addresses:
            if self._allowed(address):
                by_host.setdefault(address.host, []).append(address)
        seconds = FIRST_TRY_SECONDS if tried.first else TRY_SECONDS
        tasks = []
        async with asyncio.TaskGroup() as group:
            for addresses in by_host.values():
                contact = Contact(tried.node_id, tried.link_key, tuple(addresses))
                tasks.append(group.create_task(self._reaches_one(contact, seconds)))
        answers = [task.result() for task in tasks]
        found = frozenset(
            address for addresses, answer in zip(by_host.values(), answers) if answer for address in addresses
        )
        return found, None in answers

    async def _reaches_one(self, contact: Contact, seconds: float) -> bool | None:
        """Returns: None when no answer came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._network.reach(contact)
        except TimeoutError:
            return None
        except Refused:
            return False
        return True

    def _allowed(self, address: NodeAddress) -> bool:
        """Whether this is an address that the network's nodes can have: a liar must not have us knock at doors of our
        own network."""
        return not is_public_network(self._genesis) or is_public(address.ip)

    def _later(self, now: float) -> float:
        return now + again_seconds(self._genesis) * self._fraction()

    def _fraction(self) -> float:
        return uniform_below(1024, self._random) / 1024


def machine_for(genesis: Genesis, own: NodeId) -> Reachability:
    """The scheduler of tries. Nodes of a test network share an address."""
    at_once = MAX_AT_ONCE if genesis.test_network else AT_ONCE_OF_NETWORK
    return Reachability(own, again_seconds(genesis), span_seconds(genesis), at_once)


def is_public_network(genesis: Genesis) -> bool:
    """Whether all directories have public addresses: then nobody is to be found at others."""
    addresses = [address for directory in genesis.directories for address in directory.addresses]
    return not genesis.test_network and all(is_public(address.ip) for address in addresses)


def again_seconds(genesis: Genesis) -> float:
    """Between two tries of a member."""
    return max(LEAST_AGAIN_SECONDS, AGAIN_EPOCHS * genesis.clock.epoch_seconds)


def span_seconds(genesis: Genesis) -> float:
    """How long a member may fail."""
    return max(LEAST_SPAN_SECONDS, float(genesis.clock.epoch_seconds))
