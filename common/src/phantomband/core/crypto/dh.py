"""X25519 (RFC 7748): 32-byte private and public keys, 32-byte shared secrets.

An all-zero result means that the peer sent a point of small order, which would make the secret public:
refused.
"""

from __future__ import annotations

from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Forged, Malformed

DH_BYTES = 32
"""Size of a private key, a public key and a shared secret (RFC 7748, section 5)."""


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
            Malformed: `peer` is not 32 bytes.
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
