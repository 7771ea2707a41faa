"""Requests and bytes of answers are shared by source: keys that anybody can make up, and floods, take from nobody."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.netdir.admission import VOUCHED, Admission, AdmissionRule, RateRule, Rung
from phantomband.core.netdir.descriptor import Descriptor, sign_descriptor
from phantomband_directory.limits import BYTES, MAX_BUCKETS, MIB, REQUESTS, Limits

DIRECTORY, MEMBER = b"d" * 32, b"m" * 32
VIEW = int(3.5 * MIB)


def limits() -> Limits:
    return Limits(frozenset((DIRECTORY,)), lambda peer: peer == MEMBER)


def ip(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


def made_up(index: int) -> bytes:
    return hashlib.sha256(str(index).encode()).digest()


def test_keys_that_nobody_knows_are_worth_nothing() -> None:
    """A thousand links of one machine, each with a fresh key, ask as much as one does."""
    one = limits()
    assert sum(one.allow(made_up(i % 1000), 0.0, ip("9.1.2.3")) for i in range(100_000)) == REQUESTS.near[1]
    assert one.allow(MEMBER, 0.0, ip("9.1.2.3"))
    assert one.allow(DIRECTORY, 0.0, ip("9.1.2.3"))


def test_a_flood_from_one_network_leaves_the_others_theirs() -> None:
    one = limits()
    asked = [one.allow(b"", 0.0, ip(f"9.1.{i % 256}.1")) for i in range(5000)]
    assert sum(asked) == REQUESTS.far[1], "a /16, whatever its /24 ask"
    assert one.allow(b"", 0.0, ip("9.2.1.1"))


def test_a_flood_from_everywhere_keeps_no_newcomer_waiting() -> None:
    """Two hundred networks use up what strangers may; one that asks now and then is served from a reserve."""
    one = limits()
    for second in range(31):
        for i in range(2000):
            one.allow(made_up(i), float(second), bytes((20 + i % 50, i % 200, 1, 1)))
    assert [one.allow(made_up(99_999), 30.0, ip("99.9.9.9")) for _ in range(9)] == [True] * 8 + [False]
    assert one.allow(b"", 30.0, ip("98.9.9.9"))


def test_requests_for_views_are_paid_by_their_bytes() -> None:
    """A flood of requests of nine bytes has answers of megabytes: whoever floods waits, nobody else does."""
    one, sent = limits(), 0
    for second in range(60):
        for i in range(100):
            source = ip(f"9.1.{i % 8}.1")
            if one.allow(b"", float(second), source):
                one.answered(b"", source, VIEW, float(second))
                sent += VIEW
    assert sent <= BYTES.far[1] + 60 * BYTES.far[0] + VIEW
    assert one.allow(b"", 60.0, ip("30.1.1.1"))
    assert one.allow(MEMBER, 60.0, ip("9.1.1.1"))


def test_links_without_an_address_are_one_network() -> None:
    one = limits()
    assert sum(one.allow(made_up(i), 0.0, b"") for i in range(5000)) == REQUESTS.far[1]
    assert one.allow(b"", 0.0, ip("9.1.1.1"))


def test_shares_refill_and_are_bounded() -> None:
    one = limits()
    assert all(one.allow(MEMBER, 0.0) for _ in range(int(REQUESTS.member[1])))
    assert not one.allow(MEMBER, 0.0)
    assert one.allow(MEMBER, 1.0)
    for i in range(3 * MAX_BUCKETS):
        source = bytes((20 + i // 65536, i // 256 % 256, i % 256, 1))
        if one.allow(b"", i / 10, source):
            one.answered(b"", source, 1000, i / 10)
    assert len(one) <= 2 * 7 * MAX_BUCKETS


@pytest.mark.parametrize("source", [None, VOUCHED])
def test_descriptors_over_links_without_an_address_have_a_rate_too(network_of: Any, source: Any) -> None:
    network = network_of(1)
    key = network.key(1)
    made = Descriptor(
        network_id=network.genesis.network_id, identity=key.public.raw, link_key=b"k" * 32, onion_key=b"o" * 32,
        addresses=(network.address(1),), exit_policy="", bandwidth=1, family=(), nickname="", software="", mix="none",
        published=1_790_000_000, expires=1_790_000_900,
    )  # fmt: skip
    raw, rates = sign_descriptor(made, key).encoded, RateRule()
    door = Admission(network.genesis.network_id, AdmissionRule(rates=rates))
    taken = 0
    for i in range(3000):
        try:
            door.check_unverified(b"", raw, source, 1_790_000_000 + i * 0.001)
            taken += 1
        except Refused:
            pass
    assert taken == (3000 if source is VOUCHED else rates.near[1])
    assert door.counts[Rung.RATE] == 3000 - taken


def test_a_place_in_the_table_has_no_share_of_its_own(network_of: Any, virtual: Any) -> None:
    """Ids of the table cost nothing: whoever stands there and in no view hands descriptors in by its network's rate."""

    async def main() -> None:
        network = network_of(4)
        network.start(*range(5))
        await network.run_to(11)
        service = network.nodes[0].service
        spread = service._spread
        member, stranger = network.nodes[4].gateway_facts.link_key, b"s" * 32
        spread._table._node.table.contacts = lambda: [type("Place", (), {"link_key": stranger})()]
        assert spread.knows(stranger)
        assert spread.source(stranger, b"\x7f\0\0\1") is not VOUCHED
        assert spread.source(stranger, b"") is None
        assert spread.source(member, b"\x7f\0\0\1") is VOUCHED
        assert spread.is_member(member)
        assert not spread.is_member(stranger)

    virtual(main())
