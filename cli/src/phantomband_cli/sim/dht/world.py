"""The network of one scenario: messages with delays, churn, publishers, searchers and the flood."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from phantomband.core.dht.contact import Contact
from phantomband.core.dht.messages import Answer, Find, Get, Ping, Request, Store
from phantomband.core.dht.node import DirectoryNode, Effect
from phantomband.core.dht.operation import Finished, Goal, Send
from phantomband.core.dht.record import SignedRecord

from phantomband_cli.sim.dht.liars import Liar
from phantomband_cli.sim.dht.measures import Measures
from phantomband_cli.sim.dht.population import Addresses, Directory, warm
from phantomband_cli.sim.dht.scenario import Scenario
from phantomband_cli.sim.dht.stand_ins import Registry
from phantomband_cli.sim.events import Call, Events

CELL_BYTES = 2048
"""A piece of a message takes one cell."""

ACCESS_MEDIAN = 0.02
ACCESS_SIGMA = 0.6
"""Seconds from a directory to the middle of the net: lognormal. One way between two is the sum. Medians of
40 ms one way, 80 ms there and back, are of the order that
measurements between hosts of the Internet give (King data set, 2002)."""

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
        self._measures.end(s.seconds, len(self._living))
        return self._measures

    def _people(self) -> None:
        """Everyone of the beginning, with warm tables."""
        s, n = self.scenario, self.scenario.directories
        bad = [self._addresses.anywhere() for _ in range(round(n * s.malicious))]
        good = [self._addresses.anywhere() for _ in range(n - len(bad))]
        bad += [self._addresses.sybil() for _ in range(round(len(good) * s.sybils))]
        for contact in bad + good:
            self._registry.own(contact)
        self._everyone, fellows = Directory(bad + good), Directory(bad)
        for contact in bad:
            liar = Liar(contact, fellows, self._addresses, self._registry, self._dice)
            self._liars[contact.ip, contact.port] = (liar, self._access())
        self._genesis = good[: s.genesis]
        for at, contact in enumerate(good):
            honest = self._born(contact, at < s.genesis)
            warm(honest.node, self._everyone, self._dice, 0.0)
            self._events.at(self._dice.random() * 0.9 * s.warm_up, self._publisher(honest))
        self._bad = bad
        if bad and s.flood:
            self._events.at(0.0, self._flood)

    def _born(self, contact: Contact, immortal: bool = False) -> Honest:
        now, s = self._events.now, self.scenario
        node = DirectoryNode(
            contact,
            self._registry,
            self._registry.verify,
            self._dice.randbytes,
            s.parameters,
            now - self._dice.random() * 30,
        )
        honest = Honest(node, self._access())
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
        self._everyone.remove(own)
        contact = self._addresses.anywhere()
        self._registry.own(contact)
        self._everyone.add(contact)
        known = self._dice.sample(self._genesis, min(KNOWN, len(self._genesis)))
        known += [self._dice.choice(self._living).node.own for _ in range(KNOWN)]
        if self._bad:
            known += [self._dice.choice(self._bad) for _ in range(round(KNOWN * len(self._bad) / len(self._everyone)))]
        newcomer = self._born(contact)
        self._do(newcomer, newcomer.node.join({one.node_id: one for one in known}.values(), self._events.now))
        self._events.at(self._events.now + 60 * (1 + self._dice.random()), self._publisher(newcomer))

    def _alive(self, honest: Honest) -> bool:
        own = honest.node.own
        return self._honest.get((own.ip, own.port)) is honest

    def _tick(self, honest: Honest) -> None:
        if self._alive(honest):
            self._do(honest, honest.node.tick(self._events.now))
            self._events.at(self._events.now + 30, lambda: self._tick(honest))

    def _publisher(self, honest: Honest) -> Call:
        def publish() -> None:
            if self._alive(honest):
                version = 1 if honest.record is None else honest.record.version + 1
                honest.record = self._registry.make(honest.node.own.node_id, version, self._events.now)
                self._do(honest, honest.node.publish(honest.record, self._events.now)[1])
                self._events.at(self._events.now + self.scenario.parameters.republish, publish)

        return publish

    def _search(self) -> None:
        """A directory at random looks for the record of another."""
        for _ in range(100):
            wanted = self._dice.choice(self._living).published
            if wanted is not None:
                break
        else:
            return
        searcher = self._dice.choice(self._living)
        number, effects = searcher.node.search(wanted.key, self._events.now)
        own = searcher.node.own
        self._searches[(own.ip, own.port), number] = wanted
        self._do(searcher, effects)

    def _flood(self) -> None:
        """A liar makes itself known to an honest directory."""
        sender, honest = self._dice.choice(self._bad), self._dice.choice(self._living)
        self._do(
            honest, honest.node.request(Ping(self._dice.randbytes(16), sender, False), sender.ip, self._events.now)
        )
        self._events.at(self._events.now + self.scenario.flood / len(self._living), self._flood)

    def _do(self, honest: Honest, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Finished():
                    self._finished(honest, effect)
                case Send(contact, Ping() | Find() | Get() | Store() as request):
                    self._count(request.pieces)
                    self._ask(honest, contact, request)
                case Send():
                    pass  # answers are handed over where the request is served

    def _ask(self, honest: Honest, contact: Contact, request: Request) -> None:
        """Carries a request there; nobody there, or no answer, is noticed at its deadline."""
        address, now = (contact.ip, contact.port), self._events.now
        deadline = now + self.scenario.parameters.timeout
        if (liar := self._liars.get(address)) is not None:
            way = self._way(honest.access, liar[1])
            answer = liar[0].answer(request, now)
            if answer is None:
                self._gives_up(honest, deadline)
            else:
                self._events.at(now + 2 * way, lambda: self._back(honest, contact, answer))
        elif (other := self._honest.get(address)) is not None:
            way = self._way(honest.access, other.access)
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
        answers = [one.message for one in effects if isinstance(one, Send) and one.contact is request.sender]
        answer = next((one for one in answers if not isinstance(one, Ping | Find | Get | Store)), None)
        if answer is None:
            self._gives_up(honest, deadline)
        else:
            self._count(answer.pieces)
            self._events.at(now + way, lambda: self._back(honest, contact, answer))
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
                self._measures.searched(finished, right)
        elif finished.goal is Goal.PUBLISH and finished.stored:
            honest.published = honest.record

    def _count(self, pieces: int) -> None:
        if self._measuring:
            self._measures.cells += pieces

    def _access(self) -> float:
        return self._dice.lognormvariate(0.0, ACCESS_SIGMA) * ACCESS_MEDIAN

    def _way(self, here: float, there: float) -> float:
        """Seconds one way, with some jitter."""
        return (here + there) * (0.9 + 0.2 * self._dice.random())
