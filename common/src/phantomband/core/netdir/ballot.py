"""What directories say to each other in an epoch: VOTE, ECHO, SIGNATURE. PROTOCOL.md section 7, point 2.

    head      = version 3 | network id 32 | epoch 8 | directory 1
    vote      = head | previous epoch 8 | previous digest 32 | time 8 | pending change's digest 32
              | count 2 | entries | signature 3,373
    entry     = node id 32 | descriptor digest 32 | published 8 | flags 2 | weight 4 | since 8 | reached 1  (87)
    echo      = head | count 1 | (directory 1 | vote digest 32) * count | signature 3,373
    share     = head | previous digest 32 | view digest 32 | set id 32 | signature 3,373

The signatures of vote and echo (contexts "vote" and "echo") cover all before them; that of a
share, the SIGNATURE message, is the one that goes into a certified view (certified.py).
Entries are sorted by node id, echoes by directory, without repeats. A vote's digest covers all but its
signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from phantomband.core.crypto.labels import SIGN_ECHO, SIGN_VIEW, SIGN_VOTE
from phantomband.core.crypto.sign import IdentityPublicKey, Signer
from phantomband.core.errors import Malformed
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.certified import certificate_message
from phantomband.core.netdir.codec import DIGEST_BYTES, SIGNATURE_BYTES, Label, sorted_unique
from phantomband.core.netdir.genesis import MAX_DIRECTORIES, Genesis
from phantomband.core.wire import Reader, u8, u16, u32, u64

VERSION = 3

MAX_VOTE_ENTRIES = 18_000
"""As many as a view has room for. A vote that is too long for a request is fetched by GET_VOTES (requests.py)."""


ENTRY_BYTES = NODE_ID_BYTES + DIGEST_BYTES + 8 + 2 + 4 + 8 + 1

MAX_VOTE_BYTES = (
    1
    + DIGEST_BYTES
    + 8
    + 1
    + 8
    + DIGEST_BYTES
    + 8
    + DIGEST_BYTES
    + 2
    + (MAX_VOTE_ENTRIES * ENTRY_BYTES + SIGNATURE_BYTES)
)
"""1.5 MB: a vote with as many entries as it may have."""


@dataclass(frozen=True, slots=True)
class VoteEntry:
    """One node as one directory sees it: which descriptor, since when, what for, how much."""

    node_id: NodeId
    descriptor: bytes
    published: int
    flags: int
    weight: int
    since: int = 0
    """Epoch of the first view that had the node, as this directory remembers it."""
    reached: int = 0xFF
    """At which addresses of the descriptor this directory reached the node: bit i for the i-th."""

    def encode(self) -> bytes:
        keys = self.node_id + self.descriptor + u64(self.published)
        return keys + u16(self.flags) + u32(self.weight) + u64(self.since) + u8(self.reached)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        node_id, descriptor = NodeId(reader.take(NODE_ID_BYTES)), reader.take(DIGEST_BYTES)
        return cls(node_id, descriptor, reader.u64(), reader.u16(), reader.u32(), reader.u64(), reader.u8())


@dataclass(frozen=True, slots=True)
class Vote:
    """All nodes that one directory would have in the view, and the view that it would follow."""

    network_id: bytes
    epoch: int
    directory: int
    previous_epoch: int
    previous: bytes
    time: int
    entries: tuple[VoteEntry, ...]
    pending: bytes = bytes(DIGEST_BYTES)
    """Of the change of the directory set that is known here and does not act yet."""

    def encode(self) -> bytes:
        """Everything but the signature."""
        head = u8(VERSION) + self.network_id + u64(self.epoch) + u8(self.directory)
        head += u64(self.previous_epoch) + self.previous + u64(self.time) + self.pending
        head += u16(len(self.entries))
        return head + b"".join(entry.encode() for entry in self.entries)

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Form only; the signature is skipped."""
        reader = Reader(data)
        network_id, epoch, directory = _read_head(reader)
        previous_epoch, previous, time = reader.u64(), reader.take(DIGEST_BYTES), reader.u64()
        pending, count = reader.take(DIGEST_BYTES), reader.u16()
        if count > MAX_VOTE_ENTRIES:
            raise Malformed(f"a vote has at most {MAX_VOTE_ENTRIES} entries, not {count}")
        entries = tuple(VoteEntry.read(reader) for _ in range(count))
        _skip_signature(reader)
        sorted_unique([entry.node_id for entry in entries], "entries of a vote")
        return cls(network_id, epoch, directory, previous_epoch, previous, time, entries, pending)


@dataclass(frozen=True, slots=True)
class Echo:
    """The votes that one directory holds, one a directory, as (directory, vote digest)."""

    network_id: bytes
    epoch: int
    directory: int
    held: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """Everything but the signature."""
        head = u8(VERSION) + self.network_id + u64(self.epoch) + u8(self.directory)
        return head + u8(len(self.held)) + b"".join(u8(index) + digest for index, digest in self.held)

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Form only; the signature is skipped."""
        reader = Reader(data)
        network_id, epoch, directory = _read_head(reader)
        count = reader.u8()
        if count > MAX_DIRECTORIES:
            raise Malformed(f"an echo names at most {MAX_DIRECTORIES} votes")
        held = tuple((reader.u8(), reader.take(DIGEST_BYTES)) for _ in range(count))
        _skip_signature(reader)
        sorted_unique([index for index, _ in held], "echoed votes")
        return cls(network_id, epoch, directory, held)


@dataclass(frozen=True, slots=True)
class ViewSignature:
    """One directory's share of a certificate."""

    network_id: bytes
    epoch: int
    directory: int
    previous: bytes
    view: bytes
    set_id: bytes
    signature: bytes

    @property
    def subject(self) -> tuple[bytes, bytes]:
        """What a directory may sign one of in an epoch: digests of the view and of the one before it."""
        return self.view, self.previous

    def message(self) -> bytes:
        return certificate_message(self.network_id, self.epoch, self.previous, self.view, self.set_id)

    def encode(self) -> bytes:
        head = u8(VERSION) + self.network_id + u64(self.epoch) + u8(self.directory)
        return head + self.previous + self.view + self.set_id + self.signature

    @classmethod
    def decode_untrusted(cls, data: bytes) -> Self:
        """Form only."""
        reader = Reader(data)
        network_id, epoch, directory = _read_head(reader)
        previous, view, set_id = (reader.take(DIGEST_BYTES) for _ in range(3))
        signature = reader.take(SIGNATURE_BYTES)
        reader.end()
        return cls(network_id, epoch, directory, previous, view, set_id, signature)


def vote_digest(encoded: bytes) -> bytes:
    """Returns: 32 bytes, the name of a signed vote in echoes."""
    return Label.VOTE.digest(encoded[:-SIGNATURE_BYTES])


def sign_vote(vote: Vote, key: Signer) -> bytes:
    """Returns: the vote as it is sent."""
    return vote.encode() + key.sign(vote.encode(), SIGN_VOTE)


def sign_echo(echo: Echo, key: Signer) -> bytes:
    """Returns: the echo as it is sent."""
    return echo.encode() + key.sign(echo.encode(), SIGN_ECHO)


def verify_vote_untrusted(data: bytes, genesis: Genesis) -> Vote:
    """Checks form, network and the signature of the directory that the vote names."""
    vote = Vote.decode_untrusted(data)
    _verify(data, _identity(vote, genesis), SIGN_VOTE)
    return vote


def verify_echo_untrusted(data: bytes, genesis: Genesis) -> Echo:
    """Checks form, network and the signature of the directory that the echo names."""
    echo = Echo.decode_untrusted(data)
    _verify(data, _identity(echo, genesis), SIGN_ECHO)
    return echo


def verify_signature_untrusted(data: bytes, genesis: Genesis) -> ViewSignature:
    """Checks form, network, set and the signature of the directory that it names."""
    share = ViewSignature.decode_untrusted(data)
    if share.set_id != genesis.set_id:
        raise Malformed("a signature of another set of directories")
    _identity(share, genesis).verify(share.signature, share.message(), SIGN_VIEW)
    return share


def _read_head(reader: Reader) -> tuple[bytes, int, int]:
    if (version := reader.u8()) != VERSION:
        raise Malformed(f"unknown version {version} of a directory's message")
    network_id, epoch, directory = reader.take(DIGEST_BYTES), reader.u64(), reader.u8()
    if directory >= MAX_DIRECTORIES:
        raise Malformed(f"directories are numbered below {MAX_DIRECTORIES}")
    return network_id, epoch, directory


def _skip_signature(reader: Reader) -> None:
    reader.take(SIGNATURE_BYTES)
    reader.end()


def _identity(message: Vote | Echo | ViewSignature, genesis: Genesis) -> IdentityPublicKey:
    if message.network_id != genesis.network_id:
        raise Malformed("a message of another network")
    if message.directory >= genesis.size:
        raise Malformed(f"the genesis set has no directory {message.directory}")
    return IdentityPublicKey(genesis.directories[message.directory].identity)


def _verify(data: bytes, identity: IdentityPublicKey, context: bytes) -> None:
    identity.verify(data[-SIGNATURE_BYTES:], data[:-SIGNATURE_BYTES], context)
