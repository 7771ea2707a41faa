"""A node's descriptor: who it is, its keys, where it listens, what it offers; signed by its identity.

    version 2 | network id 32 | identity 1,984 | link key 32 | onion key 32 | next onion key 32
    | addresses 1+n (address.py) | exit policy 2+n | bandwidth 8 | capacity 8 | family count 1
    | family node ids 32 each | nickname 1+n | software 1+n | mix strategy 1+n | padding 1+n
    | published 8 | expires 8 | succession 2 + (0 or 5,357) | signature 3,373

The signature (core/crypto/sign.py, context "descriptor") covers everything before it. The node id is not
carried: it is the hash of the identity. The digest that votes name covers all but the signature, which is
never twice the same.

    succession = previous identity 1,984 | its signature 3,373

An operator who changes the identity key keeps the node's standing so: the previous identity signs (context
"succession") network id 32 | node id 32 of the new one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Self

from phantomband.core.crypto.dh import check_public_untrusted
from phantomband.core.crypto.labels import SIGN_DESCRIPTOR, SIGN_SUCCESSION
from phantomband.core.crypto.sign import IdentityPublicKey, Signer
from phantomband.core.errors import Malformed
from phantomband.core.ids import NODE_ID_BYTES, NodeId
from phantomband.core.netdir.address import NodeAddress, check_size, encode_addresses, read_addresses_untrusted
from phantomband.core.netdir.codec import (
    DIGEST_BYTES,
    IDENTITY_BYTES,
    KEY_BYTES,
    SIGNATURE_BYTES,
    U64_MAX,
    Label,
    node_id_bytes,
    sorted_unique,
    text_untrusted,
)
from phantomband.core.netdir.exit_policy import MAX_POLICY_BYTES, cached_policy
from phantomband.core.wire import Reader, lv8, lv16, u8, u64

VERSION = 2

MAX_DESCRIPTOR_BYTES = 13 * 1024
"""With its signature: the largest that the limits below allow has 12,745."""

MAX_FAMILY = 16
"""Other nodes of the same operator that a descriptor may name."""

MAX_NICKNAME_BYTES = 32
MAX_SOFTWARE_BYTES = 64
MAX_MIX_BYTES = 128
MAX_PADDING_BYTES = 64

MAX_LISTED_BYTES = 1280
"""Of addresses, exit policy, mix strategy, padding and nickname together: what a descriptor puts into a view, which
everybody holds. A full view has room for some 190 bytes a relay: whoever takes seven times as much keeps out six."""

MAX_LIFETIME_SECONDS = 7 * 86400
"""From published to expires."""

SUCCESSION_BYTES = IDENTITY_BYTES + SIGNATURE_BYTES

NO_KEY = bytes(KEY_BYTES)
"""Stands for a next onion key that is not planned; no key that can be used is zero."""

_NICKNAME = re.compile(r"[A-Za-z0-9._-]{0,32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a node says of itself. Keys are raw bytes; times are Unix seconds; bandwidth and capacity bytes a second."""

    network_id: bytes
    identity: bytes
    link_key: bytes
    onion_key: bytes
    addresses: tuple[NodeAddress, ...]
    exit_policy: str
    bandwidth: int
    family: tuple[NodeId, ...]
    nickname: str
    software: str
    mix: str
    published: int
    expires: int
    padding: str = "off"
    """How the node paces its links (`core.shaping.Shape.text`); any text is taken, a later release may know more."""
    next_onion_key: bytes = NO_KEY
    """Takes the place of `onion_key` at the next rotation; the relay accepts it from now on. Zeros: none is planned."""
    capacity: int = 0
    """The most that the node has carried, as it measured; `bandwidth` is what it is willing to."""
    succession: bytes = b""
    """Empty, or 5,357 bytes."""
    node_id: NodeId = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for name, value, size in (
            ("network id", self.network_id, DIGEST_BYTES),
            ("identity", self.identity, IDENTITY_BYTES),
        ):
            if len(value) != size:
                raise Malformed(f"a descriptor's {name} has {size} bytes, not {len(value)}")
        check_public_untrusted(self.link_key, "a descriptor's link key")
        check_public_untrusted(self.onion_key, "a descriptor's onion key")
        if self.next_onion_key != NO_KEY:
            check_public_untrusted(self.next_onion_key, "a descriptor's next onion key")
        if len(self.family) > MAX_FAMILY:
            raise Malformed(f"a family has at most {MAX_FAMILY} other nodes")
        sorted_unique(self.family, "family ids")
        object.__setattr__(self, "node_id", NodeId(node_id_bytes(self.identity)))
        check_nickname(self.nickname)
        text_untrusted(self.software.encode(), "software version", MAX_SOFTWARE_BYTES)
        text_untrusted(self.mix.encode(), "mix strategy", MAX_MIX_BYTES)
        text_untrusted(self.padding.encode(), "padding", MAX_PADDING_BYTES)
        cached_policy(self.exit_policy)
        check_size(self.addresses)
        if (size := listed_bytes(self)) > MAX_LISTED_BYTES:
            raise Malformed(f"a descriptor lists {size} bytes, at most {MAX_LISTED_BYTES} are allowed")
        if not (0 <= self.bandwidth <= U64_MAX and 0 <= self.capacity <= U64_MAX):
            raise Malformed("bandwidth and capacity must fit 64 bits")
        if len(self.succession) not in (0, SUCCESSION_BYTES):
            raise Malformed(f"a succession has {SUCCESSION_BYTES} bytes, or none")
        if self.succession.startswith(self.identity):
            raise Malformed("an identity cannot come after itself")
        if not 0 <= self.published < self.expires <= self.published + MAX_LIFETIME_SECONDS <= U64_MAX:
            raise Malformed("a descriptor expires after it was published, and within a week")

    @property
    def predecessor(self) -> NodeId | None:
        """The node that this one was before its identity changed."""
        return NodeId(node_id_bytes(self.succession[:IDENTITY_BYTES])) if self.succession else None

    def encode(self) -> bytes:
        """Everything but the signature."""
        return b"".join(
            (
                u8(VERSION),
                self.network_id,
                self.identity,
                self.link_key,
                self.onion_key,
                self.next_onion_key,
                encode_addresses(self.addresses),
                lv16(self.exit_policy.encode()),
                u64(self.bandwidth),
                u64(self.capacity),
                u8(len(self.family)),
                *self.family,
                lv8(self.nickname.encode()),
                lv8(self.software.encode()),
                lv8(self.mix.encode()),
                lv8(self.padding.encode()),
                u64(self.published),
                u64(self.expires),
                lv16(self.succession),
            )
        )

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        if (version := reader.u8()) != VERSION:
            raise Malformed(f"unknown descriptor version {version}")
        # In the order of the encoding: arguments are evaluated from first to last.
        return cls(
            network_id=reader.take(DIGEST_BYTES),
            identity=reader.take(IDENTITY_BYTES),
            link_key=reader.take(KEY_BYTES),
            onion_key=reader.take(KEY_BYTES),
            next_onion_key=reader.take(KEY_BYTES),
            addresses=read_addresses_untrusted(reader),
            exit_policy=read_policy_untrusted(reader),
            bandwidth=reader.u64(),
            capacity=reader.u64(),
            family=_read_family(reader),
            nickname=text_untrusted(reader.lv8(), "nickname", MAX_NICKNAME_BYTES),
            software=text_untrusted(reader.lv8(), "software version", MAX_SOFTWARE_BYTES),
            mix=text_untrusted(reader.lv8(), "mix strategy", MAX_MIX_BYTES),
            padding=text_untrusted(reader.lv8(), "padding", MAX_PADDING_BYTES),
            published=reader.u64(),
            expires=reader.u64(),
            succession=reader.lv16(),
        )


@dataclass(frozen=True, slots=True)
class SignedDescriptor:
    """A descriptor whose signature verified, with the bytes that it came in."""

    descriptor: Descriptor
    encoded: bytes
    digest: bytes

    @property
    def node_id(self) -> NodeId:
        return self.descriptor.node_id


def sign_succession(old: Signer, network_id: bytes, new: NodeId) -> bytes:
    """Returns: 5,357 bytes for the descriptors of `new`, in the name of the identity that it comes after."""
    return old.public.raw + old.sign(network_id + new, SIGN_SUCCESSION)


def descriptor_digest(encoded: bytes) -> bytes:
    """Returns: 32 bytes, the name of a signed descriptor in votes and requests."""
    return Label.DESCRIPTOR.digest(encoded[:-SIGNATURE_BYTES])


def sign_descriptor(descriptor: Descriptor, key: Signer) -> SignedDescriptor:
    """Signs with the node's identity key, which must be the one that the descriptor names."""
    body = descriptor.encode()
    encoded = body + key.sign(body, SIGN_DESCRIPTOR)
    if len(encoded) > MAX_DESCRIPTOR_BYTES:
        raise Malformed(f"the descriptor is over {MAX_DESCRIPTOR_BYTES} bytes")
    return SignedDescriptor(descriptor, encoded, descriptor_digest(encoded))


def decode_unverified(encoded: bytes) -> Descriptor:
    """Checks form only: what is cheap comes before what is dear (PROTOCOL.md section 7, point 6).

    Raises:
        Malformed: too long, cut, left-over bytes, or a field out of its range.
    """
    if len(encoded) > MAX_DESCRIPTOR_BYTES:
        raise Malformed(f"a descriptor of {len(encoded)} bytes is over the limit of {MAX_DESCRIPTOR_BYTES}")
    reader = Reader(encoded)
    descriptor = Descriptor._read(reader)
    reader.take(SIGNATURE_BYTES)
    reader.end()
    return descriptor


def decode_untrusted(encoded: bytes, network_id: bytes) -> SignedDescriptor:
    """Checks form, network and, last, the signature.

    Raises:
        Malformed: not a descriptor, or one of another network.
        Forged: the signature does not verify.
    """
    descriptor = decode_unverified(encoded)
    if descriptor.network_id != network_id:
        raise Malformed("the descriptor belongs to another network")
    body, signature = encoded[:-SIGNATURE_BYTES], encoded[-SIGNATURE_BYTES:]
    public = IdentityPublicKey(descriptor.identity)
    public.verify(signature, body, SIGN_DESCRIPTOR)
    if descriptor.succession:
        before = IdentityPublicKey(descriptor.succession[:IDENTITY_BYTES])
        before.verify(descriptor.succession[IDENTITY_BYTES:], network_id + public.node_id, SIGN_SUCCESSION)
    return SignedDescriptor(descriptor, encoded, descriptor_digest(encoded))


def listed_bytes(descriptor: Descriptor) -> int:
    """Bytes that a descriptor puts into a view, without those of fixed length."""
    texts = (descriptor.exit_policy, descriptor.mix, descriptor.padding, descriptor.nickname)
    return len(encode_addresses(descriptor.addresses)) + sum(map(len, texts))


def check_nickname(nickname: str) -> None:
    """At most 32 letters, digits, dots, hyphens and underscores.

    Raises:
        Malformed: it is anything else.
    """
    if not _NICKNAME.fullmatch(nickname):
        raise Malformed("a nickname is at most 32 letters, digits and . _ -")


def read_policy_untrusted(reader: Reader) -> str:
    """Takes a canonical exit policy of at most 1 KiB off `reader`."""
    raw = reader.lv16()
    if len(raw) > MAX_POLICY_BYTES:
        raise Malformed(f"an exit policy has at most {MAX_POLICY_BYTES} bytes")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as e:
        raise Malformed("an exit policy is ASCII") from e


def _read_family(reader: Reader) -> tuple[NodeId, ...]:
    return tuple(NodeId(reader.take(NODE_ID_BYTES)) for _ in range(min(reader.u8(), MAX_FAMILY + 1)))
