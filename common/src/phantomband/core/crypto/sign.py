"""The identity of a node: Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204) together; a signature needs both.

    public key   Ed25519 32 | ML-DSA-65 1,952            = 1,984 bytes
    signature    Ed25519 64 | ML-DSA-65 3,309            = 3,373 bytes
    private key  Ed25519 seed 32 | ML-DSA-65 seed 32     = 64 bytes
    node id      SHA3-256(public key)                    = 32 bytes

Both sign ENCAP("pb-identity-1") | ENCAP(context) | node id 32 | message: `context` says what the message
is, so that no signature can stand for another kind of message, and the node id ties the two halves to one
pair of keys. ML-DSA signing is hedged: it mixes in the system's randomness, so signatures differ each time
and only verify alike.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from phantomband.core.crypto import labels
from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Forged, Malformed
from phantomband.core.ids import NodeId
from phantomband.core.wire import encap

ED25519_PUBLIC_BYTES = 32
ED25519_SIGNATURE_BYTES = 64
MLDSA_PUBLIC_BYTES = 1952
MLDSA_SIGNATURE_BYTES = 3309
SEED_BYTES = 32
"""Private seed of either algorithm."""

IDENTITY_PUBLIC_BYTES = ED25519_PUBLIC_BYTES + MLDSA_PUBLIC_BYTES
IDENTITY_SIGNATURE_BYTES = ED25519_SIGNATURE_BYTES + MLDSA_SIGNATURE_BYTES
IDENTITY_PRIVATE_BYTES = 2 * SEED_BYTES


def _covered(context: bytes, node_id: NodeId, message: bytes) -> bytes:
    """What both algorithms sign."""
    return encap(labels.NODE_ID) + encap(context) + node_id + message


_ED_PRIME = 2**255 - 19
_SIGN_BIT = 1 << 255
_ED_SMALL_ORDER = frozenset(
    (
        0,
        1,
        _ED_PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    )
)
"""y-coordinates of the eight points of small order of edwards25519."""


def check_ed25519_untrusted(key: bytes) -> None:
    """Returns if `key` can be somebody's Ed25519 public key.

    Under a key of small order everybody can sign, and one that is not canonical is a second name for the same key
    (RFC 8032, section 5.1.3, has decoding fail there).

    Raises:
        Malformed: it has not 32 bytes, is of small order or not canonical.
    """
    if len(key) != ED25519_PUBLIC_BYTES:
        raise Malformed(f"an Ed25519 key has {ED25519_PUBLIC_BYTES} bytes, not {len(key)}")
    y = int.from_bytes(key, "little") & (_SIGN_BIT - 1)
    if y >= _ED_PRIME:
        raise Malformed("an Ed25519 key is not written canonically")
    if y in _ED_SMALL_ORDER:
        raise Malformed("an Ed25519 key is of small order")


@dataclass(frozen=True)
class IdentityPublicKey:
    """What a node publishes: 1,984 bytes. Hashing it gives the node id.

    Raises:
        Malformed: not 1,984 bytes, or the halves are not keys that anybody can have.
    """

    raw: bytes
    _ed: Ed25519PublicKey = field(init=False, repr=False, compare=False)
    _mldsa: MLDSA65PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != IDENTITY_PUBLIC_BYTES:
            raise Malformed(f"an identity key has {IDENTITY_PUBLIC_BYTES} bytes, not {len(self.raw)}")
        ed, mldsa = self.raw[:ED25519_PUBLIC_BYTES], self.raw[ED25519_PUBLIC_BYTES:]
        check_ed25519_untrusted(ed)
        try:
            object.__setattr__(self, "_ed", Ed25519PublicKey.from_public_bytes(ed))
            object.__setattr__(self, "_mldsa", MLDSA65PublicKey.from_public_bytes(mldsa))
        except ValueError as e:
            raise Malformed("not an identity key") from e

    @cached_property
    def node_id(self) -> NodeId:
        """SHA3-256(Ed25519 key | ML-DSA-65 key)."""
        return NodeId(sha3_256(self.raw))

    def verify(self, signature: bytes, message: bytes, context: bytes = labels.SIGN_GENERAL) -> None:
        """Returns if both halves of `signature` are this key's over `message` in `context`.

        Raises:
            Forged: anything else, a wrong size included.
        """
        if len(signature) != IDENTITY_SIGNATURE_BYTES:
            raise Forged(f"a signature has {IDENTITY_SIGNATURE_BYTES} bytes, not {len(signature)}")
        covered = _covered(context, self.node_id, message)
        try:
            self._ed.verify(signature[:ED25519_SIGNATURE_BYTES], covered)
            self._mldsa.verify(signature[ED25519_SIGNATURE_BYTES:], covered)
        except InvalidSignature as e:
            raise Forged("a signature does not verify") from e


class Signer(Protocol):
    """Whoever can sign as one node: `IdentityKey` in memory, or a key that never leaves its hardware."""

    @property
    def public(self) -> IdentityPublicKey: ...

    @property
    def node_id(self) -> NodeId: ...

    def sign(self, message: bytes, context: bytes = labels.SIGN_GENERAL) -> bytes:
        """3,373 bytes, as `IdentityKey.sign`."""


class IdentityKey:
    """The private half, held by the directory service alone.

    Raises:
        Malformed: `private` is not 64 bytes.
    """

    __slots__ = ("_ed", "_mldsa", "public")

    def __init__(self, private: bytes) -> None:
        if len(private) != IDENTITY_PRIVATE_BYTES:
            raise Malformed(f"an identity's private key has {IDENTITY_PRIVATE_BYTES} bytes, not {len(private)}")
        self._ed = Ed25519PrivateKey.from_private_bytes(private[:SEED_BYTES])
        self._mldsa = MLDSA65PrivateKey.from_seed_bytes(private[SEED_BYTES:])
        self.public = IdentityPublicKey(
            self._ed.public_key().public_bytes_raw() + self._mldsa.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls, random: RandomSource) -> IdentityKey:
        """A new identity from 64 random bytes."""
        return cls(random(IDENTITY_PRIVATE_BYTES))

    @property
    def node_id(self) -> NodeId:
        return self.public.node_id

    def private_bytes(self) -> bytes:
        """64 bytes, secret: what the constructor takes."""
        return self._ed.private_bytes_raw() + self._mldsa.private_bytes_raw()

    def sign(self, message: bytes, context: bytes = labels.SIGN_GENERAL) -> bytes:
        """3,373 bytes: Ed25519 64 | ML-DSA-65 3,309 over `message` in `context`."""
        covered = _covered(context, self.node_id, message)
        return self._ed.sign(covered) + self._mldsa.sign(covered)

    def __repr__(self) -> str:
        return f"IdentityKey({self.node_id!r})"
