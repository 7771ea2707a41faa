"""X25519 (RFC 7748): 32-byte private and public keys, 32-byte shared secrets.

A key of another party is looked at where it enters (`check_public_untrusted`), before anything is done with it: a
key of small order makes every secret shared with it public (section 6.1), and one that is not written canonically is
a second name for the same key (section 5 has receivers reduce it), so its owner could stand twice in a table.
"""

from __future__ import annotations

from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Forged, Malformed

DH_BYTES = 32
"""Size of a private key, a public key and a shared secret (RFC 7748, section 5)."""


PRIME = 2**255 - 19
"""Of the field; coordinates are below it."""

_SMALL_ORDER = frozenset(
    value.to_bytes(DH_BYTES, "little")
    for value in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        PRIME - 1,
    )
)
"""u-coordinates of order 1, 2, 4 and 8, on the curve and on its twist (cr.yp.to/ecdh.html, "validate")."""


def check_public_untrusted(key: bytes, what: str = "a public key") -> None:
    """Returns if `key` can be somebody's X25519 public key.

    Raises:
        Malformed: it has not 32 bytes, is of small order, or is not the canonical encoding of its coordinate.
    """
    if len(key) != DH_BYTES:
        raise Malformed(f"{what} has {DH_BYTES} bytes, not {len(key)}")
    if int.from_bytes(key, "little") >= PRIME:
        raise Malformed(f"{what} is not written canonically")
    if key in _SMALL_ORDER:
        raise Malformed(f"{what} is of small order")


class DhKey:
    """An X25519 key pair. Subclasses name what a key is for, so that the types keep them apart."""

    __slots__ = ("_key", "public")

    def __init__(self, private: bytes) -> None:
        if len(private) != DH_BYTES:
            raise Malformed(f"an X25519 private key has {DH_BYTES} bytes, not {len(private)}")
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, random: RandomSource) -> Self:
        """A new pair from 32 random bytes."""
        return cls(random(DH_BYTES))

    def private_bytes(self) -> bytes:
        """32 bytes, secret: what the constructor takes."""
        return self._key.private_bytes_raw()

    def exchange_untrusted(self, peer: bytes) -> bytes:
        """32 bytes: the secret shared with the holder of `peer`.

        Raises:
            Malformed: `peer` is not 32 bytes. (What is not canonical is reduced here: the test vectors of RFC 7748 ask
                for it. Keys are refused where they enter, by `check_public_untrusted`.)
            Forged: the result is all zero ("MUST ... abort if so", RFC 7748 section 6.1).
        """
        if len(peer) != DH_BYTES:
            raise Malformed(f"an X25519 public key has {DH_BYTES} bytes, not {len(peer)}")
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as e:
            raise Forged("a public key of small order") from e

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.public[:4].hex()}...)"
