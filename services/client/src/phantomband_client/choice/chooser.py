"""Dials a node, or the first of several, by whichever transport works here.

The first way has a moment for itself, then the next begins beside it. What worked and what did not is remembered for
this network and shown by `phantomband transports`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from phantomband.core.bridge_line import BridgeLine
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.transports.base import Address, Transport

from phantomband_client.choice.memory import TransportMemory
from phantomband_client.choice.race import race
from phantomband_client.guard_link import GuardLink

PAUSE_SECONDS = 1.0
"""That a way has for itself when nothing is known of it: TCP, TLS and our own handshake, three round trips."""

PAUSE_RANGE = (0.3, 3.0)
"""When it is known how long it took here, three times that, within this range."""

NODES_AT_ONCE = 3
"""All ways to so many nodes are tried before those to the next."""

MAX_EVENTS = 32
"""Kept for `phantomband transports`."""

MakeLink = Callable[[NodeId], GuardLink]


@dataclass(frozen=True, slots=True)
class Entrance:
    """A node that can be dialled."""

    node_id: NodeId
    link_key: bytes
    addresses: tuple[NodeAddress, ...]

    @classmethod
    def of_bridges(cls, bridges: Iterable[BridgeLine]) -> list[Entrance]:
        """In their order; lines of one node are one entrance."""
        found: dict[tuple[NodeId, bytes], tuple[NodeAddress, ...]] = {}
        for bridge in bridges:
            key = (bridge.node_id, bridge.link_key)
            found[key] = (*found.get(key, ()), bridge.address)
        return [cls(*key, addresses) for key, addresses in found.items()]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done about transports. `at`: Unix seconds."""

    at: float
    transport: str
    what: str
    """In words, without an address."""


@dataclass(frozen=True, slots=True)
class _Way:
    entrance: Entrance
    address: Address
    transport: Transport


class Chooser:
    """All dials of a client.

    Args:
        transports: those that may be used, in order of preference.
        clock: Unix seconds, for events.
    """

    def __init__(
        self,
        network_id: bytes,
        transports: Mapping[str, Transport],
        memory: TransportMemory,
        clock: Callable[[], float],
    ) -> None:
        self.transports, self.memory = transports, memory
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._network_id, self._clock = network_id, clock

    async def dial(
        self, entrances: Sequence[Entrance], make: MakeLink, avoid: frozenset[str] = frozenset()
    ) -> GuardLink:
        """A link to the first of `entrances` that answers; the caller closes it.

        Args:
            avoid: transports that are not to be used now.

        Raises:
            Refused: none does, or none has an address of our transports.
        """
        ways = self._ways(entrances, avoid)
        if not ways:
            raise Refused("the node does not offer a transport that this client may use")
        attempts = [partial(self._try, index, way, make) for index, way in enumerate(ways)]
        index, link = await race(attempts, lambda i: self._pause(ways[i]), _drop)
        self._learn(ways[:index], ways[index])
        return link

    def _learn(self, before: Sequence[_Way], won: _Way) -> None:
        """Ways to the same node that failed, or were not done when a later one was, are blocked or slow here. What
        failed to a node that nobody reached tells nothing about transports."""
        name = won.address.transport
        for lost in {way.address.transport for way in before if way.entrance is won.entrance} - {name}:
            self.memory.failed(lost)
            self.note(lost, f"did not connect while {name} did")

    def note(self, transport: str, what: str) -> None:
        """Writes an event down."""
        self.events.append(Event(self._clock(), transport, what))

    def _ways(self, entrances: Sequence[Entrance], avoid: frozenset[str]) -> list[_Way]:
        """A few nodes at a time: first all of them by one transport, then by the next."""
        names = self.memory.in_order(name for name in self.transports if name not in avoid)
        return [
            _Way(entrance, Address(a.transport, a.host, a.port, dict(a.parameters)), self.transports[name])
            for at in range(0, len(entrances), NODES_AT_ONCE)
            for name in names
            for entrance in entrances[at : at + NODES_AT_ONCE]
            for a in entrance.addresses
            if a.transport == name
        ]

    def _pause(self, way: _Way) -> float:
        seconds = self.memory.of(way.address.transport).seconds
        low, high = PAUSE_RANGE
        return min(max(3 * seconds, low), high) if seconds else PAUSE_SECONDS

    async def _try(self, index: int, way: _Way, make: MakeLink) -> tuple[int, GuardLink]:
        link, name = make(way.entrance.node_id), way.address.transport
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            await link.dial(self._network_id, way.entrance.link_key, way.address, way.transport)
        except Refused as e:
            self.note(name, str(e))
            raise
        seconds = loop.time() - begun
        self.memory.worked(name, seconds)
        self.note(name, f"connected in {seconds:.2f} s")
        return index, link


def _drop(late: tuple[int, GuardLink]) -> None:
    late[1].close()
