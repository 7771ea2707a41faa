"""Elligator 2 for Curve25519: X25519 public keys that look like 32 random bytes.

Source: "Elligator: Elliptic-curve points indistinguishable from uniform random strings" (Bernstein, Hamburg, Krasnova,
Lange, 2013), section 5, with non-square 2, and what obfs4proxy does since 0.0.14: a representative is 254 bits, little
endian; the two bits above are random; and the point behind it is one of the whole curve, not of its prime subgroup.

    representative r, 0 <= r <= (p - 1) / 2   <->   u = the u coordinate of a point of the curve

**Time.** Python's integers take a time that depends on their values. What is computed with them here are public keys
and their representatives: those that are used are sent to the peer, and the others are thrown away. A secret scalar
is touched only by libsodium and OpenSSL, in constant time. How many keys had to be tried shows in the time that
`generate` takes, so keys are made before a connection needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from nacl.bindings import crypto_core_ed25519_add, crypto_scalarmult_ed25519_base

RandomSource = Callable[[int], bytes]

KEY_BYTES = 32
REPRESENTATIVE_BYTES = 32

P = 2**255 - 19
A = 486662
"""Of the curve v^2 = u^3 + A u^2 + u."""

_HALF = (P - 1) // 2
_SQRT_M1 = pow(2, (P - 1) // 4, P)

_TOP_BITS = 0xC0
"""Bits of a representative's last byte that carry nothing."""

_LOW_ORDER = tuple(
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",  # order 1
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",  # 2
        "0000000000000000000000000000000000000000000000000000000000000000",  # 4
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",  # 8
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
)
"""The eight points of edwards25519 whose order divides 8, compressed (RFC 8032, section 5.1.2)."""


@dataclass(frozen=True, slots=True)
class HiddenKeys:
    """An ephemeral key pair whose public key can be sent as a representative."""

    private: X25519PrivateKey = field(repr=False)
    public: bytes
    """u coordinate, 32 bytes; X25519 with it gives what it gives with the clean public key."""
    representative: bytes


def generate(random: RandomSource) -> HiddenKeys:
    """A new pair; tries two keys on average, each at some 0.2 ms."""
    while True:
        dice = random(KEY_BYTES + 1)
        secret, tweak = dice[:KEY_BYTES], dice[KEY_BYTES]
        u = dirty_public(secret)
        representative = hide(u, tweak)
        if representative is not None:
            return HiddenKeys(
                X25519PrivateKey.from_private_bytes(secret), u.to_bytes(KEY_BYTES, "little"), representative
            )


def dirty_public(secret: bytes) -> int:
    """The u coordinate of the public key of `secret` plus a point of low order.

    Without that point all keys would lie in a subgroup, which whoever sees a few representatives can check. The low
    three bits of `secret` choose it: X25519 does not use them.
    """
    clean = crypto_scalarmult_ed25519_base(secret)
    point = crypto_core_ed25519_add(clean, _LOW_ORDER[secret[0] & 7])
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return (1 + y) * pow(1 - y, -1, P) % P


def hide(u: int, tweak: int) -> bytes | None:
    """The inverse map: a representative of `u`; None for the half of all points that have none.

    Args:
        tweak: a random byte. Its lowest bit chooses one of two representatives, its highest two become the top bits.
    """
    root = _sqrt(-2 * u * (u + A) % P)
    if root is None:
        return None
    # r^2 = -(u + A) / (2 u), or the same with u and u + A exchanged: the two points of this u.
    r = root * pow(2 * (u if tweak & 1 else u + A), -1, P) % P
    r = min(r, P - r)
    encoded = bytearray(r.to_bytes(REPRESENTATIVE_BYTES, "little"))
    encoded[-1] |= tweak & _TOP_BITS
    return bytes(encoded)


def reveal(representative: bytes) -> bytes:
    """The map: the public key behind 32 bytes, whatever they are."""
    r = int.from_bytes(representative, "little") & (2**254 - 1)
    # 1 + 2 r^2 is never 0: -1/2 is not a square.
    u = -A * pow(1 + 2 * r * r, -1, P) % P
    if pow(u * (u * u + A * u + 1), _HALF, P) == P - 1:
        u = (-A - u) % P
    return u.to_bytes(KEY_BYTES, "little")


def _sqrt(x: int) -> int | None:
    """A square root of `x` mod p, None if there is none (RFC 8032, section 5.1.3)."""
    root = pow(x, (P + 3) // 8, P)
    if root * root % P != x:
        root = root * _SQRT_M1 % P
    return root if root * root % P == x else None
