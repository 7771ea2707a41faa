"""Who counts as reached: newcomers at once and with patience, members until they fail for long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from phantomband.core.ids import NodeId
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.reach import AT_ONCE_OF_NETWORK, GIVE_UP_FAILURES, Reachability, Try

OWN = NodeId(b"o" * 32)
AGAIN, SPAN = 100.0, 40.0


def machine() -> Reachability:
    return Reachability(OWN, AGAIN, SPAN)


def test_a_newcomer_is_tried_at_once_and_again_ever_later(world: Any) -> None:
    reach, descriptor = machine(), world.descriptor(world.genesis(), 1)
    reach.note(descriptor, 0.0)
    assert not reach.is_reached(descriptor)
    now, waits = 0.0, []
    for _ in range(12):
        (tried,) = reach.take_due(now, 5)
        assert tried == Try(descriptor.node_id, descriptor.link_key, descriptor.addresses)
        assert reach.take_due(now, 5) == [], "one try at a time"
        assert reach.deadline() is None
        reach.failed(tried, now, 1.0)
        due = reach.deadline()
        assert due is not None
        assert reach.take_due(due - 0.01, 5) == []
        waits.append(due - now)
        now = due
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert waits[-1] == AGAIN
    (tried,) = reach.take_due(now, 5)
    assert reach.succeeded(tried, now, 1.0)
    assert reach.is_reached(descriptor)
    assert (reach.reached, reach.unreached) == (1, 0)
    assert reach.deadline() == now + AGAIN


def test_another_key_or_address_must_be_reached_anew(world: Any) -> None:
    reach, descriptor = machine(), world.descriptor(world.genesis(), 1)
    reach.note(descriptor, 0.0)
    reach.succeeded(reach.take_due(0.0, 1)[0], 0.0, 0.5)
    for changed in (replace(descriptor, link_key=b"k" * 32), replace(descriptor, addresses=(world.address(9),))):
        reach.note(changed, 1.0)
        assert not reach.is_reached(changed)
        assert reach.is_reached(descriptor), "the one before still stands"
        (tried,) = reach.take_due(1.0, 1)
        reach.failed(tried, 1.0, 0.5)
        assert not reach.is_reached(changed)
    reach.note(descriptor, 2.0)
    (tried,) = reach.take_due(2.0, 1)
    reach.note(replace(descriptor, onion_key=b"o" * 32), 2.0)
    assert not reach.succeeded(tried, 2.0, 0.5), "no news: it was reached there before"
    assert reach.is_reached(descriptor)


def test_a_member_is_given_up_after_failures_over_a_span_while_others_are_reached(world: Any) -> None:
    reach, genesis = machine(), world.genesis()
    gone, there = world.descriptor(genesis, 1), world.descriptor(genesis, 2)
    for one in (gone, there):
        reach.assume(one.node_id, one.link_key, one.addresses, 0.0)
        assert reach.is_reached(one)
    failures, now = 0, 0.0
    while reach.is_reached(gone):
        for tried in reach.take_due(now, 5):
            if tried.node_id == gone.node_id:
                reach.failed(tried, now, 1.0)
                failures += 1
            else:
                reach.succeeded(tried, now, 0.0)
        now += 1.0
        assert now < 200
    assert failures >= GIVE_UP_FAILURES
    assert SPAN <= now <= 3 * SPAN
    assert reach.is_reached(there)


def test_nobody_is_given_up_while_nobody_at_all_is_reached(world: Any) -> None:
    reach, genesis = machine(), world.genesis()
    members = [world.descriptor(genesis, index) for index in range(1, 6)]
    for one in members:
        reach.assume(one.node_id, one.link_key, one.addresses, 0.0)
    for now in range(1000):
        for tried in reach.take_due(float(now), 9):
            reach.failed(tried, float(now), 0.5)
    assert all(reach.is_reached(one) for one in members)


def test_a_busy_machine_that_misses_some_empties_nothing(world: Any) -> None:
    """Three of four tries fail, whoever it is: who is given up comes back soon, and most are there at any time."""
    reach, genesis = machine(), world.genesis()
    members = [world.descriptor(genesis, index) for index in range(1, 6)]
    for one in members:
        reach.assume(one.node_id, one.link_key, one.addresses, 0.0)
    count = 0
    for now in range(2000):
        for tried in reach.take_due(float(now), 9):
            count += 1
            (reach.failed if count % 4 else reach.succeeded)(tried, float(now), 0.5)
        assert sum(reach.is_reached(one) for one in members) >= 3


def test_ourselves_need_no_proof_and_others_are_forgotten(world: Any) -> None:
    genesis = world.genesis()
    own, other = world.descriptor(genesis, 1), world.descriptor(genesis, 2)
    reach = Reachability(own.node_id, AGAIN, SPAN)
    assert reach.is_reached(own)
    reach.note(own, 0.0)
    reach.assume(own.node_id, own.link_key, own.addresses, 0.0)
    assert reach.take_due(0.0, 5) == []
    reach.note(other, 0.0)
    (tried,) = reach.take_due(0.0, 5)
    reach.retain([])
    assert reach.unreached == 1, "it is being tried"
    reach.failed(tried, 0.0, 0.5)
    reach.retain([])
    assert reach.unreached == 0
    assert not reach.succeeded(tried, 1.0, 0.5)
    assert not reach.is_reached(other)
    reach.failed(tried, 1.0, 0.5)


def test_newcomers_come_before_members_and_no_more_than_asked_for(world: Any) -> None:
    reach, genesis = machine(), world.genesis()
    for index in range(10):
        one = world.descriptor(genesis, index)
        if index < 5:
            reach.assume(one.node_id, one.link_key, one.addresses, 0.0)
        else:
            reach.note(one, 1.0)
    first = reach.take_due(1.0, 5)
    newcomers = {world.descriptor(genesis, index).node_id for index in range(5, 10)}
    assert {tried.node_id for tried in first} == newcomers
    assert len(reach.take_due(1.0, 3)) == 3


def descriptors(world: Any, hosts: list[str]) -> list[Any]:
    genesis = world.genesis()
    return [
        world.descriptor(genesis, index, addresses=(NodeAddress("tcp", host, 9001),))
        for index, host in enumerate(hosts)
    ]


def test_networks_take_turns_however_many_nodes_one_has(world: Any) -> None:
    """Forty that say nothing, in one /16, and one newcomer elsewhere that comes last: it is tried next."""
    reach = machine()
    silent = descriptors(world, [f"20.1.{index // 4}.{index}" for index in range(40)])
    for one in silent:
        reach.note(one, 0.0)
    held = reach.take_due(0.0, 16)
    assert len(held) == AT_ONCE_OF_NETWORK, "no network holds all tries"
    assert len({tried.addresses[0].ip.packed[:3] for tried in held}) == 4, "its /24 take turns too"
    honest = world.descriptor(world.genesis(), 50, addresses=(NodeAddress("tcp", "30.1.1.1", 9001),))
    reach.note(honest, 1.0)
    assert [tried.node_id for tried in reach.take_due(1.0, 1)] == [honest.node_id]


def test_a_network_that_was_served_waits_for_the_others(world: Any) -> None:
    reach = Reachability(OWN, AGAIN, SPAN)
    many = descriptors(world, [f"{20 + index % 4}.1.{index}.1" for index in range(24)])
    for one in many:
        reach.note(one, 0.0)
    served = []
    for turn in range(12):
        (tried,) = reach.take_due(0.0, 1)
        served.append(tried.addresses[0].host.partition(".")[0])
        reach.failed(tried, float(turn), 0.5)
    assert all(set(served[at : at + 4]) == {"20", "21", "22", "23"} for at in (0, 4, 8))


def test_first_tries_come_before_retries_in_a_network(world: Any) -> None:
    reach = machine()
    old, new = descriptors(world, ["20.1.1.1", "20.1.1.2"])
    reach.note(old, 0.0)
    (tried,) = reach.take_due(0.0, 1)
    assert tried.first
    reach.failed(tried, 0.0, 0.5)
    reach.note(new, 50.0)
    first, second = reach.take_due(50.0, 2)
    assert (first.node_id, second.node_id) == (new.node_id, old.node_id)
    assert (first.first, second.first) == (True, False)


def test_an_address_that_says_nothing_is_tried_seldom(world: Any) -> None:
    reach, now, tries = machine(), 0.0, 0
    (silent,) = descriptors(world, ["20.1.1.1"])
    reach.note(silent, 0.0)
    while now < 300.0:
        for tried in reach.take_due(now, 1):
            tries += 1
            reach.failed(tried, now, 1.0, silent=True)
        now = reach.deadline() or now
    assert tries <= 7, "after 0, 5, 20, 80 s and then each `again`"


def test_what_is_counted_of_a_try_is_given_back_when_the_node_moves_meanwhile(world: Any) -> None:
    reach = machine()
    before, after = descriptors(world, ["20.1.1.1"])[0], descriptors(world, ["30.1.1.1"])[0]
    for _ in range(3 * AT_ONCE_OF_NETWORK):
        reach.note(before, 0.0)
        for tried in reach.take_due(9.0, 9):
            reach.note(after, 0.0)
            reach.failed(tried, 9.0, 0.5)
        for tried in reach.take_due(9.0, 9):
            reach.note(before, 0.0)
            reach.succeeded(tried, 9.0, 0.5)
    assert not reach._under_way
    reach.retain([])
    assert not reach._served
