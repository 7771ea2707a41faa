"""Whole directories in one process: an in-memory network, a virtual clock, stores that outlive a service."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import ipaddress
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pytest
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Refused
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import NO_TERMS, DirectoryInfo, Genesis, Terms
from phantomband.core.netdir.voting_events import Memory
from phantomband_directory.parts import Batch, Contact, GatewayFacts, NodeSettings, RelayFacts, Saved
from phantomband_directory.service import DirectoryService
from phantomband_directory.stamps import Solver
from virtual import BEGIN, VirtualLoop

START = 1_790_000_000


def seeded(seed: str) -> Callable[[int], bytes]:
    counter = iter(range(2**32))
    return lambda size: hashlib.shake_256(f"{seed}/{next(counter)}".encode()).digest(size)


@lru_cache(maxsize=64)
def key_of(index: int) -> IdentityKey:
    return IdentityKey.generate(seeded(f"identity {index}"))


def key32(name: str) -> bytes:
    """32 bytes that can be an X25519 key: the top bit is clear."""
    digest = hashlib.sha256(name.encode()).digest()
    return digest[:31] + bytes((digest[31] & 0x7F,))


@dataclass
class MemoryStore:
    """`parts.Store` whose contents outlive the service that used it."""

    view: bytes | None = None
    memory: Memory = field(default_factory=Memory)
    records: Batch = field(default_factory=Batch)
    published: int = -1
    evidence: list[str] = field(default_factory=list)
    changes: list[bytes] = field(default_factory=list)
    full: bool = False
    writes: list[str] = field(default_factory=list)

    def load_view(self) -> bytes | None:
        return self.view

    def save_view(self, certified: bytes) -> None:
        self.room()
        self.view = certified

    def load_memory(self) -> Memory:
        return self.memory

    def save_memory(self, memory: Memory) -> None:
        self.room()
        self.memory = memory
        self.writes.append(f"{memory.voted_epoch}/{memory.signed_epoch}/{memory.signed_digest.hex()}")

    def load_records(self) -> Saved:
        held = self.records
        return Saved(
            list(held.descriptors.values()), list(held.convicted.values()), list(held.contacts or ()), self.published
        )

    def save_records(self, batch: Batch) -> bool:
        self.room()
        held = self.records
        kept = {digest: one for digest, one in held.descriptors.items() if digest not in batch.gone}
        convicted = {node: one for node, one in held.convicted.items() if node not in batch.acquitted}
        self.records = Batch(
            kept | batch.descriptors,
            convicted=convicted | batch.convicted,
            contacts=held.contacts if batch.contacts is None else batch.contacts,
        )
        return False

    def save_published(self, published: int) -> None:
        self.room()
        self.published = published

    def load_changes(self) -> list[bytes]:
        return self.changes

    def save_changes(self, changes: list[bytes]) -> None:
        self.changes = changes

    def save_evidence(self, name: str, first: bytes, second: bytes) -> None:
        self.room()
        self.evidence.append(name)

    def room(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


@dataclass
class Node:
    """One node: what its gateway and relay say, its files, and its directory while it runs."""

    index: int
    settings: NodeSettings
    gateway_facts: GatewayFacts
    relay_facts: RelayFacts
    store: MemoryStore = field(default_factory=MemoryStore)
    service: DirectoryService | None = None
    task: asyncio.Task[None] | None = None

    async def gateway(self) -> GatewayFacts:
        return self.gateway_facts

    async def relay(self) -> RelayFacts:
        return self.relay_facts


class Network:
    """`parts.PeerNetwork` of all nodes at once; calls take 5 ms and fail when the target is down."""

    def __init__(self, n: int, min_relays: int = 1, terms: Terms = NO_TERMS) -> None:
        directories = tuple(
            DirectoryInfo(f"dir{i}", key_of(i).public.raw, key32(f"link {i}"), (self.address(i),)) for i in range(n)
        )
        self.genesis = Genesis("test", True, EpochClock(START, 10, 1, 32), min_relays, directories, terms)
        self.nodes: dict[int, Node] = {}
        self.clock_errors: dict[int, float] = {}
        self.solver: Solver | None = None
        self.cut: set[tuple[int, int]] = set()
        """(from, to): calls that do not get through."""
        self.answering: set[int] = set()
        """Nodes that answer at whatever address is claimed."""
        self.calls: list[tuple[int, int, int, int]] = []
        """(from, to, type, bytes) of every request."""
        self.tries: list[tuple[int, bytes]] = []
        """(from, node id) of every try to reach somebody."""
        self.tamper: Callable[[int, int, bytes], bytes] = lambda source, target, request: request

    @staticmethod
    def address(index: int) -> NodeAddress:
        return NodeAddress("tcp", "127.0.0.1", 9000 + index)

    key = staticmethod(key_of)

    @staticmethod
    def now() -> float:
        return START + asyncio.get_running_loop().time() - BEGIN

    def clock_of(self, index: int) -> Callable[[], float]:
        """The clock of one node, which may be off."""
        return lambda: self.now() + self.clock_errors.get(index, 0.0)

    def node(self, index: int) -> Node:
        if index not in self.nodes:
            facts = GatewayFacts(key32(f"link {index}"), (self.address(index),))
            relay = RelayFacts(key32(f"onion {index}"), "accept *:80")
            self.nodes[index] = Node(
                index,
                NodeSettings(f"n{index}", "test", 10**6, mix="timed:0.02", padding=f"constant:fixed:{index + 1}"),
                facts,
                relay,
            )
        return self.nodes[index]

    def start(self, *indices: int) -> None:
        for index in indices:
            node = self.node(index)
            random = seeded(f"random {index}")
            caller = Caller(self, index)
            node.service = DirectoryService(
                self.genesis,
                key_of(index),
                node.settings,
                node,
                caller,
                self.clock_of(index),
                random,
                node.store,
                self.solver,
            )
            node.task = asyncio.get_running_loop().create_task(node.service.run())

    async def stop(self, *indices: int) -> None:
        for index in indices:
            node = self.nodes[index]
            if node.task is not None:
                node.task.cancel()
                await asyncio.gather(node.task, return_exceptions=True)
            node.task = node.service = None

    async def run_to(self, epoch: int) -> None:
        """Up to the end of `epoch`, and a little."""
        await asyncio.sleep(max(0.0, self.genesis.clock.end(epoch) + 0.001 - self.now()))
        for node in self.nodes.values():
            if node.task is not None and node.task.done():
                node.task.result()

    def view_epochs(self) -> dict[int, int]:
        return {i: n.service.status().view_epoch for i, n in self.nodes.items() if n.service is not None}

    def names(self, index: int) -> set[str]:
        service = self.nodes[index].service
        assert service is not None
        assert service.view is not None
        return {entry.nickname for entry in service.view.view.entries}


@dataclass
class Caller:
    """The network as one node has it."""

    network: Network
    source: int

    async def call(self, contact: Contact, request: bytes) -> bytes:
        return (await self.ask(contact, request))[0]

    async def ask(self, contact: Contact, request: bytes) -> tuple[bytes, bytes]:
        await asyncio.sleep(0.005)
        network = self.network
        target = next((i for i, n in network.nodes.items() if n.gateway_facts.link_key == contact.link_key), None)
        service = None if target is None else network.nodes[target].service
        if target is None or service is None or (self.source, target) in network.cut:
            raise Refused("not reachable")
        network.calls.append((self.source, target, request[0], len(request)))
        facts = network.nodes[self.source].gateway_facts
        own, other = (_ip(facts), _ip(network.nodes[target].gateway_facts))
        answer = service.answer(network.tamper(self.source, target, request), facts.link_key, own)
        return answer, other

    async def reach(self, contact: Contact) -> None:
        await asyncio.sleep(0.005)
        self.network.tries.append((self.source, contact.node_id))
        for index, node in self.network.nodes.items():
            facts = node.gateway_facts
            there = index in self.network.answering or (facts.link_key, facts.addresses[0]) in {
                (contact.link_key, address) for address in contact.addresses
            }
            up = node.service is not None and (self.source, index) not in self.network.cut
            if there and up and facts.link_key == contact.link_key:
                return
        raise Refused("nobody there")


def _ip(facts: GatewayFacts) -> bytes:
    return ipaddress.ip_address(facts.addresses[0].host).packed


@pytest.fixture
def network_of() -> type[Network]:
    return Network


@pytest.fixture
def virtual() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine to its end on a virtual clock, and cancels what it leaves behind."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(main)

    return run
