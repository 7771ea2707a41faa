"""Caps by address, network and family; who has been seen since when."""

from __future__ import annotations

import ipaddress
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir import caps as module
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.caps import (
    NO_CAPS,
    CapCounter,
    CapRule,
    FirstSeen,
    Member,
    on_probation,
    within_caps,
    without_probationers,
)
from phantomband.core.netdir.view import Flags

RULE = CapRule(address=2, v4_24=3, v4_16=5, v6_48=3, v6_32=5, family=4)
SALT = b"\x01" * 32


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def member(number: int, *hosts: str, family: bytes = b"", since: int = 0) -> Member:
    return Member(node(number), tuple(NodeAddress("tcp", host, 9000) for host in hosts), family, since)


HOSTS = st.sampled_from(
    [f"10.{a}.{b}.{c}" for a in range(2) for b in range(3) for c in range(4)]
    + [f"2001:db8:{a:x}::{c:x}" for a in range(1, 3) for c in range(1, 4)]
)
MEMBERS = st.lists(
    st.tuples(
        st.lists(HOSTS, min_size=1, max_size=3, unique=True), st.sampled_from([b"", b"f" * 32]), st.integers(0, 3)
    ),
    max_size=40,
).map(lambda drawn: [member(i, *hosts, family=family, since=since) for i, (hosts, family, since) in enumerate(drawn)])


def networks(one: Member) -> set[tuple[str, int]]:
    found = set()
    for address in one.addresses:
        v4 = ":" not in address.host
        for bits, cap in ((32, 2), (24, 3), (16, 5)) if v4 else ((128, 2), (48, 3), (32, 5)):
            found.add((str(ipaddress.ip_network(f"{address.host}/{bits}", strict=False)), cap))
    return found | ({("family", 4)} if one.family else set())


@given(MEMBERS)
def test_nobody_is_over_a_cap_and_nobody_is_left_out_for_nothing(members: list[Member]) -> None:
    kept = within_caps(members, RULE, SALT)
    counts = Counter(group for one in members if one.node_id in kept for group in networks(one))
    assert all(count <= cap for (_, cap), count in counts.items())
    for one in members:
        if one.node_id not in kept:
            assert any(counts[group] == group[1] for group in networks(one))


@given(MEMBERS, st.randoms(use_true_random=False))
def test_the_order_in_which_nodes_come_does_not_matter(members: list[Member], random: object) -> None:
    shuffled = list(members)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert within_caps(members, RULE, SALT) == within_caps(shuffled, RULE, SALT)


def test_old_nodes_stay_and_newcomers_wait() -> None:
    members = [member(i, f"10.0.0.{i}", since=9 - i) for i in range(1, 9)]
    assert within_caps(members, RULE, SALT) == (node(8), node(7), node(6))


def test_ties_among_newcomers_are_settled_by_the_salt() -> None:
    members = [member(i, f"10.0.0.{i}") for i in range(1, 40)]
    outcomes = {within_caps(members, RULE, bytes((salt,)) * 32) for salt in range(20)}
    assert len(outcomes) > 10
    assert all(len(kept) == 3 for kept in outcomes)


def test_several_addresses_in_one_network_count_once() -> None:
    counter = CapCounter(RULE)
    one = member(1, "10.0.0.1", "10.0.0.2", "10.0.0.3")
    counter.add(one.addresses)
    counter.add(one.addresses)
    assert not counter.has_room(one.addresses), "two nodes share the addresses"
    assert counter.has_room(member(2, "10.0.0.4").addresses)
    counter.add(member(2, "10.0.0.4").addresses)
    assert not counter.has_room(member(3, "10.0.0.5").addresses), "three nodes share the /24"
    assert counter.has_room(member(3, "10.0.1.5").addresses)


def test_without_caps_all_nodes_fit_on_one_address() -> None:
    members = [member(i, "127.0.0.1", family=b"f" * 32) for i in range(100)]
    assert len(within_caps(members, NO_CAPS, SALT)) == 100
    with pytest.raises(UserError):
        CapRule(address=-1)


def test_who_was_seen_is_remembered_and_probation_ends() -> None:
    seen = FirstSeen()
    seen.note(1, [(node(1), 1), (node(2), 1)])
    seen.note(20, [(node(1), 1), (node(3), 20)])
    assert [seen.since(node(i), 21) for i in (1, 2, 3, 4)] == [1, 1, 20, 21]
    assert seen.since(node(4), 21, predecessor=node(3)) == 20
    seen.succeeded(node(3))
    assert seen.since(node(5), 21, predecessor=node(3)) == 21, "an identity has one successor"
    assert not on_probation(1, 2, 8), "the network is as young"
    assert [on_probation(20, epoch, 8) for epoch in (20, 27, 28)] == [True, True, False]
    assert not on_probation(28, 28, 0)


def test_who_was_away_too_long_is_a_newcomer() -> None:
    seen = FirstSeen()
    seen.note(1, [(node(1), 1), (node(2), 1)])
    seen.note(module.FORGET_EPOCHS, [(node(1), 1)])
    assert seen.since(node(2), module.FORGET_EPOCHS) == 1
    assert seen.since(node(2), module.FORGET_EPOCHS + 1) == module.FORGET_EPOCHS + 1
    assert seen.since(node(1), module.FORGET_EPOCHS + 1) == 1


@given(st.lists(st.lists(st.integers(0, 50), unique=True, max_size=12), max_size=40))
def test_memory_of_who_was_seen_is_bounded(views: list[list[int]]) -> None:
    seen = FirstSeen(max_nodes=10)
    for epoch, view in enumerate(views, 1):
        seen.note(epoch, [(node(number), seen.since(node(number), epoch)) for number in view])
        assert len(seen) <= 10 + len(view)
        assert all(seen.since(node(number), epoch) <= epoch for number in view)


def test_probation_takes_guard_and_exit_and_nothing_else() -> None:
    flags = Flags.GUARD | Flags.EXIT | Flags.FAST | 1 << 9
    assert without_probationers(flags, True) == Flags.FAST | 1 << 9
    assert without_probationers(flags, False) == flags
