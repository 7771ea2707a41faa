"""Primitives: known answers, sizes, and that everything wrong raises."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.crypto import labels
from phantomband.core.crypto.dh import DhKey
from phantomband.core.crypto.kdf import sha3_256, shake256
from phantomband.core.crypto.kem import KemKey, encapsulate_untrusted
from phantomband.core.crypto.sign import (
    IDENTITY_PUBLIC_BYTES,
    IDENTITY_SIGNATURE_BYTES,
    IdentityKey,
    IdentityPublicKey,
)
from phantomband.core.errors import Forged, Malformed

IDENTITY = IdentityKey.generate(random.Random(1).randbytes)
SIGNATURE = IDENTITY.sign(b"message")


def test_labels_are_unique_and_none_begins_with_another() -> None:
    names = labels.registry()
    assert len(names) > 10
    for i, name in enumerate(names):
        assert not any(other.startswith(name) for j, other in enumerate(names) if i != j)


def test_every_constant_is_in_the_registry() -> None:
    listed = labels.registry()
    for name, value in vars(labels).items():
        if name.isupper() and name != "NTOR3_TWEAKS" and name != "NTOR3_PROTOID":
            assert (value.encode() if isinstance(value, str) else value) in listed


def test_sha3_and_shake() -> None:
    """FIPS 202 example values of the empty string (csrc.nist.gov, SHA3-256_Msg0, SHAKE256_Msg0)."""
    assert sha3_256(b"", b"").hex() == "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
    assert shake256(32).hex() == "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f"
    assert shake256(64, b"ab", b"c")[:32] == shake256(32, b"abc")


def test_x25519() -> None:
    """RFC 7748 section 6.1."""
    alice = DhKey(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = DhKey(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert alice.public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert alice.exchange_untrusted(bob.public).hex() == shared
    assert bob.exchange_untrusted(alice.public).hex() == shared
    assert alice.private_bytes().hex() not in repr(alice)


@pytest.mark.parametrize("peer", [bytes(32), b"\1" + bytes(31)])
def test_small_order_points_are_refused(peer: bytes) -> None:
    with pytest.raises(Forged):
        DhKey(b"k" * 32).exchange_untrusted(peer)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_key_sizes(size: int) -> None:
    with pytest.raises(Malformed):
        DhKey(bytes(size))
    with pytest.raises(Malformed):
        DhKey(b"k" * 32).exchange_untrusted(b"p" * size)
    with pytest.raises(Malformed):
        IdentityKey(bytes(size))
    with pytest.raises(Malformed):
        IdentityPublicKey(bytes(size))
    with pytest.raises(Forged):
        IDENTITY.public.verify(bytes(size), b"message")


def test_kem() -> None:
    key = KemKey.generate(random.Random(2).randbytes)
    secret, ciphertext = encapsulate_untrusted(key.public)
    assert (len(key.public), len(secret), len(ciphertext)) == (1184, 32, 1088)
    assert key.decapsulate_untrusted(ciphertext) == secret
    assert key.decapsulate_untrusted(bytes(1088)) != secret
    for junk in (b"", b"\xff" * 1184, bytes(1183)):
        with pytest.raises(Malformed):
            encapsulate_untrusted(junk)
    with pytest.raises(Malformed):
        key.decapsulate_untrusted(bytes(1087))


def test_identity_round_trip() -> None:
    again = IdentityKey(IDENTITY.private_bytes())
    assert again.public == IDENTITY.public
    assert again.node_id == IDENTITY.node_id == sha3_256(IDENTITY.public.raw)
    assert (len(IDENTITY.public.raw), len(SIGNATURE)) == (IDENTITY_PUBLIC_BYTES, IDENTITY_SIGNATURE_BYTES)
    assert (IDENTITY_PUBLIC_BYTES, IDENTITY_SIGNATURE_BYTES) == (32 + 1952, 64 + 3309)
    IdentityPublicKey(IDENTITY.public.raw).verify(SIGNATURE, b"message")
    assert IDENTITY.private_bytes().hex() not in repr(IDENTITY)


def test_a_signature_is_bound_to_message_context_and_key() -> None:
    other = IdentityKey.generate(random.Random(3).randbytes)
    for key, message, context in (
        (IDENTITY, b"messagf", labels.SIGN_GENERAL),
        (IDENTITY, b"message", labels.SIGN_VIEW),
        (other, b"message", labels.SIGN_GENERAL),
    ):
        with pytest.raises(Forged):
            key.public.verify(SIGNATURE, message, context)


def test_both_halves_must_verify_and_halves_do_not_mix() -> None:
    """A pair made of two identities' keys takes neither's halves: the node id is covered."""
    other = IdentityKey.generate(random.Random(3).randbytes)
    mixed = IdentityPublicKey(IDENTITY.public.raw[:32] + other.public.raw[32:])
    for signature in (
        SIGNATURE[:64] + bytes(3309),
        bytes(64) + SIGNATURE[64:],
        SIGNATURE[:64] + other.sign(b"message")[64:],
    ):
        with pytest.raises(Forged):
            IDENTITY.public.verify(signature, b"message")
        with pytest.raises(Forged):
            mixed.verify(signature, b"message")


@given(st.integers(0, IDENTITY_SIGNATURE_BYTES * 8 - 1))
def test_any_flipped_bit_of_a_signature(bit: int) -> None:
    flipped = bytearray(SIGNATURE)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Forged):
        IDENTITY.public.verify(bytes(flipped), b"message")
