"""Events and effects of the voting machine (voting.py): what comes in, and what its driver has to carry out
in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.view import NO_DIGEST


class BallotKind(IntEnum):
    """What a broadcast message is."""

    VOTE = 1
    ECHO = 2
    SIGNATURE = 3


KEPT_EPOCHS = 64
"""Epochs voted and signed in that are remembered one by one."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a directory must not forget across a restart, or it would vote or sign twice.

    Epochs are remembered one by one, not the highest alone: a clock that stood ahead for a moment may have voted in an
    epoch that is to come, and must be able to go on in those before it. Of more than KEPT_EPOCHS the least are
    forgotten, and nothing is voted or signed in an epoch up to them any more.
    """

    voted: tuple[int, ...] = ()
    """Rising."""
    signed: tuple[tuple[int, bytes], ...] = ()
    """(epoch, digest of the view), rising."""
    voted_to: int = NO_EPOCH
    """No vote up to here."""
    signed_to: int = NO_EPOCH

    @property
    def voted_epoch(self) -> int:
        """The highest epoch voted in."""
        return max((*self.voted, self.voted_to))

    @property
    def signed_epoch(self) -> int:
        """The highest epoch of which a view was signed."""
        return self.signed[-1][0] if self.signed else self.signed_to

    @property
    def signed_digest(self) -> bytes:
        """The view that was signed of it."""
        return self.signed[-1][1] if self.signed else NO_DIGEST

    def may_vote(self, epoch: int) -> bool:
        return epoch > self.voted_to and epoch not in self.voted

    def may_sign(self, epoch: int, digest: bytes) -> bool:
        """Whether no other view of that epoch was signed."""
        return dict(self.signed).get(epoch, digest if epoch > self.signed_to else None) == digest

    def with_vote(self, epoch: int) -> Memory:
        voted = sorted({*self.voted, epoch})
        return replace(self, voted=tuple(voted[-KEPT_EPOCHS:]), voted_to=max((self.voted_to, *voted[:-KEPT_EPOCHS])))

    def with_signature(self, epoch: int, digest: bytes) -> Memory:
        signed = sorted({**dict(self.signed), epoch: digest}.items())
        forgotten = (old for old, _ in signed[:-KEPT_EPOCHS])
        return replace(self, signed=tuple(signed[-KEPT_EPOCHS:]), signed_to=max((self.signed_to, *forgotten)))


@dataclass(frozen=True, slots=True)
class BallotReceived:
    """A VOTE, ECHO or SIGNATURE came from the network."""

    kind: BallotKind
    data: bytes
    sender: int | None = None
    """The directory whose link it came by; None for anybody else's, and for what was asked for."""


@dataclass(frozen=True, slots=True)
class DescriptorsAdded:
    """The pool has grown."""


@dataclass(frozen=True, slots=True)
class ViewArrived:
    """A certified view that was verified came from elsewhere."""

    certified: CertifiedView


Event = BallotReceived | DescriptorsAdded | ViewArrived


@dataclass(frozen=True, slots=True)
class Remember:
    """Write this to disk, and have it there, before the next effect is carried out."""

    memory: Memory


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other directory."""

    kind: BallotKind
    data: bytes


@dataclass(frozen=True, slots=True)
class FetchDescriptors:
    """Ask this directory for descriptors that its vote names."""

    directory: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FetchVotes:
    """Ask this directory for votes that its echo names."""

    directory: int
    epoch: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FetchView:
    """Ask this directory for its newest certified view."""

    directory: int


@dataclass(frozen=True, slots=True)
class Certified:
    """A quorum has signed: this is the view of its epoch."""

    certified: CertifiedView


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two messages of one kind that this directory signed in one epoch: proof that it misbehaves."""

    directory: int
    kind: BallotKind
    first: bytes
    second: bytes


Effect = Remember | Broadcast | FetchDescriptors | FetchVotes | FetchView | Certified | Evidence
