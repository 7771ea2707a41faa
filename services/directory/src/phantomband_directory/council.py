"""One directory's part in certifying views, while it is of the set: carries out what the voting machine asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.ballot import Vote, vote_digest
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.replies import Descriptors, Reply, Votes
from phantomband.core.netdir.requests import MAX_REQUEST_BYTES, Ballot, GetDescriptors, GetVotes, VoteHeld
from phantomband.core.netdir.view_diff import newer_request
from phantomband.core.netdir.voting import Voting
from phantomband.core.netdir.voting_events import (
    BallotKind,
    BallotReceived,
    Broadcast,
    Certified,
    DescriptorsAdded,
    Effect,
    Evidence,
    FetchDescriptors,
    FetchView,
    FetchVotes,
    ViewArrived,
)

from phantomband_directory.intake import Intake
from phantomband_directory.peers import Peers
from phantomband_directory.storage import Storage
from phantomband_directory.view_desk import ViewDesk

log = logging.getLogger(__name__)

MAX_SLEEP_SECONDS = 5.0
"""Longest sleep before the clock is looked at again: system clocks are set, laptops wake up."""

LEAST_JUMP_SECONDS = 1.0
"""Wall and monotonic time that part by more at once: the clock was set, or the machine slept."""

BALLOT_ATTEMPTS = 3
"""Times that a VOTE, ECHO or SIGNATURE is sent to a peer that does not answer."""

DESCRIPTORS_AT_ONCE = 512
"""Asked for in one request, so that their answer fits a reply."""


class Council:
    """Drives one `Voting`.

    Args:
        index: this directory's position in the set.
        take_view: hands an answer with a view to the service.
    """

    def __init__(
        self,
        voting: Voting,
        index: int,
        peers: Peers,
        intake: Intake,
        storage: Storage,
        desk: ViewDesk,
        take_view: Callable[[Reply], None],
        now: Callable[[], float],
    ) -> None:
        self.voting = voting
        self._index, self._peers, self._intake, self._storage = index, peers, intake, storage
        self._desk, self._take_view, self._now = desk, take_view, now
        self._ahead: float | None = None
        """Wall time less monotonic time, when it was last looked at."""
        self.clock_trouble = ""
        """Whose clock is off; empty when none is known to be."""

    async def run(self) -> None:
        """Votes until cancelled."""
        while True:
            now = self._time()
            self._check_clocks()
            self._carry_out(self.voting.tick(now))
            await asyncio.sleep(min(MAX_SLEEP_SECONDS, max(0.001, self.voting.deadline(now) - self._now())))

    def take_ballot(self, kind: BallotKind, data: bytes, sender: int | None = None) -> None:
        """A ballot that came over the link of directory `sender`, or from elsewhere.

        Raises:
            Malformed: it is none.
        """
        self._carry_out(self.voting.handle(BallotReceived(kind, data, sender), self._time()))
        self._check_clocks()

    def take_vote_held(self, held: VoteHeld) -> None:
        """That directory has a vote that was too long to send."""
        self._carry_out(self.voting.vote_held(held.epoch, held.directory, held.digest, self._time()))

    def descriptors_added(self) -> None:
        """There are more nodes to vote for."""
        self._carry_out(self.voting.handle(DescriptorsAdded(), self._time()))

    def view_arrived(self, certified: CertifiedView) -> None:
        """A newer view came from elsewhere."""
        self._carry_out(self.voting.handle(ViewArrived(certified), self._time()))

    def _time(self) -> float:
        """The time, after a look at whether the clock was set since the last one."""
        now = self._now()
        try:
            ahead = now - asyncio.get_running_loop().time()
        except RuntimeError:  # outside of the loop there is nothing to compare with
            return now
        jump = 0.0 if self._ahead is None else ahead - self._ahead
        self._ahead = ahead
        if abs(jump) > LEAST_JUMP_SECONDS:
            self.voting.clock_jumped(jump, now)
        return now

    def _check_clocks(self) -> None:
        trouble = self.voting.clock_trouble(self._now())
        if trouble != self.clock_trouble:
            self.clock_trouble = trouble
            log.warning(trouble or "clocks agree again")

    def _carry_out(self, effects: list[Effect]) -> None:
        """In order: what must be remembered is on disk before what follows is sent."""
        for effect in self._storage.sendable(effects):
            match effect:
                case Broadcast(kind, data):
                    message = self._message(kind, data)
                    for index in self._peers.others(self._index):
                        self._peers.spawn(index, message, BALLOT_ATTEMPTS)
                case FetchDescriptors(index, digests):
                    for at in range(0, len(digests), DESCRIPTORS_AT_ONCE):
                        some = GetDescriptors(digests[at : at + DESCRIPTORS_AT_ONCE])
                        self._peers.spawn(index, some, 1, self._take_descriptors)
                case FetchVotes(index, epoch, digests):
                    self._peers.spawn(index, GetVotes(epoch, digests), 1, self._take_votes)
                case FetchView(index):
                    self._peers.spawn(index, newer_request(self._desk.current), 1, self._take_view)
                case Certified(certified):
                    self._desk.accept(certified)
                case Evidence(index, kind, first, second):
                    self._storage.keep_evidence(f"{kind.name}-{index}-{self._desk.epoch}", first, second)

    def _message(self, kind: BallotKind, data: bytes) -> Ballot | VoteHeld:
        """What to send for a ballot: a vote of many nodes is fetched from us."""
        if len(data) < MAX_REQUEST_BYTES:
            return Ballot(kind, data)
        return VoteHeld(Vote.decode_untrusted(data).epoch, self._index, vote_digest(data))

    def _take_descriptors(self, reply: Reply) -> None:
        for raw in reply.items if isinstance(reply, Descriptors) else ():
            try:
                self._intake.take_named_untrusted(raw)
            except (Malformed, Refused):
                continue

    def _take_votes(self, reply: Reply) -> None:
        for raw in reply.items if isinstance(reply, Votes) else ():
            try:
                self.take_ballot(BallotKind.VOTE, raw)
            except Malformed:
                continue
