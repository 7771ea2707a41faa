"""ML-KEM-768 (FIPS 203): encapsulation key 1,184 bytes, ciphertext 1,088, shared secret 32, private seed (d
| z) 64.

The `cryptography` package draws the randomness of Encaps from the system and has no way to pass it in. So
that vectors can be replayed, whoever encapsulates gets the operation as an argument of type `Encapsulate`.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed

KEM_SEED_BYTES = 64
KEM_PUBLIC_BYTES = 1184
KEM_CIPHERTEXT_BYTES = 1088

Encapsulate = Callable[[bytes], tuple[bytes, bytes]]
"""`encapsulate(public key 1,184)` gives (shared secret 32, ciphertext 1,088); raises only Malformed."""


def encapsulate_untrusted(public: bytes) -> tuple[bytes, bytes]:
    """The real `Encapsulate`: (shared secret 32, ciphertext 1,088), randomness from the system.

    Raises:
        Malformed: not a key: wrong size, or it fails the modulus check (FIPS 203 section 7.2, "MUST").
    """
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError as e:
        raise Malformed("not an ML-KEM-768 key") from e


class KemKey:
    """An ML-KEM-768 key pair, one per handshake."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, random: RandomSource) -> KemKey:
        """A new pair from a 64-byte random seed (d | z)."""
        return cls(random(KEM_SEED_BYTES))

    def decapsulate_untrusted(self, ciphertext: bytes) -> bytes:
        """32 bytes: the shared secret; of a forged ciphertext, an unpredictable one (implicit rejection).

        Raises:
            Malformed: not 1,088 bytes.
        """
        try:
            return self._key.decapsulate(ciphertext)
        except ValueError as e:
            raise Malformed("not an ML-KEM-768 ciphertext") from e
