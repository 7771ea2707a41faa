"""The node's own descriptor: made from what gateway and relay say, signed, handed to every genesis directory.

It is signed anew when a key, address or policy changes, after half its lifetime, and when our clock was ahead when it
was signed; and handed in again when a view comes that lacks this node or has other keys of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import Signer
from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.certified import CLOCK_SKEW_SECONDS
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor, sign_descriptor
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.path import uniform_below
from phantomband.core.netdir.replies import Accepted
from phantomband.core.netdir.requests import Publish
from phantomband.core.netdir.view import View

from phantomband_directory.parts import GatewayFacts, NodeParts, NodeSettings, RelayFacts
from phantomband_directory.peers import Peers
from phantomband_directory.stamps import Stamps

LIFETIME_EPOCHS = 4
"""Regular epochs that a descriptor lasts: a node that is gone leaves the view after at most so many."""

RETRY_SECONDS = 0.2
"""Between questions to a gateway or relay that does not answer yet."""

LOOK_SECONDS = 2.0
"""Between questions whether something has changed."""

PUBLISH_RETRY_SECONDS = 0.25
"""After a directory did not take the descriptor; doubles up to `PUBLISH_RETRY_LIMIT`."""

PUBLISH_RETRY_LIMIT = 8.0

Facts = tuple[GatewayFacts, RelayFacts]


class Announcer:
    """Keeps one node's descriptor current and known.

    Args:
        accept: takes the new descriptor into this directory's own pool, and remembers its time; raises Refused.
        published: the time that its newest descriptor named in an earlier run: none is signed for it again.
    """

    def __init__(
        self,
        genesis: Genesis,
        key: Signer,
        settings: NodeSettings,
        parts: NodeParts,
        peers: Peers,
        now: Callable[[], float],
        random: RandomSource,
        accept: Callable[[SignedDescriptor], None],
        stamps: Stamps,
        published: int = -1,
    ) -> None:
        self._genesis, self._key, self._settings = genesis, key, settings
        self._parts, self._peers, self._now, self._random = parts, peers, now, random
        self._accept, self._stamps = accept, stamps
        self._index = genesis.index_of(key.node_id)
        self._published = published
        self._facts: Facts | None = None
        self._taken_by: dict[int, bytes] = {}
        self._wake = {i: asyncio.Event() for i in range(genesis.size) if i != self._index}
        self.current: SignedDescriptor | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_parts())
            for index in self._wake if self._settings.listed else ():
                group.create_task(self._publish_to(index))

    def stamp_changed(self) -> None:
        """There is a stamp now: hands in what waited for it."""
        self._wake_all()

    def view_changed(self, view: View) -> None:
        """Hands the descriptor in again when a view that could have it does not."""
        if self.current is None:
            return
        descriptor = self.current.descriptor
        entry = view.find(descriptor.node_id)
        known = entry is not None and (entry.link_key, entry.onion_key) == (
            descriptor.link_key,
            descriptor.onion_key,
        )
        if known or descriptor.published >= self._genesis.clock.start(view.epoch):
            return
        if entry is not None:
            self._facts = None  # older keys won over ours, signed in the same second: sign anew
        self._taken_by.clear()
        self._wake_all()

    async def _watch_parts(self) -> None:
        while True:
            try:
                facts = (await self._parts.gateway(), await self._parts.relay())
            except Refused:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if facts != self._facts or self._due():
                self._renew(facts)
            await asyncio.sleep(LOOK_SECONDS)

    def _due(self) -> bool:
        """Whether half the descriptor's lifetime is over, or it was signed while our clock was ahead."""
        descriptor = None if self.current is None else self.current.descriptor
        if descriptor is None or self._ahead(descriptor.published):
            return True
        return self._now() >= (descriptor.published + descriptor.expires) / 2

    def _ahead(self, published: int) -> bool:
        """Whether nobody takes it yet: to go on from that time would keep us out of the views until it comes."""
        return published > self._now() + CLOCK_SKEW_SECONDS

    def _renew(self, facts: Facts) -> None:
        try:
            signed = sign_descriptor(self._describe(*facts), self._key)
            self._accept(signed)
        except (Malformed, Refused):
            self._facts = None  # a part said what no descriptor can carry, or the pool is full: try again
            return
        self._facts, self.current = facts, signed
        self._wake_all()

    def _describe(self, gateway: GatewayFacts, relay: RelayFacts) -> Descriptor:
        settings = self._settings
        # One second more than the one before, so that the order is clear even when keys change twice a second. Of those
        # that were signed while our clock was ahead nobody knows.
        before = self._published if self.current is None else self.current.descriptor.published
        published = max(int(self._now()), -1 if self._ahead(before) else before + 1)
        return Descriptor(
            network_id=self._genesis.network_id,
            identity=self._key.public.raw,
            link_key=gateway.link_key,
            onion_key=relay.onion_key,
            next_onion_key=relay.next_onion_key,
            capacity=relay.capacity,
            addresses=gateway.addresses,
            exit_policy=relay.exit_policy,
            bandwidth=settings.bandwidth,
            family=tuple(sorted(settings.family)),
            nickname=settings.nickname,
            software=settings.software,
            mix=settings.mix,
            padding=settings.padding,
            succession=settings.succession,
            published=published,
            expires=published + LIFETIME_EPOCHS * self._genesis.clock.epoch_seconds,
        )

    def _wake_all(self) -> None:
        for event in self._wake.values():
            event.set()

    async def _publish_to(self, index: int) -> None:
        delay = PUBLISH_RETRY_SECONDS
        while True:
            signed = self.current
            if signed is None or not self._stamps.ready or self._taken_by.get(index) == signed.digest:
                delay = PUBLISH_RETRY_SECONDS
                self._wake[index].clear()
                await self._wake[index].wait()
                continue
            reply = await self._peers.call(index, Publish(signed.encoded, self._stamps.current))
            if isinstance(reply, Accepted):
                self._taken_by[index] = signed.digest
            else:
                await asyncio.sleep(self._jittered(delay))
                delay = min(2 * delay, PUBLISH_RETRY_LIMIT)

    def _jittered(self, seconds: float) -> float:
        """Between half and all of `seconds`, so that nodes do not ask in step."""
        return seconds * (1 + uniform_below(1024, self._random) / 1024) / 2
