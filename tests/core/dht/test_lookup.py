"""A lookup ends, stays within its bounds, keeps its paths apart, and finds the closest among liars."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.dht.contact import Contact, by_distance
from phantomband.core.dht.lookup import Held, Lookup
from phantomband.core.dht.parameters import Parameters
from phantomband.core.ids import NodeId

P = Parameters(bucket=8, siblings=8, paths=4, path_requests=20)
OWN = NodeId(b"\xee" * 32)


def people(source: random.Random, count: int) -> list[Contact]:
    return [
        Contact(
            NodeId(source.randbytes(32)), source.randbytes(31) + b"\1", source.randbytes(4), 1 + source.randrange(9999)
        )
        for _ in range(count)
    ]


def tables(source: random.Random, everyone: list[Contact]) -> dict[NodeId, list[Contact]]:
    """Who knows whom: eight of each distance."""
    out = {}
    for one in everyone:
        groups: dict[int, list[Contact]] = {}
        for other in source.sample(everyone, len(everyone)):
            if other is not one and len(group := groups.setdefault((one.number ^ other.number).bit_length(), [])) < 8:
                group.append(other)
        near = by_distance([other for other in everyone if other is not one], one.number)[:8]
        out[one.node_id] = [contact for group in groups.values() for contact in group] + near
    return out


def test_the_closest_are_found_by_every_searcher() -> None:
    source = random.Random(1)
    everyone = people(source, 300)
    knows = tables(source, everyone)
    for _ in range(20):
        target = source.getrandbits(256)
        lookup = Lookup(target, OWN, source.sample(everyone, 8), P)
        while not lookup.done:
            for contact in lookup.next_requests():
                lookup.answered(contact.node_id, by_distance(set(knows[contact.node_id]), target)[: P.bucket])
        assert lookup.result() == by_distance(everyone, target)[: P.siblings]
        assert lookup.requests <= P.paths * P.path_requests


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_any_answers_end_it_within_bounds(seed: int) -> None:
    source = random.Random(seed)
    lookup, asked, waits = Lookup(source.getrandbits(256), OWN, people(source, 8), P, search=True), [], []
    for _ in range(10_000):
        new = lookup.next_requests()
        asked += new
        waits += new
        if lookup.done:
            break
        assert len(waits) <= P.paths
        contact = waits.pop(source.randrange(len(waits)))
        if source.random() < 0.3:
            lookup.failed(contact.node_id, forged=source.random() < 0.5)
        else:
            held = Held(source.randrange(3), bytes(32), 100) if source.random() < 0.2 else None
            lookup.answered(contact.node_id, people(source, source.randrange(40)), held)
    assert lookup.done
    assert lookup.next_requests() == []
    assert len(set(asked)) == len(asked) == lookup.requests <= P.paths * P.path_requests


def test_a_liar_spoils_its_own_path_only() -> None:
    source = random.Random(3)
    everyone = people(source, 300)
    knows, fakes = tables(source, everyone), set[NodeId]()
    target = source.getrandbits(256)
    lookup = Lookup(target, OWN, everyone[:8], P)
    liar = lookup.next_requests()[0]
    others = {liar.node_id}
    lookup.answered(liar.node_id, made_up := people(source, 8))
    fakes |= {one.node_id for one in made_up}
    lookup.failed(b"nobody was asked by this name".ljust(32)[:32])  # type: ignore[arg-type]
    for contact in by_distance(everyone[:8], target)[1:4]:
        lookup.answered(contact.node_id, by_distance(set(knows[contact.node_id]), target)[: P.bucket])
        others.add(contact.node_id)
    while not lookup.done:
        for contact in lookup.next_requests():
            if contact.node_id in fakes:
                lookup.answered(contact.node_id, more := people(source, 8))
                fakes |= {one.node_id for one in more}
            else:
                lookup.answered(contact.node_id, by_distance(set(knows[contact.node_id]), target)[: P.bucket])
    found = {contact.node_id for contact in lookup.result()}
    right = {contact.node_id for contact in by_distance(everyone, target)[: P.siblings]}
    assert len(found & right) >= P.siblings - 1


def test_who_names_a_false_id_is_not_believed() -> None:
    source = random.Random(4)
    first, named = people(source, 1), people(source, 6)
    lookup = Lookup(0, OWN, first, replace(P, paths=1))
    lookup.answered(lookup.next_requests()[0].node_id, named)
    false = lookup.next_requests()[0]
    lookup.failed(false.node_id, forged=True)
    assert lookup.next_requests() == []
    assert lookup.done
    assert lookup.result() == []


def test_a_false_address_spoils_an_id_for_its_path_only() -> None:
    source = random.Random(9)
    wanted, liar, honest, *_ = people(source, 8)
    target = wanted.number
    false = replace(wanted, ip=b"\xc0\x00\x02\x01")
    lookup = Lookup(target, OWN, [liar, honest], replace(P, paths=2))
    asked = {contact.node_id for contact in lookup.next_requests()}
    assert asked == {liar.node_id, honest.node_id}
    lookup.answered(liar.node_id, [false])
    assert lookup.next_requests() == [false]
    lookup.failed(false.node_id)
    lookup.answered(honest.node_id, [false, wanted])
    assert lookup.next_requests() == [wanted], "an id at an address that failed is not asked again, at another it is"
    lookup.answered(wanted.node_id, [])
    while lookup.next_requests():
        pass
    assert lookup.done
    assert wanted in lookup.result()
    assert false not in lookup.result()


def test_an_id_that_failed_is_asked_by_who_knew_it_at_another_address() -> None:
    source = random.Random(10)
    wanted, liar, honest, *_ = people(source, 8)
    false = replace(wanted, port=1)
    lookup = Lookup(wanted.number, OWN, [liar, honest], replace(P, paths=2))
    lookup.next_requests()
    lookup.answered(liar.node_id, [false])
    assert lookup.next_requests() == [false]
    lookup.answered(honest.node_id, [wanted, people(source, 1)[0]])
    (other,) = lookup.next_requests()
    assert other.node_id != wanted.node_id, "while one path waits for it, no other asks"
    lookup.failed(wanted.node_id)
    lookup.answered(other.node_id, [])
    assert wanted in lookup.next_requests()


def test_one_silent_contact_is_no_lie() -> None:
    source = random.Random(5)
    lookup = Lookup(0, OWN, people(source, 1), replace(P, paths=1))
    lookup.answered(lookup.next_requests()[0].node_id, people(source, 6))
    lookup.failed(lookup.next_requests()[0].node_id)
    assert len(lookup.next_requests()) == 1


def test_results_are_of_different_networks() -> None:
    source = random.Random(6)
    crowd = [Contact(one.node_id, one.link_key, b"\x0a\x01" + source.randbytes(2), 1) for one in people(source, 30)]
    lookup = Lookup(0, OWN, crowd, P)
    while not lookup.done:
        for contact in lookup.next_requests():
            lookup.answered(contact.node_id, [])
    assert len(lookup.result()) == P.far_limit


def test_a_search_ends_when_holders_on_two_paths_agree() -> None:
    source = random.Random(7)
    lookup = Lookup(0, OWN, people(source, 16), replace(P, agree=3), search=True)
    held, asked = Held(7, b"d" * 32, 10), 0
    while not lookup.done:
        for contact in lookup.next_requests():
            asked += 1
            lookup.answered(contact.node_id, [], held if asked > 1 else Held(9, b"x" * 32, 10))
    assert asked == 4
    assert [lookup.held[one.node_id].version for one in lookup.holders()] == [9, 7, 7, 7]
