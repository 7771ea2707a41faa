"""The voting machine of one directory: from descriptors to a certified view, once an epoch. Sans-io.

Epoch e of length E ends at T (PROTOCOL.md section 7, points 2 and 3):

    T - E/4          VOTE     what I hold, once an epoch, remembered before it is sent
    + E/12 at most   ECHO     which votes I hold; earlier when I hold all
    + E/6 at most    count    votes echoed by a quorum, none of who voted twice; earlier when all echoed
                     SIGN     at most one digest an epoch, remembered before it is sent
    q signatures     Certified

Nothing here can fork: two quorums share an honest directory, which signs once. What can happen is that an
epoch fails, because votes, echoes or descriptors came late: then the last view stays in force and the next
epoch tries again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from phantomband.core.crypto.labels import SIGN_VIEW
from phantomband.core.crypto.sign import Signer
from phantomband.core.errors import Bug
from phantomband.core.ids import NodeId
from phantomband.core.netdir import tally
from phantomband.core.netdir.ballot import (
    Echo,
    ViewSignature,
    Vote,
    sign_echo,
    sign_vote,
    verify_echo_untrusted,
    verify_signature_untrusted,
    verify_vote_untrusted,
    vote_digest,
)
from phantomband.core.netdir.candidates import Candidates
from phantomband.core.netdir.caps import FirstSeen
from phantomband.core.netdir.certified import CertifiedView, certificate_message
from phantomband.core.netdir.clocks import ClockWatch
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.view import NO_DIGEST, View, view_digest
from phantomband.core.netdir.voting_events import (
    BallotKind,
    BallotReceived,
    Broadcast,
    Certified,
    DescriptorsAdded,
    Effect,
    Event,
    Evidence,
    FetchDescriptors,
    FetchView,
    FetchVotes,
    Memory,
    Remember,
    ViewArrived,
)
from phantomband.core.netdir.voting_round import Round

KEPT_VIEWS = 3
"""Own certified views that a vote may still want to follow."""

MAX_VOTES_EACH = 2
"""Different votes kept of one directory: two are the proof, more prove nothing more."""


class Voting:
    """One directory's part in each epoch.

    Args:
        index: this directory's position in the genesis set.
        memory: what was remembered last.
        current: the newest certified view held.
        pool: the descriptors held; the caller fills it and says so with `DescriptorsAdded`.
    """

    def __init__(
        self,
        genesis: Genesis,
        key: Signer,
        index: int,
        memory: Memory,
        current: CertifiedView | None,
        pool: DescriptorPool,
        quality: Callable[[NodeId], float] = lambda node: 1.0,
        seen: FirstSeen | None = None,
        pending: Callable[[int], bytes] = lambda epoch: NO_DIGEST,
    ) -> None:
        """Args:
        quality: of a node, from 0 to 1, as measured here; what we vote for its weight is that share of it.
        seen: since when nodes have been in views; kept up here.
        pending: digest of the change of the directory set that is known and does not act in that epoch yet.
        """
        if genesis.directories[index].identity != key.public.raw:
            raise Bug("the voting key is not that of its place in the genesis set")
        self._genesis, self._clock = genesis, genesis.clock
        self._key, self._index, self._pool = key, index, pool
        self._memory = memory
        self._pending = pending
        self._candidates = Candidates(genesis, pool, quality, seen if seen is not None else FirstSeen())
        self._rounds: dict[int, Round] = {}
        self.clocks = ClockWatch(genesis, index)
        """What the others' votes say of clocks."""
        self._views: dict[bytes, View] = {}
        self._newest = (NO_EPOCH, NO_DIGEST)
        if current is not None:
            self._hold(current)

    @property
    def memory(self) -> Memory:
        return self._memory

    def deadline(self, now: float) -> float:
        """When `tick` is next due after a tick at `now`."""
        clock, epoch = self._clock, self._clock.epoch_at(now)
        if epoch == NO_EPOCH:
            return float(clock.start_time)
        times = (
            clock.cutoff(epoch),
            clock.echo_deadline(epoch),
            clock.sign_deadline(epoch),
            float(clock.end(epoch)),
        )
        return next(time for time in times if time > now)

    def clock_doubt(self, now: float) -> str:
        """Why this machine's clock is not to be voted by; empty when it is."""
        newest = self._newest[0]
        if newest != NO_EPOCH and self._clock.start(newest) - now > self.clocks.bound:
            return "this machine's clock is behind the newest certified view: set it"
        return self.clocks.doubt(now)

    def clock_trouble(self, now: float) -> str:
        """Whose clock is off, and what to do; empty when none is known to be."""
        return self.clocks.own_trouble(now) or self.clock_doubt(now) or self.clocks.trouble(now)

    def clock_jumped(self, seconds: float, now: float) -> None:
        """This machine's clock was set and is at `now`: it shows `seconds` more than it would have."""
        self.clocks.jumped(seconds, now)

    def votes(self, epoch: int, digests: Iterable[bytes]) -> list[bytes]:
        """The signed votes that are held of those asked for."""
        current = self._rounds.get(epoch)
        held = {} if current is None else {d: raw for v in current.votes.values() for d, (_, raw) in v.items()}
        return [held[digest] for digest in digests if digest in held]

    def vote_held(self, epoch: int, directory: int, digest: bytes, now: float) -> list[Effect]:
        """A directory, known to be this one, says that its vote, too long to be sent, can be fetched from it."""
        current = self._open_round(epoch, now)
        if current is None or digest in current.votes.get(directory, {}):
            return []
        if not any(current.once("held", directory, number) for number in range(MAX_VOTES_EACH)):
            return []
        return [FetchVotes(directory, epoch, (digest,))]

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Takes one event.

        Raises:
            Malformed: a ballot that is not one, or not signed by the directory that it names.
        """
        match event:
            case BallotReceived(kind, data, sender):
                return self._ballot(kind, data, sender, now)
            case DescriptorsAdded():
                return self._advance_current(now)
            case ViewArrived(certified):
                self._hold(certified)
                return self._advance_current(now)

    def tick(self, now: float) -> list[Effect]:
        """Does what is due."""
        epoch = self._clock.epoch_at(now)
        for old in [number for number in self._rounds if abs(number - epoch) > 1]:
            del self._rounds[old]
        if epoch == NO_EPOCH or now < self._clock.cutoff(epoch):
            return []
        return self._vote(self._round(epoch), now) + self._advance_current(now)

    # --- what came in

    def _ballot(self, kind: BallotKind, data: bytes, sender: int | None, now: float) -> list[Effect]:
        match kind:
            case BallotKind.VOTE:
                return self._take_vote(data, sender, now)
            case BallotKind.ECHO:
                return self._take_echo(data, now)
            case BallotKind.SIGNATURE:
                return self._take_share(data, now)

    def _take_vote(self, data: bytes, sender: int | None, now: float) -> list[Effect]:
        vote = Vote.decode_untrusted(data)
        current, digest = self._open_round(vote.epoch, now), vote_digest(data)
        if current is None and sender == vote.directory:
            self._stray_vote(vote, data, now)
        if current is None or digest in (held := current.votes.get(vote.directory, {})):
            return []
        if len(held) >= MAX_VOTES_EACH:
            return []
        verify_vote_untrusted(data, self._genesis)
        if sender == vote.directory:
            self.clocks.note(vote.directory, vote.time, now)
        current.votes.setdefault(vote.directory, {})[digest] = (vote, data)
        return self._after_vote(current, vote) + self._advance(current, now)

    def _stray_vote(self, vote: Vote, data: bytes, now: float) -> None:
        """A vote of an epoch that we are not in: somebody's clock is off. Looked at once an epoch of ours."""
        if self._round(self._clock.epoch_at(now)).once("stray", vote.directory):
            verify_vote_untrusted(data, self._genesis)
            self.clocks.note(vote.directory, vote.time, now)

    def _after_vote(self, current: Round, vote: Vote) -> list[Effect]:
        """A second vote is evidence; a first one may name what we have not got."""
        held = list(current.votes[vote.directory].values())
        if len(held) > 1:
            return [Evidence(vote.directory, BallotKind.VOTE, held[0][1], held[1][1])]
        effects: list[Effect] = []
        if vote.previous_epoch > self._newest[0] and current.once("view", vote.directory):
            effects.append(FetchView(vote.directory))
        missing = tuple(sorted(e.descriptor for e in vote.entries if e.descriptor not in self._pool))
        if missing and vote.directory != self._index:
            effects.append(FetchDescriptors(vote.directory, missing))
        return effects

    def _take_echo(self, data: bytes, now: float) -> list[Effect]:
        echo = Echo.decode_untrusted(data)
        current = self._open_round(echo.epoch, now)
        if current is None or echo.directory in current.echoes:
            return []
        verify_echo_untrusted(data, self._genesis)
        current.echoes[echo.directory] = echo
        return self._fetch_votes(current, echo) + self._advance(current, now)

    def _fetch_votes(self, current: Round, echo: Echo) -> list[Effect]:
        """An echo that names a vote we have not got: late, or one of two that its directory sent about."""
        missing = tuple(sorted(digest for index, digest in echo.held if digest not in current.votes.get(index, {})))
        if not missing or echo.directory == self._index:
            return []
        return [FetchVotes(echo.directory, echo.epoch, missing)]

    def _take_share(self, data: bytes, now: float) -> list[Effect]:
        share = ViewSignature.decode_untrusted(data)
        current = self._open_round(share.epoch, now)
        if current is None:
            return []
        held = current.shares.get(share.directory)
        same = held is not None and held[0].subject == share.subject
        if same or (BallotKind.SIGNATURE, share.directory) in current.accused:
            return []
        verify_signature_untrusted(data, self._genesis)
        if held is not None:
            current.accused.add((BallotKind.SIGNATURE, share.directory))
            return [Evidence(share.directory, BallotKind.SIGNATURE, held[1], data)]
        current.shares[share.directory] = (share, data)
        return self._pass_on(current) + self._advance(current, now)

    def _pass_on(self, current: Round) -> list[Effect]:
        """Shares of another view than ours, once each: whoever got the other share of who signed two has the proof."""
        own = current.shares.get(self._index)
        if own is None:
            return []
        others = (data for share, data in current.shares.values() if share.subject != own[0].subject)
        return [Broadcast(BallotKind.SIGNATURE, data) for data in others if current.once("passed on", data)]

    def _open_round(self, epoch: int, now: float) -> Round | None:
        """The round of an epoch that may still matter: the last, this one, or (another clock) the next."""
        return self._round(epoch) if abs(epoch - self._clock.epoch_at(now)) <= 1 and epoch > NO_EPOCH else None

    def _round(self, epoch: int) -> Round:
        return self._rounds.setdefault(epoch, Round(epoch))

    def _hold(self, certified: CertifiedView) -> None:
        view, digest = certified.view, certified.digest
        self._views[digest] = view
        for old in sorted(self._views, key=lambda d: self._views[d].epoch)[:-KEPT_VIEWS]:
            del self._views[old]
        if view.epoch > self._newest[0]:
            self._newest = (view.epoch, digest)
            self._candidates.note(view)
        if view.epoch in self._rounds:
            self._rounds[view.epoch].certified = True

    # --- what goes out

    def _vote(self, current: Round, now: float) -> list[Effect]:
        if current.voted or self.clock_doubt(now):
            return []
        current.voted = True
        if not self._memory.may_vote(current.epoch):
            return []  # before a restart: a second vote would be taken for a lie
        entries = self._candidates.entries(current.epoch, now)
        if self._newest[0] == NO_EPOCH and len(entries) < self._genesis.min_relays:
            return []  # no first view can come of it
        self._memory = self._memory.with_vote(current.epoch)
        vote = Vote(
            network_id=self._genesis.network_id,
            epoch=current.epoch,
            directory=self._index,
            previous_epoch=self._newest[0],
            previous=self._newest[1],
            time=int(now),
            entries=entries,
            pending=self._pending(current.epoch),
        )
        data = sign_vote(vote, self._key)
        current.votes.setdefault(self._index, {})[vote_digest(data)] = (vote, data)
        return [Remember(self._memory), Broadcast(BallotKind.VOTE, data)]

    def _advance_current(self, now: float) -> list[Effect]:
        epoch = self._clock.epoch_at(now)
        return self._advance(self._rounds[epoch], now) if epoch in self._rounds else []

    def _advance(self, current: Round, now: float) -> list[Effect]:
        """Echoes, counts, signs and certifies as far as what is held allows."""
        if current.certified:
            return []
        effects: list[Effect] = []
        if current.voted and now < self._clock.end(current.epoch):
            effects += self._echo(current, now)
            effects += self._count(current, now)
        return effects + self._certify(current)

    def _echo(self, current: Round, now: float) -> list[Effect]:
        singles = current.single_votes()
        due = len(singles) == self._genesis.size or now >= self._clock.echo_deadline(current.epoch)
        if current.echoed or not due:
            return []
        current.echoed = True
        echo = Echo(self._genesis.network_id, current.epoch, self._index, tuple(singles.items()))
        current.echoes.setdefault(self._index, echo)
        return [Broadcast(BallotKind.ECHO, sign_echo(echo, self._key))]

    def _count(self, current: Round, now: float) -> list[Effect]:
        all_echoed = len(current.echoes) == self._genesis.size
        due = all_echoed or now >= self._clock.sign_deadline(current.epoch)
        if current.signed or not current.echoed or not due:
            return []
        votes = self._counted(current)
        agreed = None if votes is None else tally.agreed_previous(votes, self._genesis)
        if votes is None or agreed is None:
            return []
        if agreed[1] != NO_DIGEST and agreed[1] not in self._views:
            followers = (vote.directory for vote in votes if (vote.previous_epoch, vote.previous) == agreed)
            return current.fetch_view((i for i in followers if i != self._index), "previous")
        return self._build(current, votes, self._views.get(agreed[1]), agreed[1])

    def _counted(self, current: Round) -> list[Vote] | None:
        """Votes that a quorum echoed and of whose directory no other vote is known; None while one is
        missing."""
        echoed = Counter(pair for echo in current.echoes.values() for pair in echo.held)
        counted: list[Vote] = []
        for (index, digest), count in sorted(echoed.items()):
            held = current.votes.get(index, {})
            if count < self._genesis.quorum or len(held) > 1:
                continue
            if digest not in held:
                return None
            counted.append(held[digest][0])
        return counted

    def _build(self, current: Round, votes: list[Vote], previous: View | None, digest: bytes) -> list[Effect]:
        chosen = tally.choose(votes, self._genesis)
        missing = {one.descriptor for one in chosen if one.descriptor not in self._pool}
        if missing:
            return self._fetch_chosen(current, votes, missing)
        descriptors = self._pool.descriptors([one.descriptor for one in chosen])
        pending = tally.agreed_pending(votes, self._genesis)
        view = tally.build_view(current.epoch, chosen, descriptors, previous, digest, self._genesis, pending)
        least = self._genesis.min_relays if previous is None else 1
        return self._sign(current, view) if len(view.entries) >= least else []

    def _fetch_chosen(self, current: Round, votes: list[Vote], missing: set[bytes]) -> list[Effect]:
        """Asks each directory once for what it has of `missing`."""
        effects: list[Effect] = []
        for vote in votes:
            has = tuple(sorted({e.descriptor for e in vote.entries} & missing))
            if has and vote.directory != self._index and current.once("chosen", vote.directory):
                effects.append(FetchDescriptors(vote.directory, has))
        return effects

    def _sign(self, current: Round, view: View) -> list[Effect]:
        """Signs, unless another digest of this epoch was signed before."""
        current.signed = True
        encoded = view.encode()
        digest = view_digest(encoded)
        current.views[digest] = (view, encoded)
        memory = self._memory
        if not memory.may_sign(view.epoch, digest):
            return []
        self._memory = memory.with_signature(view.epoch, digest)
        message = certificate_message(view.network_id, view.epoch, view.previous, digest, view.set_id)
        signature = self._key.sign(message, SIGN_VIEW)
        share = ViewSignature(view.network_id, view.epoch, self._index, view.previous, digest, view.set_id, signature)
        current.shares[self._index] = (share, share.encode())
        return [Remember(self._memory), Broadcast(BallotKind.SIGNATURE, share.encode()), *self._pass_on(current)]

    def _certify(self, current: Round) -> list[Effect]:
        counts = Counter(share.subject for share, _ in current.shares.values())
        winner = next((pair for pair, count in counts.items() if count >= self._genesis.quorum), None)
        if winner is None:
            return []
        shares = [share for _, (share, _) in sorted(current.shares.items())]
        signers = [share for share in shares if share.subject == winner]
        if winner[0] not in current.views:
            return current.fetch_view((s.directory for s in signers if s.directory != self._index), "certified")
        view, encoded = current.views[winner[0]]
        certified = CertifiedView(view, encoded, tuple((s.directory, s.signature) for s in signers))
        self._hold(certified)
        return [Certified(certified)]
