"""The network of one scenario: messages with delays, churn, publishers, searchers and the flood."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle, repeat

from phantomband.core.dht.contact import Contact, number
from phantomband.core.dht.messages import Answer, Ping, Request
from phantomband.core.dht.node import DirectoryNode, Effect
from phantomband.core.dht.operation import Finished, Goal, Send
from phantomband.core.dht.record import SignedRecord, record_key

from phantomband_cli.sim.delays import access, one_way
from phantomband_cli.sim.dht.aim import NEIGHBOURS, sybils
from phantomband_cli.sim.dht.liars import Cabal, Liar
from phantomband_cli.sim.dht.measures import Measures
from phantomband_cli.sim.dht.population import Addresses, Directory, warm
from phantomband_cli.sim.dht.scenario import Aim, Scenario
from phantomband_cli.sim.dht.stand_ins import Registry
from phantomband_cli.sim.events import Call, Events

CELL_BYTES = 2048
"""A piece of a message takes one cell."""

LONGEST = 600.0
"""Seconds that the last searches may still take."""

KNOWN = 4
"""Directories of the genesis file, and as many at random, that a newcomer begins with."""

Address = tuple[bytes, int]


@dataclass(slots=True, eq=False)
class Honest:
    """An honest directory while it lives, and the record that it publishes."""

    node: DirectoryNode
    access: float
    record: SignedRecord | None = None
    published: SignedRecord | None = None
    """The newest that its publication has ended for."""


class World:
    """Runs one scenario: `run()` gives its measures."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._dice = random.Random(scenario.seed)
        self._events = Events()
        self._registry = Registry(signed=scenario.signed)
        self._addresses = Addresses(self._dice, scenario.sybil_networks)
        self._honest: dict[Address, Honest] = {}
        self._living: list[Honest] = []
        self._liars: dict[Address, tuple[Liar, float]] = {}
        self._searches: dict[tuple[Address, int], SignedRecord] = {}
        self._measures = Measures()
        self._measuring = False
        self._people()

    def run(self) -> Measures:
        """The warm-up, then the measured time."""
        s = self.scenario
        self._events.run(s.warm_up, lambda: False)
        self._measuring = True
        for at in range(s.searches):
            self._events.at(s.warm_up + s.seconds * at / s.searches, self._search)
        self._events.run(s.warm_up + s.seconds, lambda: False)
        self._measuring = False
        self._events.run(s.warm_up + s.seconds + LONGEST, lambda: not self._searches)
        self._measures.end(s.seconds, len(self._living), self._captured())
        return self._measures

    def _people(self) -> None:
        """Everyone of the beginning, with warm tables."""
        s, n = self.scenario, self.scenario.directories
        bad = [self._addresses.anywhere() for _ in range(round(n * s.malicious))]
        good = [self._addresses.anywhere() for _ in range(n - len(bad))]
        bad += [self._addresses.sybil() for _ in range(round(len(good) * s.sybils))]
        victims = good[s.genesis : s.genesis + s.victims] if s.aim is not Aim.NOBODY else []
        groups = [sybils(self._aimed_at(contact), s, self._addresses, self._dice) for contact in victims]
        self._bad = bad
        self._everyone, self._honest_ids = Directory(bad + good), Directory(good)
        self._cabal(bad, list(chain.from_iterable(groups)))
        self._genesis = good[: s.genesis]
        for at, contact in enumerate(good):
            honest = self._born(contact, at < s.genesis + len(victims))
            warm(honest.node, self._everyone, self._dice, 0.0)
            self._events.at(self._dice.random() * 0.9 * s.warm_up, self._publisher(honest))
        if bad and s.flood:
            self._events.at(0.0, self._flood)
        self._victims = self._living[s.genesis : s.genesis + len(victims)]
        for honest, group in zip(self._victims, groups, strict=True):
            self._events.at(self._dice.random() * s.aimed_flood, partial(self._flood_victim, honest, cycle(group)))

    def _aimed_at(self, victim: Contact) -> int:
        return number(record_key(0, victim.node_id)) if self.scenario.aim is Aim.KEY else victim.number

    def _cabal(self, bad: list[Contact], aimed: list[Contact]) -> None:
        """All who lie; they know of each honest one that comes and goes."""
        s = self.scenario
        cabal = Cabal(Directory([*bad, *aimed]), self._honest_ids, self._addresses, self._dice)
        lies = chain((self._dice.choice(s.lies) for _ in bad), repeat(s.aimed_lie))
        for contact, lie in zip(chain(bad, aimed), lies, strict=False):
            self._liars[contact.ip, contact.port] = (Liar(contact, cabal, self._registry, lie), access(self._dice))
        for contact in chain(bad, aimed, self._honest_ids):
            self._registry.own(contact)

    def _born(self, contact: Contact, immortal: bool = False) -> Honest:
        now, s = self._events.now, self.scenario
        since = now - self._dice.random() * s.parameters.sibling_refresh
        node = DirectoryNode(contact, self._registry, self._registry.verify, self._dice.randbytes, s.parameters, since)
        honest = Honest(node, access(self._dice))
        self._honest[contact.ip, contact.port] = honest
        self._living.append(honest)
        self._events.at(now + self._dice.random() * 30, lambda: self._tick(honest))
        if not immortal:
            self._events.at(now + self._dice.expovariate(1 / s.mean_session), lambda: self._dies(honest))
        return honest

    def _dies(self, honest: Honest) -> None:
        """Another one comes in its place, with nothing but contacts to begin with."""
        own = honest.node.own
        del self._honest[own.ip, own.port]
        self._searches = {key: one for key, one in self._searches.items() if key[0] != (own.ip, own.port)}
        at = self._living.index(honest)
        self._living[at] = self._living[-1]
        self._living.pop()
        contact = self._addresses.anywhere()
        self._registry.own(contact)
        for directory in (self._everyone, self._honest_ids):
            directory.remove(own)
            directory.add(contact)
        known = self._dice.sample(self._genesis, min(KNOWN, len(self._genesis)))
        known += [self._dice.choice(self._living).node.own for _ in range(KNOWN)]
        if self._bad:
            known += [self._dice.choice(self._bad) for _ in range(round(KNOWN * len(self._bad) / len(self._everyone)))]
        newcomer = self._born(contact)
        self._do(newcomer, newcomer.node.join({one.node_id: one for one in known}.values(), self._events.now))
        self._events.after(60 * (1 + self._dice.random()), self._publisher(newcomer))

    def _alive(self, honest: Honest) -> bool:
        own = honest.node.own
        return self._honest.get((own.ip, own.port)) is honest

    def _tick(self, honest: Honest) -> None:
        if self._alive(honest):
            self._do(honest, honest.node.tick(self._events.now))
            self._events.after(30, lambda: self._tick(honest))

    def _publisher(self, honest: Honest) -> Call:
        def publish() -> None:
            if self._alive(honest):
                version = 1 if honest.record is None else honest.record.version + 1
                honest.record = self._registry.make(honest.node.own.node_id, version, self._events.now)
                self._do(honest, honest.node.publish(honest.record, self._events.now)[1])
                self._events.at(self._republish_time(), publish)

        return publish

    def _republish_time(self) -> float:
        """Those of the beginning began at times of their own, long ago: their publications are spread evenly."""
        period, now, begin = self.scenario.parameters.republish, self._events.now, self.scenario.warm_up
        return now + period if now >= begin else begin + self._dice.random() * period

    def _search(self) -> None:
        """A directory at random looks for the record of another; victims alone are looked for, or look."""
        aim = self.scenario.aim
        sought = self._victims if aim is Aim.KEY else self._living
        for _ in range(100):
            wanted = self._dice.choice(sought).published
            if wanted is not None:
                break
        else:
            return
        searcher = self._dice.choice(self._victims if aim is Aim.DIRECTORY else self._living)
        operation, effects = searcher.node.search(wanted.key, self._events.now)
        own = searcher.node.own
        self._searches[(own.ip, own.port), operation] = wanted
        self._do(searcher, effects)

    def _flood(self) -> None:
        """A liar makes itself known to an honest directory."""
        sender, honest = self._dice.choice(self._bad), self._dice.choice(self._living)
        self._do(
            honest, honest.node.request(Ping(self._dice.randbytes(16), sender, False), sender.ip, self._events.now)
        )
        self._events.after(self.scenario.flood / len(self._living), self._flood)

    def _flood_victim(self, victim: Honest, group: Iterator[Contact]) -> None:
        """A Sybil with a chosen id makes itself known to the victim, or to one of those near its key."""
        sender, to = next(group), victim
        if self.scenario.aim is Aim.KEY:
            near = self._dice.choice(self._honest_ids.closest(self._aimed_at(victim.node.own), NEIGHBOURS))
            to = self._honest[near.ip, near.port]
        self._do(to, to.node.request(Ping(self._dice.randbytes(16), sender, False), sender.ip, self._events.now))
        self._events.after(self.scenario.aimed_flood, partial(self._flood_victim, victim, group))

    def _captured(self) -> float:
        """Part of the victims' tables that is malicious."""
        tables = [honest.node.table.contacts() for honest in self._victims]
        held = [(contact.ip, contact.port) in self._liars for contacts in tables for contact in contacts]
        return sum(held) / max(1, len(held))

    def _do(self, honest: Honest, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Finished):
                self._finished(honest, effect)
            elif isinstance(message := effect.message, Request):
                self._count(message.pieces)
                self._ask(honest, effect.contact, message)

    def _ask(self, honest: Honest, contact: Contact, request: Request) -> None:
        """Carries a request there; nobody there, or no answer, is noticed at its deadline."""
        address, now = (contact.ip, contact.port), self._events.now
        deadline = now + self.scenario.parameters.timeout
        if (liar := self._liars.get(address)) is not None:
            way = one_way(honest.access, liar[1], self._dice)
            answer = liar[0].answer(request, now)
            if answer is None:
                self._gives_up(honest, deadline)
            else:
                self._events.at(now + 2 * way, lambda: self._back(honest, contact, answer))
        elif (other := self._honest.get(address)) is not None:
            way = one_way(honest.access, other.access, self._dice)
            self._events.at(now + way, lambda: self._serve(other, honest, contact, request, way, deadline))
            if 2 * way >= self.scenario.parameters.timeout:
                self._gives_up(honest, deadline)
        else:
            self._gives_up(honest, deadline)

    def _gives_up(self, honest: Honest, deadline: float) -> None:
        """The directory is woken when its request is overdue."""

        def overdue() -> None:
            if self._alive(honest):
                self._do(honest, honest.node.tick(self._events.now))

        self._events.at(deadline, overdue)

    def _serve(
        self, other: Honest, honest: Honest, contact: Contact, request: Request, way: float, deadline: float
    ) -> None:
        now = self._events.now
        there = self._alive(other) and other.node.own == contact
        effects = other.node.request(request, honest.node.own.ip, now) if there else []
        answers = [one.message for one in effects if isinstance(one, Send) and isinstance(one.message, Answer)]
        if not answers:
            self._gives_up(honest, deadline)
        for answer in answers:
            self._count(answer.pieces)
            self._events.at(now + way, partial(self._back, honest, contact, answer))
        self._do(other, effects)

    def _back(self, honest: Honest, contact: Contact, answer: Answer) -> None:
        if self._alive(honest):
            self._do(honest, honest.node.answer(answer, contact, self._events.now))

    def _finished(self, honest: Honest, finished: Finished) -> None:
        own = honest.node.own
        if finished.goal is Goal.SEARCH:
            wanted = self._searches.pop(((own.ip, own.port), finished.number), None)
            if wanted is not None:
                got = finished.record
                right = got is not None and self._registry.genuine(got) and got.version >= wanted.version
                about = finished.key if self.scenario.aim is Aim.KEY else honest.node.own.node_id
                self._measures.searched(finished, right, about)
        elif finished.goal is Goal.PUBLISH and finished.stored:
            honest.published = honest.record

    def _count(self, pieces: int) -> None:
        if self._measuring:
            self._measures.cells += pieces
