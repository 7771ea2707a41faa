"""The genesis of a network: the root of trust that every part is started with (PROTOCOL.md section 7, point
1).

It names the network, its schedule and the directories whose quorum certifies views. Whoever holds the
directories' keys decides who is in the view: this is said openly, and anyone may write another genesis. The
network id is the hash of everything in it, so that two networks never mix and no field can be changed on
the way.

Canonical encoding, hashed under "phantomband-genesis-1" to the 32-byte network id:

    version 2 | name 1+n | test network 1 | start 8 | startup epochs 4 | startup seconds 4 | epoch seconds 4
    | min relays 2 | terms | count 1 | directories in their order

    terms     = n 2 | k 1 (0, 0: no work) | floor 1 | ceiling 1 | expected joins 2 | window 1
                | probation epochs 2 | notice epochs 2
    directory = nickname 1+n | identity 1,984 | link key 32 | addresses 1+n (address.py)

The set of directories changes later by its own quorum (changes.py): `with_directories` is the same network with
another set.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from phantomband.core.crypto.dh import check_public_untrusted
from phantomband.core.crypto.sign import ED25519_PUBLIC_BYTES, check_ed25519_untrusted
from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import MAX_ADDRESSES, NodeAddress, check_size, encode_addresses
from phantomband.core.netdir.codec import (
    IDENTITY_BYTES,
    Label,
    node_id_bytes,
    text_untrusted,
)
from phantomband.core.netdir.descriptor import check_nickname
from phantomband.core.netdir.epoch import EpochClock
from phantomband.core.wire import lv8, u8, u16, u32, u64
from phantomband.core.work.difficulty import FREE, DifficultyRule
from phantomband.core.work.equihash import Parameters

VERSION = 2

MAX_DIRECTORIES = 32
"""Public networks have 7 to 9, a laptop 1 to 4."""

MAX_NAME_BYTES = 64

MAX_EPOCHS = 65535
"""Of probation, or of notice."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a network asks of newcomers, and of changes of its directories. The default asks for nothing."""

    work: Parameters | None = None
    """Of Equihash; None: no stamps."""
    difficulty: DifficultyRule = FREE
    probation_epochs: int = 0
    """So long newcomers are neither guard nor exit, and their weight grows slowly."""
    notice_epochs: int = 2
    """A change of the directories acts so many epochs after they learn of it, at the least."""

    def __post_init__(self) -> None:
        if not (0 <= self.probation_epochs <= MAX_EPOCHS and 1 <= self.notice_epochs <= MAX_EPOCHS):
            raise UserError(f"Epochs of probation are 0 to {MAX_EPOCHS}, those of notice 1 to {MAX_EPOCHS}.")

    def encode(self) -> bytes:
        """Returns: 12 bytes."""
        rule, n, k = self.difficulty, 0, 0
        if self.work is not None:
            n, k = self.work.n, self.work.k
        work = u16(n) + u8(k) + u8(rule.floor) + u8(rule.ceiling) + u16(rule.expected) + u8(rule.window)
        return work + u16(self.probation_epochs) + u16(self.notice_epochs)


NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class DirectoryInfo:
    """One directory of the genesis set: its identity, and the gateway of its node."""

    nickname: str
    identity: bytes
    link_key: bytes
    addresses: tuple[NodeAddress, ...]
    node_id: NodeId = field(init=False, compare=False)

    def __post_init__(self) -> None:
        check_nickname(self.nickname)
        if len(self.identity) != IDENTITY_BYTES:
            raise Malformed(f"identity has {IDENTITY_BYTES} bytes, not {len(self.identity)}")
        check_ed25519_untrusted(self.identity[:ED25519_PUBLIC_BYTES])
        check_public_untrusted(self.link_key, "link_key")
        if not 1 <= len(self.addresses) <= MAX_ADDRESSES:
            raise Malformed(f"a directory has 1 to {MAX_ADDRESSES} addresses")
        check_size(self.addresses)
        object.__setattr__(self, "node_id", NodeId(node_id_bytes(self.identity)))

    def encode(self) -> bytes:
        return lv8(self.nickname.encode()) + self.identity + self.link_key + encode_addresses(self.addresses)


@dataclass(frozen=True, slots=True)
class Genesis:
    """What a genesis file says. `test_network` allows exits to private addresses and paths inside one
    subnet."""

    name: str
    test_network: bool
    clock: EpochClock
    min_relays: int
    directories: tuple[DirectoryInfo, ...]
    terms: Terms = NO_TERMS
    changed: bytes = b""
    """Network id of the genesis that this one has come from by changes of the set; empty for the file itself."""
    network_id: bytes = field(init=False)
    set_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("network must not be empty.")
        text_untrusted(self.name.encode("utf-8", "replace"), "network", MAX_NAME_BYTES)
        if not 1 <= self.min_relays <= 65535:
            raise UserError("min_relays must be 1 to 65535.")
        if not 1 <= len(self.directories) <= MAX_DIRECTORIES:
            raise UserError(f"directories must name 1 to {MAX_DIRECTORIES}.")
        identities = [directory.identity for directory in self.directories]
        if len(set(identities)) != len(identities):
            raise UserError("directories name one identity twice; each needs its own key.")
        object.__setattr__(self, "network_id", self.changed or Label.GENESIS.digest(self.encode()))
        object.__setattr__(self, "set_id", Label.DIRECTORY_SET.digest(u8(len(identities)) + b"".join(identities)))

    def with_directories(self, directories: tuple[DirectoryInfo, ...]) -> Self:
        """The same network with another set of directories."""
        return replace(self, directories=directories, changed=self.network_id)

    def at(self, epoch: int) -> Self:
        """Itself: as a `changes.Sets` without any change."""
        return self

    @property
    def size(self) -> int:
        """n, the number of directories."""
        return len(self.directories)

    @property
    def quorum(self) -> int:
        """q = floor(2n/3) + 1."""
        return 2 * self.size // 3 + 1

    @property
    def majority(self) -> int:
        """The least number above n/2."""
        return self.size // 2 + 1

    @property
    def witnesses(self) -> int:
        """n - q + 1: among so many there is one that is neither faulty nor silent, when a quorum is
        honest."""
        return self.size - self.quorum + 1

    def index_of(self, node_id: NodeId) -> int | None:
        """Position of a directory in the set, or None for any other node."""
        return next((i for i, d in enumerate(self.directories) if d.node_id == node_id), None)

    def encode(self) -> bytes:
        """Canonical encoding of everything but the network id."""
        clock = self.clock
        return b"".join(
            (
                u8(VERSION),
                lv8(self.name.encode()),
                u8(self.test_network),
                u64(clock.start_time),
                u32(clock.startup_epochs),
                u32(clock.startup_seconds),
                u32(clock.epoch_seconds),
                u16(self.min_relays),
                self.terms.encode(),
                u8(len(self.directories)),
                *(directory.encode() for directory in self.directories),
            )
        )
