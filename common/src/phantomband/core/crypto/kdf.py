"""Hashes and key derivation: SHA3-256 and SHAKE256 (circuits, identities), HKDF as Noise defines it (links).

Sources: FIPS 202; Noise revision 34, section 4.3 (HKDF).
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes, hmac

HASH_BYTES = 32
"""Output of SHA3-256, bytes."""


def sha3_256(*parts: bytes) -> bytes:
    """32 bytes: SHA3-256 of the parts put together."""
    h = hashes.Hash(hashes.SHA3_256())
    for part in parts:
        h.update(part)
    return h.finalize()


def shake256(size: int, *parts: bytes) -> bytes:
    """The first `size` bytes of SHAKE256 over the parts put together."""
    h = hashes.Hash(hashes.SHAKE256(size))
    for part in parts:
        h.update(part)
    return h.finalize()


def hmac_hash(algorithm: hashes.HashAlgorithm, key: bytes, *parts: bytes) -> bytes:
    """HMAC (RFC 2104) over the parts put together."""
    h = hmac.HMAC(key, algorithm)
    for part in parts:
        h.update(part)
    return h.finalize()


def noise_hkdf(algorithm: hashes.HashAlgorithm, chaining_key: bytes, material: bytes, outputs: int) -> list[bytes]:
    """HKDF(chaining_key, input_key_material, num_outputs) of Noise, section 4.3.

    Returns: `outputs` (2 or 3) strings of the hash's length.
    """
    secret = hmac_hash(algorithm, chaining_key, material)
    out: list[bytes] = []
    for i in range(1, outputs + 1):
        out.append(hmac_hash(algorithm, secret, out[-1] if out else b"", bytes((i,))))
    return out
