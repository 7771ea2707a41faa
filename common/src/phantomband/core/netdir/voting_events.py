"""Events and effects of the voting machine (voting.py): what comes in, and what its driver has to carry out
in order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.epoch import NO_EPOCH
from phantomband.core.netdir.view import NO_DIGEST


class BallotKind(IntEnum):
    """What a broadcast message is."""

    VOTE = 1
    ECHO = 2
    SIGNATURE = 3


@dataclass(frozen=True, slots=True)
class Memory:
    """What a directory must not forget across a restart, or it would vote or sign twice."""

    voted_epoch: int = NO_EPOCH
    signed_epoch: int = NO_EPOCH
    signed_digest: bytes = NO_DIGEST


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
