"""Certified views: a view with signatures of a quorum of the genesis set; whoever hands it over need not be
trusted.

    certified = version 1 | length 4 | view | count 1 | (directory index 1 | signature 3,373) * count

Indices are sorted and unique. Each signature (core/crypto/sign.py, context "view") is over
network id 32 | epoch 8 | previous view's digest 32 | view digest 32 | directory set id 32.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Self

from phantomband.core.crypto.labels import SIGN_VIEW
from phantomband.core.crypto.sign import IdentityPublicKey
from phantomband.core.errors import Malformed, PhantomBandError
from phantomband.core.netdir.changes import Sets
from phantomband.core.netdir.codec import SIGNATURE_BYTES, sorted_unique
from phantomband.core.netdir.epoch import NO_EPOCH, EpochClock
from phantomband.core.netdir.genesis import MAX_DIRECTORIES, Genesis
from phantomband.core.netdir.view import MAX_VIEW_BYTES, NO_DIGEST, View, view_digest
from phantomband.core.wire import Reader, lv32, u8, u64

VERSION = 1

MAX_CERTIFIED_BYTES = MAX_VIEW_BYTES + 6 + MAX_DIRECTORIES * (1 + SIGNATURE_BYTES)

CLOCK_SKEW_SECONDS = 60
"""How far in the future a view's epoch may begin; wrong clocks are common on laptops."""


class TooFewSignatures(Malformed):
    """The view is not certified: fewer than a quorum of the genesis set signed it."""


class UnknownSet(Malformed):
    """Certified by directories that the changes known here do not lead to: there may be newer changes to ask for."""


class RolledBack(Malformed):
    """An older view than one already accepted: whoever sent it is behind, or wants us to be."""


class Expired(Malformed):
    """Older than any view that may still be used."""


class NotYetValid(Malformed):
    """From the future: either our clock is slow, or the directories' clocks are fast."""


class Forked(PhantomBandError):
    """Two certified views of one epoch with different digests, or one that follows another view of its epoch than the
    one held: directories broke their promise.

    `first` and `second` are the proof; `culprits` are the indices of the directories that signed both.
    """

    def __init__(self, first: CertifiedView, second: CertifiedView) -> None:
        self.first, self.second = first, second
        self.culprits = sorted({i for i, _ in first.signatures} & {i for i, _ in second.signatures})
        who = ", ".join(str(index) for index in self.culprits)
        epochs = first.view.epoch, second.view.epoch
        what = f"epoch {epochs[0]} has two certified views"
        if epochs[0] != epochs[1]:
            what += f", the one held here and the one that the view of epoch {epochs[1]} follows"
        super().__init__(
            f"{what}; directories {who} of the genesis set signed both. Do not use this network until its operators "
            "have explained it"
        )


class Freshness(Enum):
    """How a view stands in time."""

    FRESH = "fresh"
    VALID = "valid"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class CertifiedView:
    """A view, the bytes that were signed, and who signed them."""

    view: View
    view_bytes: bytes
    signatures: tuple[tuple[int, bytes], ...]

    @property
    def digest(self) -> bytes:
        return view_digest(self.view_bytes)

    def encode(self) -> bytes:
        signed = b"".join(u8(index) + signature for index, signature in self.signatures)
        return u8(VERSION) + lv32(self.view_bytes) + u8(len(self.signatures)) + signed

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Checks form only."""
        reader = Reader(data)
        if (version := reader.u8()) != VERSION:
            raise Malformed(f"unknown version {version} of a certified view")
        view_bytes = reader.lv32(MAX_VIEW_BYTES)
        count = reader.u8()
        if count > MAX_DIRECTORIES:
            raise Malformed(f"a view has at most {MAX_DIRECTORIES} signatures")
        signatures = tuple((reader.u8(), reader.take(SIGNATURE_BYTES)) for _ in range(count))
        reader.end()
        sorted_unique([index for index, _ in signatures], "signatures")
        return cls(View.decode_untrusted(view_bytes), view_bytes, signatures)


def certificate_message(network_id: bytes, epoch: int, previous: bytes, digest: bytes, set_id: bytes) -> bytes:
    """What a directory signs, at most one digest an epoch."""
    return network_id + u64(epoch) + previous + digest + set_id


def freshness(view: View, clock: EpochClock, now: float) -> Freshness:
    """Whether `view` is the newest there should be, in force, in need of a warning, or of no use."""
    if now < view.fresh_until:
        return Freshness.FRESH
    if now < view.valid_until:
        return Freshness.VALID
    return Freshness.STALE if now < clock.stale_until(view.epoch) else Freshness.EXPIRED


def verify_untrusted(data: bytes, sets: Sets, now: float, highest_epoch_seen: int) -> CertifiedView:
    """Checks everything that makes a view one to use: cheap checks first, signatures last.

    Args:
        sets: the directories whose quorum certifies, by epoch.
        highest_epoch_seen: epoch of the newest view accepted so far, 0 for none.

    Raises:
        Malformed: not a view of this network and genesis set, or (children) RolledBack, Expired, NotYetValid,
            TooFewSignatures, UnknownSet.
        Forged: a signature does not verify.
    """
    certified = CertifiedView.decode_untrusted(data)
    view = certified.view
    if view.network_id != sets.network_id:
        raise Malformed("the view belongs to another network")
    if view.set_id != (genesis := sets.at(view.epoch)).set_id:
        raise UnknownSet("the view was certified by a set of directories that is not known here")
    _check_times(view, genesis.clock, now)
    if view.epoch < highest_epoch_seen:
        raise RolledBack(f"view of epoch {view.epoch}, but epoch {highest_epoch_seen} was seen already")
    _check_signatures(certified, genesis)
    return certified


MAX_FOLLOWED = 32
"""Digests of views taken that a keeper remembers, and as many of views that it refused to cross to."""


class ViewKeeper:
    """Holds the newest certified view of one party: never goes back, never crosses a fork.

    The view of the next epoch must follow the one held, one taken before it (the newest was certified late, and the
    others went on without it), or none (the directories began anew). Whoever was away longer sees a view whose
    predecessor it cannot know, and takes it.
    """

    def __init__(self, sets: Sets, highest_epoch_seen: int = NO_EPOCH) -> None:
        self._sets = sets
        self._highest = highest_epoch_seen
        self._followed: deque[bytes] = deque(maxlen=MAX_FOLLOWED)
        self._crossed: deque[bytes] = deque(maxlen=MAX_FOLLOWED)
        self.current: CertifiedView | None = None

    @property
    def highest_epoch(self) -> int:
        """To be stored, and given back at the next start."""
        return self._highest

    def offer(self, data: bytes, now: float) -> bool:
        """Takes a view from anyone.

        Returns: whether it is newer than the one held.

        Raises:
            Malformed: it is not to be used; the one held stays.
            Forked: it contradicts the one held, or follows one that does.
        """
        return self.accept(verify_untrusted(data, self._sets, now, self._highest))

    def accept(self, certified: CertifiedView) -> bool:
        """Takes a view that was verified. Raises: Forked: as `offer`."""
        held = self.current
        if held is not None and held.view.epoch == certified.view.epoch:
            if held.digest != certified.digest:
                self._crossed.append(certified.digest)
                raise Forked(held, certified)
            return False
        if certified.view.epoch < self._highest:
            return False
        if held is not None and self._crosses(held.view, certified.view):
            self._crossed.append(certified.digest)
            raise Forked(held, certified)
        self.current, self._highest = certified, certified.view.epoch
        self._followed.extend((certified.view.previous, certified.digest))
        return True

    def _crosses(self, held: View, newer: View) -> bool:
        if newer.previous in self._crossed:
            return True
        return newer.epoch == held.epoch + 1 and newer.previous not in self._followed and newer.previous != NO_DIGEST


def _check_times(view: View, clock: EpochClock, now: float) -> None:
    expected = (clock.end(view.epoch), clock.fresh_until(view.epoch), clock.valid_until(view.epoch))
    if (view.valid_after, view.fresh_until, view.valid_until) != expected:
        raise Malformed("the view's times are not those of its epoch")
    if view.valid_after > now + max(CLOCK_SKEW_SECONDS, clock.length(view.epoch)):
        raise NotYetValid("the view is from the future: check this machine's clock")
    if freshness(view, clock, now) is Freshness.EXPIRED:
        raise Expired("the view is too old to be used: check this machine's clock, or wait for the directories")


def _check_signatures(certified: CertifiedView, genesis: Genesis) -> None:
    if len(certified.signatures) < genesis.quorum:
        raise TooFewSignatures(f"{len(certified.signatures)} signatures, {genesis.quorum} are needed")
    view = certified.view
    message = certificate_message(view.network_id, view.epoch, view.previous, certified.digest, view.set_id)
    for index, signature in certified.signatures:
        if index >= genesis.size:
            raise Malformed(f"the genesis set has no directory {index}")
        IdentityPublicKey(genesis.directories[index].identity).verify(signature, message, SIGN_VIEW)
