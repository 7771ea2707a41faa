"""The routing table keeps live contacts, limits prefixes, and always has the closest siblings that those allow."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.dht.contact import Contact, by_distance
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.table import RoutingTable
from phantomband.core.ids import NodeId

P = Parameters(bucket=4, siblings=4, near_limit=1, far_limit=2, far_table_limit=5)


def contact(source: random.Random, ip: bytes | None = None, first: int | None = None) -> Contact:
    raw = source.randbytes(32)
    node = raw if first is None else bytes([first]) + raw[1:]
    return Contact(NodeId(node), source.randbytes(31) + b"\1", ip or source.randbytes(4), 9001)


OWN = Contact(NodeId(bytes(32)), b"k" * 32, b"\xc0\0\2\1", 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120), st.integers(1, 40))
def test_limits_hold_whatever_comes_and_goes(seed: int, count: int, networks: int) -> None:
    source, table = random.Random(seed), RoutingTable(OWN, P)
    for now in range(count):
        ip = bytes([10, source.randrange(networks), source.randrange(4), source.randrange(256)])
        table.add(contact(source, ip), now)
        if source.random() < 0.3 and table.contacts():
            gone = source.choice(table.contacts())
            for _ in range(P.failures):
                table.failed(gone)
            assert gone.node_id not in table
    siblings, everyone = table.siblings(), table.contacts()
    assert len(siblings) <= P.siblings
    assert max(Counter(one.near for one in siblings).values(), default=0) <= P.near_limit
    assert max(Counter(one.far for one in siblings).values(), default=0) <= P.far_limit
    assert max(Counter(one.far for one in everyone).values(), default=0) <= P.far_table_limit
    rest = [one for one in everyone if one not in siblings]
    assert max(Counter(one.number.bit_length() for one in rest).values(), default=0) <= P.bucket
    assert len({one.node_id for one in everyone}) == len(everyone)


def test_siblings_are_the_closest() -> None:
    source, table = random.Random(1), RoutingTable(OWN, P)
    everyone = [contact(source) for _ in range(200)]
    for now, one in enumerate(everyone):
        table.add(one, now)
    assert table.siblings() == by_distance(everyone, 0)[: P.siblings]
    for _ in range(P.failures):
        table.failed(table.siblings()[0])
    assert table.siblings()[:3] == by_distance(everyone, 0)[1:4]
    assert len(table.siblings()) == P.siblings


def test_a_live_contact_is_not_put_out() -> None:
    source, table = random.Random(2), RoutingTable(OWN, P)
    for _ in range(P.siblings):
        table.add(contact(source, first=0), 0)
    old = [contact(source, first=200) for _ in range(P.bucket)]
    for now, one in enumerate(old):
        assert table.add(one, now) is None
    newcomer = contact(source, first=201)
    assert table.add(newcomer, 10) == old[0]
    assert newcomer.node_id not in table
    table.heard(old[0], 11)
    assert table.add(newcomer, 12) == old[1]
    table.failed(old[1])
    assert old[1].node_id in table
    assert old[1] not in table.closest(old[1].number, 20)
    table.failed(old[1])
    assert table.add(newcomer, 13) is None
    assert newcomer.node_id in table


def test_without_that_defence_the_newest_wins() -> None:
    source, table = random.Random(3), RoutingTable(OWN, replace(P, keep_live=False))
    for _ in range(P.siblings):
        table.add(contact(source, first=0), 0)
    many = [contact(source, first=200) for _ in range(3 * P.bucket)]
    for now, one in enumerate(many):
        table.add(one, now)
    assert set(table.contacts()) >= set(many[-P.bucket :])
    assert many[0].node_id not in table


def test_another_contact_with_the_same_id_changes_nothing() -> None:
    source, table = random.Random(4), RoutingTable(OWN, P)
    real = contact(source)
    table.add(real, 0)
    other = Contact(real.node_id, b"k" * 32, b"\1\2\3\4", 7)
    table.add(other, 1)
    for _ in range(5):
        table.failed(other)
    table.heard(other, 9)
    assert table.contacts() == [real]


def test_a_refresh_lands_in_its_bucket() -> None:
    source, table = random.Random(5), RoutingTable(OWN, P)
    for _ in range(60):
        table.add(contact(source), 0)
    stale = table.stale(P.refresh)
    assert stale
    for bucket in stale:
        target = table.place_in(bucket, source.getrandbits(256))
        assert (target ^ OWN.number).bit_length() == bucket
        table.touched(target, P.refresh)
    assert table.stale(P.refresh + 1) == []
