"""The meetings of one scenario: who meets whom, what is said, what is fetched and offered.

A directory meets one at random of all that are there, compares sets by the real machine, fetches what it lacks and
offers what the other one lacks, `fetches` records at most each way. Whoever gives one record that does not verify is
left at once.
"""

from __future__ import annotations

import random
from functools import partial

from phantomband.core.dht.messages import pieces
from phantomband.core.dht.reconcile import ITEM_BYTES, Reconciliation, answer_untrusted
from phantomband.core.dht.record import SignedRecord
from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId

from phantomband_cli.sim.delays import access, one_way
from phantomband_cli.sim.dht.stand_ins import RECORD_BYTES, Registry
from phantomband_cli.sim.events import Events
from phantomband_cli.sim.gossip.measures import Measures, Spread
from phantomband_cli.sim.gossip.member import Member, verified
from phantomband_cli.sim.gossip.scenario import Lie, Scenario

NO_PARTS = b"\x00\x00"
"""After the number of ranges in a reply: none of them differs (core/dht/reconcile.py)."""

LIES = tuple(Lie)
"""Told by the malicious in turn."""

JOINED = 0.99
"""Part of all records after which a newcomer has arrived."""


class World:
    """Runs one scenario: `run()` gives its measures."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._dice = random.Random(scenario.seed)
        self._events = Events()
        self._registry = Registry(signed=True)
        self._members: list[Member] = []
        self._honest: set[Member] = set()
        self._versions: dict[bytes, int] = {}
        self._spreads: dict[bytes, Spread] = {}
        self._measures = Measures()
        self._people()

    def run(self) -> Measures:
        """The warm-up, the measured time, and some more for the last records."""
        s = self.scenario
        self._measures.seconds = s.seconds
        self._events.run(s.warm_up + s.seconds + s.settle, lambda: False)
        self._measures.honest = len(self._honest)
        return self._measures

    @property
    def _measuring(self) -> bool:
        return 0.0 <= self._events.now - self.scenario.warm_up < self.scenario.seconds

    def _people(self) -> None:
        """All hold the first record of all."""
        s = self.scenario
        liars = round(s.directories * s.malicious)
        for at in range(s.directories):
            self._members.append(self._member(LIES[at % len(LIES)] if at < liars else None))
        records = [self._record(member) for member in self._members]
        for member in self._members:
            for record in records:
                if member.lie is not Lie.WITHHOLD:
                    member.take(record)
            if member.lie is Lie.JUNK:
                member.make_up(self._registry, self._dice, 0.0)
            self._begin(member)

    def _member(self, lie: Lie | None) -> Member:
        member = Member(self._dice.randbytes(32), access(self._dice), self._events.now, lie)
        if lie is None:
            self._honest.add(member)
        return member

    def _begin(self, member: Member) -> None:
        """Its meetings, its publications, its end."""
        s, now, random = self.scenario, self._events.now, self._dice.random
        self._events.at(now + random() * s.period, partial(self._meets, member))
        if member.lie is None:
            self._events.at(now + random() * s.renewed, partial(self._renews, member))
            if s.mean_session is not None:
                self._events.at(now + self._dice.expovariate(1 / s.mean_session), partial(self._dies, member))

    def _record(self, member: Member) -> SignedRecord:
        version = self._versions[member.own] = self._versions.get(member.own, 0) + 1
        return self._registry.make(NodeId(member.own), version, self._events.now)

    def _renews(self, member: Member) -> None:
        if not member.alive:
            return
        record = self._record(member)
        member.take(record)
        if self._measuring:
            self._spreads[record.digest] = spread = Spread(self._events.now, self._honest, member)
            self._measures.spreads.append(spread)
        self._events.after(self.scenario.renewed, partial(self._renews, member))

    def _dies(self, member: Member) -> None:
        """An empty newcomer takes its place."""
        member.alive = False
        self._honest.remove(member)
        for spread in self._spreads.values():
            spread.died(member, self._events.now)
        newcomer = self._member(None)
        self._members[self._members.index(member)] = newcomer
        self._begin(newcomer)
        newcomer.take(self._record(newcomer))

    # --- a meeting

    def _meets(self, member: Member) -> None:
        if not member.alive:
            return
        self._events.after(self.scenario.period, partial(self._meets, member))
        peer = self._dice.choice(self._members)
        if peer is member:
            return
        if member.lie is None:
            self._measures.meetings += self._measuring
            self._asks(member, peer, Reconciliation(member.items))
        elif member.lie is Lie.JUNK and peer.lie is None:
            self._receives(peer, member.give(member.items.within(bytes(ITEM_BYTES), b"\xff" * ITEM_BYTES)))

    def _asks(self, member: Member, peer: Member, reconciliation: Reconciliation) -> None:
        request = reconciliation.next_request()
        if request is None:
            self._fetches(member, peer, reconciliation)
            return
        self._measures.rounds += self._measuring
        self._sends(member, len(request))
        self._after_way(member, peer, len(request), partial(self._answers, member, peer, reconciliation, request))

    def _answers(self, member: Member, peer: Member, reconciliation: Reconciliation, request: bytes) -> None:
        if not peer.alive or peer.lie is Lie.SILENT:
            self._measures.silent += self._measuring and reconciliation.rounds == 1
            return
        reply = request[:1] + NO_PARTS if peer.lie is Lie.HIDE else answer_untrusted(request, peer.items)
        self._sends(peer, len(reply))
        self._after_way(peer, member, len(reply), partial(self._learns, member, peer, reconciliation, reply))

    def _learns(self, member: Member, peer: Member, reconciliation: Reconciliation, reply: bytes) -> None:
        if not member.alive:
            return
        try:
            reconciliation.reply_untrusted(reply)
        except Malformed:
            return
        self._asks(member, peer, reconciliation)

    def _fetches(self, member: Member, peer: Member, reconciliation: Reconciliation) -> None:
        """What differs, or as much of it as one meeting may carry."""
        wanted, offered = self._some(reconciliation.wanted), self._some(reconciliation.offered)
        if wanted:
            self._sends(member, len(wanted) * ITEM_BYTES)
            self._after_way(member, peer, 0, partial(self._gives, peer, member, wanted))
        if offered:
            self._gives(member, peer, offered)

    def _some(self, items: list[bytes]) -> list[bytes]:
        limit = self.scenario.fetches
        return items if len(items) <= limit else self._dice.sample(items, limit)

    def _gives(self, giver: Member, to: Member, items: list[bytes]) -> None:
        if giver.alive:
            records = giver.give(items)
            self._sends(giver, sum(len(record.encoded) for record in records))
            size = RECORD_BYTES * len(records)
            self._after_way(giver, to, size, partial(self._receives, to, records))

    def _receives(self, member: Member, records: list[SignedRecord]) -> None:
        if not member.alive or member.lie is not None:
            return
        good, bad = verified(records, self._registry)
        self._measures.rejected += bad and self._measuring
        before = len(member)
        for record in good:
            if member.take(record) and (spread := self._spreads.get(record.digest)) is not None:
                spread.has(member, self._events.now)
        if before < JOINED * len(self._versions) <= len(member) and member.joined > 0.0:
            self._measures.joins.append(self._events.now - member.joined)

    def _sends(self, member: Member, size: int) -> None:
        if member.lie is None and self._measuring:
            self._measures.cells += pieces(size)

    def _after_way(self, here: Member, there: Member, size: int, call: partial[None]) -> None:
        way = one_way(here.access, there.access, self._dice) + size / self.scenario.bytes_a_second
        self._events.after(way, call)
