"""The ladder of admission: order, bounds, and what each rung refuses."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Forged, Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.admission import (
    MIN_DESCRIPTOR_BYTES,
    VOUCHED,
    Admission,
    AdmissionRule,
    PrefixRates,
    RateRule,
    Rung,
)
from phantomband.core.netdir.caps import CapRule, Member
from phantomband.core.netdir.descriptor import SignedDescriptor, sign_descriptor
from phantomband.core.work.equihash import TINY
from phantomband.core.work.stamp import Challenge, meets
from phantomband_cli.work.solver import make_stamp

SOURCE = ipaddress.ip_address("192.0.2.9")
DIGEST = b"\x33" * 32
BITS = 3
ROOMY = RateRule(near=(1000, 1000), far=(1000, 1000))


class Door:
    """A directory's admission, at epoch 5 of a network that asks for work, and a newcomer with its stamp."""

    def __init__(self, world: Any, rule: AdmissionRule) -> None:
        self.world, self.genesis = world, world.genesis()
        self.now = float(self.genesis.clock.start_time + 10)
        self.admission = Admission(self.genesis.network_id, rule)
        self.admission.new_view(5, DIGEST, BITS, [])
        self.signed = self.descriptor(9)
        self.stamp = self.stamp_of(self.signed.node_id)

    def descriptor(self, index: int, **changes: object) -> SignedDescriptor:
        return sign_descriptor(self.world.descriptor(self.genesis, index, **changes), self.world.key(index))

    def stamp_of(self, node_id: NodeId, epoch: int = 5, bits: int = BITS) -> bytes:
        return make_stamp(Challenge(self.genesis.network_id, node_id, epoch, DIGEST), TINY, bits, 0, 1000)

    def check(self, **changes: Any) -> SignedDescriptor:
        given = {"stamp": self.stamp, "encoded": self.signed.encoded, "source": SOURCE, "now": self.now} | changes
        return self.admission.check_untrusted(**given)

    def fell(self) -> Rung:
        """The one rung that was counted since the last time."""
        (rung,) = self.admission.counts.elements()
        self.admission.counts.clear()
        return rung


@pytest.fixture
def door(world: Any) -> Door:
    return Door(world, AdmissionRule(parameters=TINY, rates=ROOMY))


def test_who_paid_is_taken(door: Door) -> None:
    assert door.check() == door.signed
    assert door.fell() is Rung.TAKEN


@pytest.mark.parametrize(
    "encoded", [b"", bytes(MIN_DESCRIPTOR_BYTES), bytes(20_000), b"\x01" + bytes(MIN_DESCRIPTOR_BYTES + 100)]
)
def test_size_version_and_network_come_first(door: Door, encoded: bytes) -> None:
    with pytest.raises(Malformed):
        door.check(encoded=encoded, stamp=b"")
    assert door.fell() is Rung.SIZE


def test_no_stamp_a_stamp_of_another_and_too_little_work(door: Door) -> None:
    other = door.stamp_of(NodeId(bytes(32)))
    easy = next(
        stamp
        for first in range(0, 10_000, 50)
        if (stamp := make_stamp(_challenge(door), TINY, 0, first, 50)) and not _has_bits(door, stamp)
    )
    for stamp in (b"", bytes(60), other, easy, door.stamp[:-1]):
        with pytest.raises((Malformed, Refused)):
            door.check(stamp=stamp)
        assert door.fell() is Rung.WORK


def test_stamps_grow_old(door: Door) -> None:
    door.admission = Admission(door.genesis.network_id, AdmissionRule(TINY, anchors=3, rates=ROOMY))
    with pytest.raises(Refused, match="not known"):
        door.check()
    for epoch in (5, 6, 7):
        door.admission.new_view(epoch, DIGEST if epoch == 5 else bytes(32), BITS, [])
        door.check()
    door.admission.new_view(8, bytes(32), BITS, [])
    with pytest.raises(Refused, match="no longer counts"):
        door.check()


def test_a_stamp_is_good_for_the_bits_asked_for_when_it_was_made(door: Door) -> None:
    door.admission.new_view(6, bytes(32), 32, [])
    assert door.check() == door.signed


def test_form_comes_after_work_and_the_signature_last(door: Door) -> None:
    encoded = door.signed.encoded
    broken = bytearray(encoded)
    broken[1 + 32 + 1984 + 96] = 0xFF  # the count of addresses
    with pytest.raises(Malformed):
        door.check(encoded=bytes(broken))
    assert door.fell() is Rung.FORM
    with pytest.raises(Forged):
        door.check(encoded=encoded[:-1] + bytes((encoded[-1] ^ 1,)))
    assert door.fell() is Rung.SIGNATURE


def test_all_rungs_but_the_signature(door: Door) -> None:
    forged = door.signed.encoded[:-1] + bytes((door.signed.encoded[-1] ^ 1,))
    assert door.admission.check_unverified(door.stamp, forged, SOURCE, door.now) == door.signed.descriptor
    assert not door.admission.counts
    with pytest.raises(Forged):
        door.admission.verify_untrusted(forged)
    assert door.fell() is Rung.SIGNATURE


def test_times(door: Door) -> None:
    for now in (door.now - 10_000, door.now + 10_000):
        with pytest.raises(Malformed, match="clock"):
            door.check(now=now)
        assert door.fell() is Rung.TIME


def test_newcomers_find_their_network_full_and_members_do_not(world: Any) -> None:
    door = Door(world, AdmissionRule(TINY, rates=ROOMY, caps=CapRule(address=1)))
    there = Member(NodeId(b"\x09" * 32), (NodeAddress("quic", door.signed.descriptor.addresses[0].host, 1),), b"", 1)
    door.admission.new_view(5, DIGEST, BITS, [there])
    with pytest.raises(Refused, match="address or network"):
        door.check()
    assert door.fell() is Rung.CAPS
    door.admission.new_view(5, DIGEST, BITS, [there, replace(there, node_id=door.signed.node_id)])
    assert door.check() == door.signed


def test_a_test_network_asks_for_no_work(world: Any) -> None:
    door = Door(world, AdmissionRule())
    assert door.check(stamp=b"") == door.signed
    with pytest.raises(Malformed):
        door.check()


def test_rates_hold_for_the_network_that_floods_and_for_no_other(world: Any) -> None:
    door = Door(world, AdmissionRule(TINY, rates=RateRule(near=(1, 3), far=(1, 6), total=(1, 8))))
    flood = [ipaddress.ip_address(f"203.0.{i % 3}.{i}") for i in range(60)]
    passed = 0
    for source in flood:
        try:
            door.check(source=source)
            passed += 1
        except Refused:
            continue
    assert passed == 6, "the burst of the /16"
    assert door.check() == door.signed
    assert door.check(source=VOUCHED) == door.signed


ADDRESSES = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address) | st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)


@given(st.lists(st.tuples(ADDRESSES, st.floats(0, 0.2)), max_size=200))
def test_whoever_comes_from_wherever_total_and_memory_are_bounded(arrivals: list[tuple[Any, float]]) -> None:
    rates = PrefixRates(RateRule(near=(1, 2), far=(1, 4), total=(5, 10), max_networks=8))
    now, passed = 0.0, 0
    for source, later in arrivals:
        now += later
        passed += rates.allow(source, now)
        assert len(rates) <= 8 + 8 + 1
    assert passed <= 10 + 5 * now + 1e-6


def test_buckets_fill_again_and_a_clock_that_goes_back_gives_nothing() -> None:
    rates = PrefixRates(RateRule(near=(1, 1), far=(10, 10), total=(10, 10)))
    assert rates.allow(SOURCE, 100.0)
    assert not rates.allow(SOURCE, 50.0)
    assert not rates.allow(SOURCE, 100.5)
    assert rates.allow(SOURCE, 101.0)


@given(st.binary(max_size=80), st.binary(max_size=200))
def test_any_bytes_are_malformed_or_refused(world: Any, stamp: bytes, tail: bytes) -> None:
    door = _shared(world)
    encoded = door.signed.encoded[: len(door.signed.encoded) - len(tail)] + tail
    if stamp == door.stamp and not tail:
        return
    with pytest.raises((Malformed, Refused)):
        door.check(stamp=stamp, encoded=encoded, source=VOUCHED)
    if tail and encoded != door.signed.encoded:
        with pytest.raises(Malformed):
            door.check(encoded=encoded, source=VOUCHED)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_byte_of_a_descriptor_can_be_changed(world: Any, at: int, change: int) -> None:
    door = _shared(world)
    free = Admission(door.genesis.network_id, AdmissionRule())
    broken = bytearray(door.signed.encoded)
    broken[at % len(broken)] ^= change
    with pytest.raises((Malformed, Refused)):
        free.check_untrusted(b"", bytes(broken), VOUCHED, door.now)
    assert free.counts.total() == 1
    assert not free.counts[Rung.TAKEN]


@lru_cache(maxsize=1)
def _shared(world: Any) -> Door:
    return Door(world, AdmissionRule(parameters=TINY))


def _challenge(door: Door) -> Challenge:
    return Challenge(door.genesis.network_id, door.signed.node_id, 5, DIGEST)


def _has_bits(door: Door, stamp: bytes) -> bool:
    return meets(_challenge(door), stamp[8:], BITS)
