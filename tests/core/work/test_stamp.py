"""Stamps: bound to network, node, epoch and view; difficulty as a target. Those in use were made once by the solver."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NodeId
from phantomband.core.work import stamp
from phantomband.core.work.equihash import PUBLIC, SMALL, TINY
from phantomband.core.work.stamp import Challenge

CHALLENGE = Challenge(b"\x05" * 32, NodeId(b"\x06" * 32), 7, b"\x07" * 32)
MADE = bytes.fromhex(
    "0000000000000007000000000000000000000000000003110263b33c708779216c0f798575f35ff98564112cdf912214b663"
    "551eaa617ae29e80b901"
)
"""8 bits, n=48, k=5."""

MADE_PUBLIC = bytes.fromhex(
    "000000000000000700000000000000000000000000000000019161d13597fc6f3d7a49ed43775922aa3bfa8cd73693c2f8cc"
    "6d98a78e59460c7169756a20f5deb3a32631bc0b4055796b55e1460de9bda9ea72e29c7605596804cb9db111a1a3b91659d8"
    "d671127ebb9e81f6"
)
"""1 bit, n=120, k=5."""


def test_stamps_verify() -> None:
    stamp.verify_untrusted(CHALLENGE, MADE, TINY, 8)
    stamp.verify_untrusted(CHALLENGE, MADE_PUBLIC, PUBLIC, 1)


@pytest.mark.parametrize(
    "other",
    [
        replace(CHALLENGE, network_id=bytes(32)),
        replace(CHALLENGE, node_id=NodeId(bytes(32))),
        replace(CHALLENGE, epoch=8),
        replace(CHALLENGE, view_digest=bytes(32)),
    ],
)
def test_a_stamp_counts_for_one_challenge_only(other: Challenge) -> None:
    with pytest.raises(Malformed):
        stamp.verify_untrusted(other, MADE, TINY)


def test_the_bits_asked_for_must_be_there() -> None:
    most = max(bits for bits in range(33) if stamp.meets(CHALLENGE, MADE[8:], bits))
    assert 8 <= most < 20
    stamp.verify_untrusted(CHALLENGE, MADE, TINY, most)
    with pytest.raises(Malformed, match="difficulty"):
        stamp.verify_untrusted(CHALLENGE, MADE, TINY, most + 1)


def test_hashing_another_nonce_is_no_way_around_the_work() -> None:
    """Difficulty can be met by hashing alone; the solution then belongs to no such nonce."""
    for number in range(10_000):
        nonce = number.to_bytes(16, "big")
        if stamp.meets(CHALLENGE, nonce + MADE[24:], 8) and nonce != MADE[8:24]:
            with pytest.raises(Malformed, match=r"collide|XOR"):
                stamp.verify_untrusted(CHALLENGE, MADE[:8] + nonce + MADE[24:], TINY, 8)
            return
    pytest.fail("no nonce meets 8 bits")


def test_sizes_and_limits() -> None:
    assert (stamp.stamp_bytes(TINY), stamp.stamp_bytes(SMALL), stamp.stamp_bytes(PUBLIC)) == (60, 92, 108)
    assert len(CHALLENGE.encode()) == 104
    assert stamp.epoch_untrusted(MADE, TINY) == 7
    with pytest.raises(UserError):
        stamp.meets(CHALLENGE, MADE[8:], 33)
    with pytest.raises(Malformed):
        Challenge(bytes(31), NodeId(bytes(32)), 0, bytes(32))
    with pytest.raises(Malformed):
        Challenge(bytes(32), NodeId(bytes(32)), 2**64, bytes(32))


@given(st.binary(max_size=70) | st.binary(min_size=52, max_size=52).map(lambda rest: (7).to_bytes(8, "big") + rest))
def test_random_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        stamp.verify_untrusted(CHALLENGE, data, TINY)
