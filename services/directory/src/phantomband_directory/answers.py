"""What a directory answers to requests of other nodes and clients: cheap checks first, every refusal
alike."""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.admission import Admission
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.descriptor import SignedDescriptor, descriptor_digest
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.requests import (
    Accepted,
    Ballot,
    Code,
    Descriptors,
    GetDescriptors,
    GetView,
    GetVotes,
    NotNewer,
    Publish,
    RefusedReply,
    Reply,
    Request,
    ViewReply,
    Votes,
    decode_request_untrusted,
    encode_reply,
    fitting,
)
from phantomband.core.netdir.voting import Voting
from phantomband.core.netdir.voting_events import BallotKind

from phantomband_directory.limits import Limits

_MALFORMED = RefusedReply(Code.MALFORMED, "malformed, forged, expired or of another network")
_BUSY = RefusedReply(Code.BUSY, "too many requests: ask later or elsewhere")
_NOT_HERE = RefusedReply(Code.NOT_HERE, "this directory is not of the genesis set")


class Answers:
    """Serves requests from what the service holds.

    Args:
        admission: what it asks of descriptors.
        voting: None when this directory does not vote.
        take_ballot: hands a ballot to the voting machine; raises Malformed.
        take_descriptor: hands a verified descriptor to the pool; raises Malformed or Refused.
    """

    def __init__(
        self,
        genesis: Genesis,
        pool: DescriptorPool,
        admission: Admission,
        voting: Voting | None,
        take_ballot: Callable[[BallotKind, bytes], None],
        take_descriptor: Callable[[SignedDescriptor], None],
    ) -> None:
        self._pool, self._admission, self._voting = pool, admission, voting
        self._take_ballot, self._take_descriptor = take_ballot, take_descriptor
        self._limits = Limits(frozenset(directory.link_key for directory in genesis.directories))

    def answer(self, raw: bytes, peer: bytes, view: CertifiedView | None, encoded: bytes | None, now: float) -> bytes:
        """One reply to one request; never raises."""
        if not self._limits.allow(peer, now):
            return encode_reply(_BUSY)
        try:
            return encode_reply(self._serve(decode_request_untrusted(raw), view, encoded, now))
        except Malformed:
            return encode_reply(_MALFORMED)
        except Refused as e:
            return encode_reply(RefusedReply(Code.FULL, str(e)))

    def _serve(self, request: Request, view: CertifiedView | None, encoded: bytes | None, now: float) -> Reply:
        if isinstance(request, GetView):
            return _newer(request.have_epoch, view, encoded)
        if self._voting is None:
            return _NOT_HERE
        match request:
            case Publish(descriptor):
                return self._publish(descriptor, now)
            case GetDescriptors(digests):
                found = [one.encoded for one in map(self._pool.get, digests) if one is not None]
                return Descriptors(fitting(found))
            case Ballot(kind, data):
                self._take_ballot(kind, data)
                return Accepted()
            case GetVotes(epoch, digests):
                return Votes(fitting(self._voting.votes(epoch, digests)))

    def _publish(self, raw: bytes, now: float) -> Reply:
        """Up the ladder of admission; repetition and room are looked at before the signature. The sender's rate is
        bounded by its link key."""
        descriptor = self._admission.check_unverified(b"", raw, None, now)
        if descriptor_digest(raw) not in self._pool:
            self._pool.check(descriptor, now)
            self._take_descriptor(self._admission.verify_untrusted(raw))
        return Accepted()


def _newer(have_epoch: int, view: CertifiedView | None, encoded: bytes | None) -> Reply:
    if view is None or encoded is None:
        return NotNewer(NO_EPOCH)
    return ViewReply(encoded) if view.view.epoch > have_epoch else NotNewer(view.view.epoch)
