"""What a directory answers to requests of other nodes and clients: cheap checks first, every refusal
alike."""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.descriptor import SignedDescriptor
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import genesis_text
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.replies import (
    Accepted,
    Changes,
    Code,
    Descriptors,
    GenesisReply,
    NotNewer,
    Records,
    RefusedReply,
    Reply,
    ViewReply,
    Votes,
    encode_reply,
    fitting,
)
from phantomband.core.netdir.requests import (
    Ballot,
    GetChanges,
    GetDescriptors,
    GetGenesis,
    GetOwn,
    GetRecords,
    GetView,
    GetViewDiff,
    GetVotes,
    Publish,
    Reconcile,
    Request,
    SubmitChange,
    Table,
    VoteHeld,
    decode_request_untrusted,
)
from phantomband.core.netdir.voting import Voting
from phantomband.core.netdir.voting_events import BallotKind
from phantomband.runtime.contained import Contained

from phantomband_directory.intake import Intake
from phantomband_directory.limits import Limits
from phantomband_directory.roster import Roster
from phantomband_directory.spread import Spread
from phantomband_directory.storage import Storage
from phantomband_directory.view_archive import ViewArchive

_MALFORMED = RefusedReply(Code.MALFORMED, "malformed, forged, expired or of another network")
_BUSY = RefusedReply(Code.BUSY, "too many requests: ask later or elsewhere")
_NOT_HERE = RefusedReply(Code.NOT_HERE, "this directory is not of the genesis set")


class Answers:
    """Serves requests from what the service holds.

    Args:
        intake: takes descriptors.
        voting: None when this directory does not vote.
        take_ballot: hands a ballot to the voting machine, with the directory whose link it came by; raises Malformed.
        take_change: takes a change of the directory set; raises Malformed.
        take_vote_held: that directory has a vote that was too long to send.
        spread: table and gossip.
        own: this node's descriptor, as far as there is one.
        storage: while it cannot remember what was voted, no vote is handed out.
    """

    def __init__(
        self,
        genesis: Genesis,
        pool: DescriptorPool,
        intake: Intake,
        voting: Voting | None,
        take_ballot: Callable[[BallotKind, bytes, int | None], None],
        take_change: Callable[[bytes], None],
        take_vote_held: Callable[[VoteHeld], None],
        roster: Roster,
        spread: Spread,
        storage: Storage,
        own: Callable[[], SignedDescriptor | None],
        contained: Contained,
    ) -> None:
        self._directories = {info.link_key: index for index, info in enumerate(genesis.directories)}
        self._pool, self._intake, self._voting = pool, intake, voting
        self._take_ballot, self._take_change, self._take_vote_held = take_ballot, take_change, take_vote_held
        self._roster, self._spread, self._storage = roster, spread, storage
        self._own, self._contained = own, contained
        self._archive = ViewArchive()
        self._genesis = GenesisReply(genesis_text(roster.sets.genesis).encode("ascii"))
        self._limits = Limits(frozenset(self._directories), spread.is_member, test_network=genesis.test_network)

    def answer(
        self, raw: bytes, peer: bytes, ip: bytes, view: CertifiedView | None, encoded: bytes | None, now: float
    ) -> bytes:
        """One reply to one request; never raises."""
        if not self._limits.allow(peer, now, ip):
            return encode_reply(_BUSY)
        reply = self._reply(raw, peer, ip, view, encoded)
        self._limits.answered(peer, ip, len(reply), now)
        return reply

    def _reply(self, raw: bytes, peer: bytes, ip: bytes, view: CertifiedView | None, encoded: bytes | None) -> bytes:
        try:
            return encode_reply(self._serve(decode_request_untrusted(raw), peer, ip, view, encoded))
        except Malformed:
            return encode_reply(_MALFORMED)
        except Refused as e:
            return encode_reply(RefusedReply(Code.FULL, str(e)))
        except Exception as e:  # noqa: BLE001 - the root of a peer's request: it ends here, not the service
            self._contained.bug(e)
            return encode_reply(_MALFORMED)

    def _serve(
        self, request: Request, peer: bytes, ip: bytes, view: CertifiedView | None, encoded: bytes | None
    ) -> Reply:
        self._archive.note(view)
        match request:
            case GetView(have_epoch):
                return _newer(have_epoch, view, encoded)
            case GetViewDiff():
                return self._archive.answer(request, view, encoded)
            case GetGenesis():
                return self._genesis
            case GetOwn():
                own = self._own()
                return _NOT_HERE if own is None else Records(((b"", own.encoded),))
            case GetChanges(number):
                return Changes(self._roster.handed_out(number))
            case SubmitChange(change):
                self._take_change(change)
                return Accepted()
            case Publish(descriptor, stamp):
                self._intake.take_untrusted(stamp, descriptor, self._spread.source(peer, ip))
                return Accepted()
            case Table() | Reconcile() | GetRecords():
                return self._spread.answer_untrusted(request, peer, ip)
            case _:
                return _NOT_HERE if self._voting is None else self._serve_voter(request, peer, self._voting)

    def _serve_voter(self, request: Request, peer: bytes, voting: Voting) -> Reply:
        match request:
            case GetDescriptors(digests):
                found = [one.encoded for one in map(self._pool.get, digests) if one is not None]
                return Descriptors(fitting(found))
            case Ballot(kind, data):
                self._take_ballot(kind, data, self._directories.get(peer))
                return Accepted()
            case GetVotes(epoch, digests):
                return Votes(fitting(voting.votes(epoch, digests)) if self._storage.may_vote else ())
            case VoteHeld(_, index) if self._directories.get(peer) == index:
                self._take_vote_held(request)
                return Accepted()
            case _:
                return _NOT_HERE


def _newer(have_epoch: int, view: CertifiedView | None, encoded: bytes | None) -> Reply:
    if view is None or encoded is None:
        return NotNewer(NO_EPOCH)
    return ViewReply(encoded) if view.view.epoch > have_epoch else NotNewer(view.view.epoch)
