"""Keys that nobody can have are refused wherever a peer's key enters."""

from __future__ import annotations

import pytest
from phantomband.core.crypto.dh import PRIME, DhKey, check_public_untrusted
from phantomband.core.crypto.sign import IDENTITY_PUBLIC_BYTES, IdentityPublicKey, check_ed25519_untrusted
from phantomband.core.errors import Forged, Malformed

# cr.yp.to/ecdh.html#validate: points of small order, and encodings that are not reduced
SMALL_ORDER = [
    bytes(32),
    bytes((1, *bytes(31))),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (PRIME - 1).to_bytes(32, "little"),
]
NOT_CANONICAL = [
    PRIME.to_bytes(32, "little"),
    (PRIME + 1).to_bytes(32, "little"),
    (PRIME + 9).to_bytes(32, "little"),
    (2**255 + 9).to_bytes(32, "little"),
    b"\xff" * 32,
]
ED_SMALL_ORDER = [
    bytes((1, *bytes(31))),
    (PRIME - 1).to_bytes(32, "little"),
    bytes(32),
    bytes((*bytes(31), 0x80)),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
]


@pytest.mark.parametrize("key", SMALL_ORDER, ids=bytes.hex)
def test_a_key_of_small_order_is_refused_before_a_secret_is_made(key: bytes) -> None:
    with pytest.raises(Forged):
        DhKey(b"k" * 32).exchange_untrusted(key)
    with pytest.raises(Malformed, match="small order"):
        check_public_untrusted(key)


@pytest.mark.parametrize("key", NOT_CANONICAL, ids=bytes.hex)
def test_a_second_name_of_a_key_is_refused(key: bytes) -> None:
    with pytest.raises(Malformed, match="canonical"):
        check_public_untrusted(key)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(Malformed, match="32 bytes"):
        check_public_untrusted(bytes(size))


def test_keys_that_are_made_are_taken() -> None:
    for seed in range(32):
        check_public_untrusted(DhKey(bytes([seed]) * 32).public)


@pytest.mark.parametrize("key", ED_SMALL_ORDER, ids=bytes.hex)
def test_an_identity_under_which_everybody_can_sign_is_refused(key: bytes) -> None:
    with pytest.raises(Malformed, match="small order"):
        check_ed25519_untrusted(key)
    with pytest.raises(Malformed):
        IdentityPublicKey(key + bytes(IDENTITY_PUBLIC_BYTES - 32))


@pytest.mark.parametrize("key", [PRIME, PRIME + 1, 2**255 - 1])
def test_an_ed25519_key_that_is_not_canonical_is_refused(key: int) -> None:
    with pytest.raises(Malformed, match="canonical"):
        check_ed25519_untrusted(key.to_bytes(32, "little"))
    with pytest.raises(Malformed, match="32 bytes"):
        check_ed25519_untrusted(b"")
