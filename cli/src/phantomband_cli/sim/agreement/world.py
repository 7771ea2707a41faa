"""The set of one scenario: messages with delays and losses, lies, deaths. Nothing that was lost is sent again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from phantomband.core.errors import Malformed
from phantomband.core.netdir import voting_events
from phantomband.core.netdir.certified import CertifiedView, verify_untrusted
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.voting import Voting
from phantomband.core.netdir.voting_events import BallotKind, Memory

from phantomband_cli.sim.agreement.documents import START, descriptor_of, genesis_of, key_of
from phantomband_cli.sim.agreement.liars import told
from phantomband_cli.sim.agreement.measures import Measures
from phantomband_cli.sim.agreement.scenario import Lie, Scenario
from phantomband_cli.sim.delays import access, one_way
from phantomband_cli.sim.events import Events

SKEW = 1.0
"""Seconds that a directory's clock is off at most."""

LATE_TELLING = 0.5
"""Seconds before the cut-off at which half of the directories hear of a new node."""


@dataclass(slots=True, eq=False)
class Seat:
    """One directory of the set, or one of two twins; `half` is whom it hears, of those who tell halves apart."""

    index: int
    half: int
    access: float
    skew: float
    lie: Lie | None
    pool: DescriptorPool
    voting: Voting
    memory: Memory = field(default_factory=Memory)
    newest: CertifiedView | None = None
    alive: bool = True


class World:
    """Runs one scenario: `run()` gives its measures."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._dice = random.Random(scenario.seed)
        self._events = Events()
        self._events.now = float(START)
        self._genesis = genesis_of(scenario.directories, scenario.epoch_seconds)
        self._clock = self._genesis.clock
        self._measures = Measures(self._genesis.quorum)
        self._seats = self._all_seats()
        self._split = [self._dice.random() < scenario.split for _ in range(scenario.epochs + 2)]
        self._nodes = scenario.directories
        for _ in range(scenario.relays):
            self._publish(self._seats)

    def run(self) -> Measures:
        """All epochs."""
        s = self.scenario
        for seat in self._seats:
            self._wake(seat)
        for epoch in range(1, s.epochs + 1):
            self._events.at(self._clock.cutoff(epoch) - LATE_TELLING, self._tell_half)
        self._events.run(self._clock.end(s.epochs), lambda: False)
        self._measures.epochs = s.epochs
        return self._measures

    def _all_seats(self) -> list[Seat]:
        s = self.scenario
        lies: list[Lie | None] = [None] * (s.directories - len(s.liars)) + list(s.liars)
        seats = []
        for index, lie in enumerate(lies):
            for half in (0, 1) if lie is Lie.TWINS else (index % 2,):
                pool = DescriptorPool()
                skew = SKEW * (2 * self._dice.random() - 1)
                voting = Voting(self._genesis, key_of(index), index, Memory(), None, pool)
                seat = Seat(index, half, access(self._dice), skew, lie, pool, voting, alive=lie is not Lie.SILENT)
                seats.append(seat)
        return seats

    # --- nodes

    def _publish(self, seats: list[Seat]) -> None:
        """A new node's descriptor comes to those seats."""
        now = self._events.now
        signed = descriptor_of(self._nodes, self._genesis, int(now))
        self._nodes += 1
        for seat in seats:
            seat.pool.add(signed, now + SKEW)
            self._handle(seat, voting_events.DescriptorsAdded())

    def _tell_half(self) -> None:
        half = self._dice.randrange(2)
        self._publish([seat for seat in self._seats if seat.half == half])

    # --- one seat

    def _wake(self, seat: Seat) -> None:
        """Its next tick, by its own clock."""
        if seat.alive:
            due = seat.voting.deadline(self._events.now + seat.skew) - seat.skew
            self._events.at(due, partial(self._tick, seat, seat.voting))

    def _tick(self, seat: Seat, voting: Voting) -> None:
        if seat.alive and seat.voting is voting:
            self._do(seat, voting.tick(self._events.now + seat.skew + 1e-6))
            self._wake(seat)

    def _handle(self, seat: Seat, event: voting_events.Event) -> None:
        if seat.alive:
            try:
                self._do(seat, seat.voting.handle(event, self._events.now + seat.skew))
            except Malformed:
                return

    def _do(self, seat: Seat, effects: list[voting_events.Effect]) -> None:
        for effect in effects:
            if not seat.alive:
                return
            self._carry_out(seat, effect)

    def _carry_out(self, seat: Seat, effect: voting_events.Effect) -> None:
        match effect:
            case voting_events.Remember(memory):
                signs = memory.signed_epoch > seat.memory.signed_epoch
                seat.memory = memory
                if signs and seat.lie is None and self._dice.random() < self.scenario.killed:
                    self._kill(seat)
            case voting_events.Broadcast(kind, data):
                self._broadcast(seat, kind, data)
            case voting_events.FetchDescriptors(source, digests):
                self._ask(seat, source, partial(self._give_descriptors, digests=digests))
            case voting_events.FetchVotes(source, epoch, digests):
                self._ask(seat, source, partial(self._give_votes, epoch=epoch, digests=digests))
            case voting_events.FetchView(source):
                self._ask(seat, source, self._give_view)
            case voting_events.Certified(certified):
                self._holds(seat, certified)
            case voting_events.Evidence(directory):
                self._measures.accused.add(directory)

    def _kill(self, seat: Seat) -> None:
        """Between the memory and the sending; a new machine has the memory and the newest view."""
        seat.alive = False
        self._measures.kills += 1
        self._events.after(self.scenario.restart, partial(self._restart, seat))

    def _restart(self, seat: Seat) -> None:
        key = key_of(seat.index)
        seat.voting = Voting(self._genesis, key, seat.index, seat.memory, seat.newest, seat.pool)
        seat.alive = True
        self._do(seat, seat.voting.tick(self._events.now + seat.skew))
        self._wake(seat)

    def _holds(self, seat: Seat, certified: CertifiedView) -> None:
        seat.newest = certified
        if seat.lie is None:
            epoch = certified.view.epoch
            after = self._events.now - self._clock.cutoff(epoch)
            self._measures.has(seat.index, epoch, certified.digest, after)

    # --- between seats

    def _broadcast(self, seat: Seat, kind: BallotKind, data: bytes) -> None:
        for other in self._seats:
            if other.index == seat.index or (seat.lie is Lie.TWINS and other.half != seat.half):
                continue
            message = told(seat.lie, other.half, kind, data, key_of(seat.index))
            if kind is BallotKind.SIGNATURE:
                self._measures.signed(message)
            wait = self._held_back(seat, other, kind)
            self._events.after(wait, partial(self._send, seat, other, voting_events.BallotReceived(kind, message)))

    def _held_back(self, seat: Seat, other: Seat, kind: BallotKind) -> float:
        """A late liar's vote comes to half of them after their echoes, as its echo shortly before they count."""
        if seat.lie is not Lie.LATE or not other.half or kind is BallotKind.SIGNATURE:
            return 0.0
        epoch = self._clock.epoch_at(self._events.now)
        at = self._clock.echo_deadline(epoch) if kind is BallotKind.VOTE else self._clock.sign_deadline(epoch)
        return max(0.0, at - self._events.now - 2 * access(self._dice))

    def _send(self, seat: Seat, other: Seat, event: voting_events.Event) -> None:
        if not self._lost(seat, other):
            way = one_way(seat.access, other.access, self._dice)
            self._events.after(way, partial(self._handle, other, event))

    def _lost(self, seat: Seat, other: Seat) -> bool:
        epoch = self._clock.epoch_at(self._events.now)
        voting = self._clock.cutoff(epoch) - SKEW <= self._events.now < self._clock.echo_deadline(epoch)
        cut = self._split[epoch] and voting and seat.half != other.half
        return cut or self._dice.random() < self.scenario.loss

    def _ask(self, seat: Seat, index: int, give: Callable[[Seat, Seat], None]) -> None:
        """A call there and back; of twins the one answers that talks with us."""
        source = next((one for one in self._seats if one.index == index and one.half == seat.half), None)
        source = source or next(one for one in self._seats if one.index == index)
        if source.alive and not self._lost(seat, source) and not self._lost(source, seat):
            ways = one_way(seat.access, source.access, self._dice) + one_way(source.access, seat.access, self._dice)
            self._events.after(ways, partial(give, seat, source))

    def _give_descriptors(self, seat: Seat, source: Seat, digests: tuple[bytes, ...]) -> None:
        for digest in digests:
            if (signed := source.pool.get(digest)) is not None:
                seat.pool.add(signed, self._events.now + SKEW)
        self._handle(seat, voting_events.DescriptorsAdded())

    def _give_votes(self, seat: Seat, source: Seat, epoch: int, digests: tuple[bytes, ...]) -> None:
        for data in source.voting.votes(epoch, digests):
            self._handle(seat, voting_events.BallotReceived(BallotKind.VOTE, data))

    def _give_view(self, seat: Seat, source: Seat) -> None:
        if source.newest is None or not seat.alive:
            return
        try:
            certified = verify_untrusted(source.newest.encode(), self._genesis, self._events.now + seat.skew, 0)
        except Malformed:
            return
        if seat.newest is None or certified.view.epoch > seat.newest.view.epoch:
            self._holds(seat, certified)
        self._handle(seat, voting_events.ViewArrived(certified))
