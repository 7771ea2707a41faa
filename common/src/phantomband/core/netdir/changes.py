"""Changes of the directory set: who certifies views from which epoch on. PROTOCOL.md section 7, point 5.

    change    = version 1 | network id 32 | number 4 (from 1) | old set id 32 | acts at epoch 8
              | removed count 1 | node id 32 each, sorted | added count 1 | directory each (genesis.py)
              | signature count 1 | (directory index 1 | signature 3,373) each, sorted

A quorum of the old set signs (core/crypto/sign.py, context "set-change") everything up to the signature count. The
digest is over that part, so it names one change whoever has signed it. The new set is the old one without the removed,
then the added ones in their order; indices of ballots and signatures count in the set of their epoch.

Whoever has slept follows the chain of changes from the genesis file: each is signed by the set that the one before
made. Two different changes of one number are a fork of the network, and are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

from phantomband.core.crypto.labels import SIGN_SET_CHANGE
from phantomband.core.crypto.sign import IdentityPublicKey, Signer
from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.address import read_addresses_untrusted
from phantomband.core.netdir.codec import (
    DIGEST_BYTES,
    IDENTITY_BYTES,
    KEY_BYTES,
    SIGNATURE_BYTES,
    Label,
    sorted_unique,
    text_untrusted,
)
from phantomband.core.netdir.descriptor import MAX_NICKNAME_BYTES
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.netdir.genesis import MAX_DIRECTORIES, DirectoryInfo, Genesis
from phantomband.core.wire import Reader, u8, u32, u64

VERSION = 1

MAX_CHANGE_BYTES = 63 * 1024
"""So that it fits a request: some nine directories added, signed by nine."""

MAX_CHANGES = 4096
"""That a network can have; more would be a denial of service of its own directories."""


class Sets(Protocol):
    """The directories of a network, whose set may change: a `Genesis`, or a `DirectorySets`."""

    @property
    def network_id(self) -> bytes: ...

    @property
    def clock(self) -> EpochClock: ...

    def at(self, epoch: int) -> Genesis:
        """The network with the set that certifies `epoch`."""


@dataclass(frozen=True, slots=True)
class SetChange:
    """One change, with the signatures that it has so far."""

    network_id: bytes
    number: int
    old_set: bytes
    acts_at: int
    removed: tuple[NodeId, ...]
    added: tuple[DirectoryInfo, ...]
    signatures: tuple[tuple[int, bytes], ...] = ()

    def __post_init__(self) -> None:
        if not (self.number >= 1 and self.acts_at >= 1):
            raise Malformed("changes and epochs are numbered from 1")
        if not (self.removed or self.added):
            raise Malformed("a change that changes nothing")
        sorted_unique(self.removed, "removed node ids")
        sorted_unique([index for index, _ in self.signatures], "signatures")

    def body(self) -> bytes:
        """What is signed."""
        return b"".join(
            (
                u8(VERSION),
                self.network_id,
                u32(self.number),
                self.old_set,
                u64(self.acts_at),
                u8(len(self.removed)),
                *self.removed,
                u8(len(self.added)),
                *(directory.encode() for directory in self.added),
            )
        )

    @property
    def digest(self) -> bytes:
        """32 bytes: what votes and views name."""
        return Label.SET_CHANGE.digest(self.body())

    def encode(self) -> bytes:
        signed = b"".join(u8(index) + signature for index, signature in self.signatures)
        return self.body() + u8(len(self.signatures)) + signed

    def signed_by(self, index: int, key: Signer) -> Self:
        """With the signature of the directory at `index` of the old set."""
        mine = (index, key.sign(self.body(), SIGN_SET_CHANGE))
        return replace(self, signatures=tuple(sorted([s for s in self.signatures if s[0] != index] + [mine])))

    def merged(self, other: Self) -> Self:
        """With the signatures of a copy of the same change too. Raises: UserError: it is another change."""
        if other.body() != self.body():
            raise UserError("These are two different changes. Sign one and the same file.")
        return replace(self, signatures=tuple(sorted(dict((*self.signatures, *other.signatures)).items())))

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Checks form only."""
        if len(data) > MAX_CHANGE_BYTES:
            raise Malformed(f"a change of {len(data)} bytes is over the limit of {MAX_CHANGE_BYTES}")
        reader = Reader(data)
        if (version := reader.u8()) != VERSION:
            raise Malformed(f"unknown version {version} of a change of the directory set")
        network_id, number = reader.take(DIGEST_BYTES), reader.u32()
        old_set, acts_at = reader.take(DIGEST_BYTES), reader.u64()
        removed = tuple(NodeId(reader.take(NODE_ID_BYTES)) for _ in range(_count(reader)))
        added = tuple(_read_directory(reader) for _ in range(_count(reader)))
        signatures = tuple((reader.u8(), reader.take(SIGNATURE_BYTES)) for _ in range(_count(reader)))
        reader.end()
        return cls(network_id, number, old_set, acts_at, removed, added, signatures)

    def check_signatures_untrusted(self, old: Genesis) -> None:
        """Returns if a quorum of `old` signed.

        Raises:
            Malformed: fewer did, or others.
            Forged: a signature does not verify.
        """
        if len(self.signatures) < old.quorum:
            raise Malformed(f"the change has {len(self.signatures)} signatures, {old.quorum} are needed")
        body = self.body()
        for index, signature in self.signatures:
            if index >= old.size:
                raise Malformed(f"the set has no directory {index}")
            IdentityPublicKey(old.directories[index].identity).verify(signature, body, SIGN_SET_CHANGE)


def propose(
    old: Genesis, number: int, acts_at: int, removed: Iterable[NodeId], added: Sequence[DirectoryInfo]
) -> SetChange:
    """An unsigned change of the set `old`.

    Raises:
        UserError: it cannot be: somebody is removed who is not in the set, added who is, or nobody would be left.
    """
    change = SetChange(old.network_id, number, old.set_id, acts_at, tuple(sorted(removed)), tuple(added))
    apply(change, old)
    if len(change.encode()) + old.quorum * (1 + SIGNATURE_BYTES) > MAX_CHANGE_BYTES:
        raise UserError("The change is too large. Make it in several steps.")
    return change


def apply(change: SetChange, old: Genesis) -> Genesis:
    """The network with the new set.

    Raises:
        UserError: the change does not fit `old`; says why.
    """
    members = {directory.node_id for directory in old.directories}
    if strangers := set(change.removed) - members:
        raise UserError(f"{next(iter(strangers))} is not in the set and cannot be removed.")
    kept = tuple(d for d in old.directories if d.node_id not in change.removed)
    if twice := {d.node_id for d in kept} & {d.node_id for d in change.added}:
        raise UserError(f"{next(iter(twice))} is in the set already.")
    return old.with_directories((*kept, *change.added))


class DirectorySets:
    """All sets that a network has had, as far as they are known here."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self._changes: list[SetChange] = []
        self._sets: list[tuple[int, Genesis]] = [(0, genesis)]

    @property
    def network_id(self) -> bytes:
        return self.genesis.network_id

    @property
    def clock(self) -> EpochClock:
        return self.genesis.clock

    @property
    def newest(self) -> Genesis:
        """After all changes known, those included that do not act yet."""
        return self._sets[-1][1]

    @property
    def next_number(self) -> int:
        """Of the first change that is not known here."""
        return len(self._changes) + 1

    @property
    def changes(self) -> tuple[SetChange, ...]:
        return tuple(self._changes)

    def at(self, epoch: int) -> Genesis:
        """The network with the set that certifies `epoch`."""
        return next(genesis for acts_at, genesis in reversed(self._sets) if acts_at <= epoch)

    def pending(self, epoch: int) -> bytes:
        """Digest of the newest change, if it acts after `epoch`; else 32 zeros."""
        if self._changes and self._changes[-1].acts_at > epoch:
            return self._changes[-1].digest
        return bytes(DIGEST_BYTES)

    def encoded(self, number: int, count: int) -> list[bytes]:
        """At most `count` changes from `number` on."""
        return [change.encode() for change in self._changes[max(0, number - 1) :][:count]]

    def offer_untrusted(self, data: bytes, not_before: int = 0) -> bool:
        """Takes the next change of the chain.

        Args:
            not_before: the first epoch that it may act at: directories insist on notice when it is new to them.

        Returns: whether it was new.

        Raises:
            Malformed: not a change of this network, not the next one, without notice or without quorum, or one that
                contradicts a change known.
            Forged: a signature does not verify.
        """
        change = SetChange.decode_untrusted(data)
        if change.network_id != self.network_id:
            raise Malformed("the change belongs to another network")
        if change.number < self.next_number:
            if self._changes[change.number - 1].digest != change.digest:
                raise Malformed(f"another change {change.number} is known already")
            return False
        if change.number > min(self.next_number, MAX_CHANGES):
            raise Malformed(f"change {change.number} before change {self.next_number}")
        old = self.newest
        if change.old_set != old.set_id or change.acts_at <= self._sets[-1][0]:
            raise Malformed("the change does not follow the one before")
        if change.acts_at < not_before:
            raise Malformed(f"the change acts at epoch {change.acts_at}, without the notice that is asked for")
        change.check_signatures_untrusted(old)
        try:
            new = apply(change, old)
        except UserError as e:
            raise Malformed(str(e)) from e
        self._changes.append(change)
        self._sets.append((change.acts_at, new))
        return True


def _count(reader: Reader) -> int:
    if (count := reader.u8()) > MAX_DIRECTORIES:
        raise Malformed(f"a set has at most {MAX_DIRECTORIES} directories")
    return count


def _read_directory(reader: Reader) -> DirectoryInfo:
    return DirectoryInfo(
        nickname=text_untrusted(reader.lv8(), "nickname", MAX_NICKNAME_BYTES),
        identity=reader.take(IDENTITY_BYTES),
        link_key=reader.take(KEY_BYTES),
        addresses=read_addresses_untrusted(reader),
    )
