"""What every directory document shares: hashing under labels, text and set checks. PROTOCOL.md section 7.

Each document has one encoding only: integers big-endian, sets sorted and without repeats, text printable
ASCII, nothing after the end. So `decode(encode(x)) == x` and `encode(decode(b)) == b`, and a digest names
one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from typing import TypeVar

from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.errors import Malformed

DIGEST_BYTES = 32
"""SHA3-256."""

KEY_BYTES = 32
"""An X25519 public key."""

IDENTITY_BYTES = 1984
"""A public identity: Ed25519 32 | ML-DSA-65 1,952 (FIPS 204, table 2)."""

SIGNATURE_BYTES = 3373
"""A hybrid signature: Ed25519 64 | ML-DSA-65 3,309 (FIPS 204, table 2)."""

U64_MAX = 2**64 - 1


class Label(Enum):
    """Prefix of everything hashed here, so that no document's digest is another kind's. (Signatures have
    contexts of their own: core/crypto/labels.py.)"""

    GENESIS = b"phantomband-genesis-1"
    DIRECTORY_SET = b"phantomband-directory-set-1"
    DESCRIPTOR = b"phantomband-descriptor-1"
    VOTE = b"phantomband-vote-1"
    VIEW = b"phantomband-view-1"
    FAMILY = b"phantomband-family-1"
    SET_CHANGE = b"phantomband-set-change-1"

    def digest(self, message: bytes) -> bytes:
        """Returns: 32 bytes, SHA3-256(label | 0x00 | message). No label holds a zero byte: none begins
        another."""
        return sha3_256(self.value + b"\x00" + message)


def node_id_bytes(identity: bytes) -> bytes:
    """Returns: 32 bytes, SHA3-256(Ed25519 key | ML-DSA-65 key) (PROTOCOL.md section 2)."""
    return sha3_256(identity)


def text_untrusted(raw: bytes, what: str, limit: int) -> str:
    """Printable ASCII, spaces included, of at most `limit` bytes.

    Raises:
        Malformed: too long, or any other byte.
    """
    if len(raw) > limit:
        raise Malformed(f"{what} of {len(raw)} bytes is over its limit of {limit}")
    if any(not 0x20 <= byte <= 0x7E for byte in raw):
        raise Malformed(f"{what} is not printable ASCII")
    return raw.decode("ascii")


_O = TypeVar("_O", int, str, bytes)


def sorted_unique(items: Sequence[_O], what: str) -> None:
    """Checks that each item is greater than the one before.

    Raises:
        Malformed: it is not.
    """
    for before, after in pairwise(items):
        if not before < after:
            raise Malformed(f"{what} must be sorted and without repeats")
