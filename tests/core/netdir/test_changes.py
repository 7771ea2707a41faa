"""Changes of the directory set: the chain, its quorums, its notice; any bytes give a value or Malformed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Forged, Malformed, UserError
from phantomband.core.netdir.certified import UnknownSet, verify_untrusted
from phantomband.core.netdir.changes import DirectorySets, SetChange, apply, propose
from phantomband.core.netdir.genesis import DirectoryInfo, Genesis


def newcomer(world: Any, index: int) -> DirectoryInfo:
    return DirectoryInfo(f"dir{index}", world.key(index).public.raw, bytes([index]) * 32, (world.address(index),))


def change_of(
    world: Any, old: Genesis, number: int, acts_at: int, out: int, into: int, signers: list[int]
) -> SetChange:
    """Takes directory `out` out of the set and `into` in; `signers` are numbers of keys."""
    removed = [d.node_id for d in old.directories if d.identity == world.key(out).public.raw]
    change = propose(old, number, acts_at, removed, [newcomer(world, into)])
    for signer in signers:
        change = change.signed_by(old.index_of(world.key(signer).node_id), world.key(signer))
    return change


def test_a_chain_of_changes_leads_to_each_epochs_set(world: Any) -> None:
    genesis = world.genesis(4)
    first = change_of(world, genesis, 1, 10, 0, 7, [0, 1, 2])
    middle = apply(first, genesis)
    second = change_of(world, middle, 2, 20, 1, 8, [2, 3, 7])
    sets = DirectorySets(genesis)
    with pytest.raises(Malformed, match="change 2 before change 1"):
        sets.offer_untrusted(second.encode())
    assert sets.offer_untrusted(first.encode())
    assert not sets.offer_untrusted(first.encode()), "known already"
    assert sets.offer_untrusted(second.encode())
    names = {epoch: [d.nickname for d in sets.at(epoch).directories] for epoch in (1, 9, 10, 19, 20, 99)}
    assert names[1] == names[9] == ["dir0", "dir1", "dir2", "dir3"]
    assert names[10] == names[19] == ["dir1", "dir2", "dir3", "dir7"]
    assert names[20] == names[99] == ["dir2", "dir3", "dir7", "dir8"]
    assert {sets.at(epoch).network_id for epoch in (1, 10, 20)} == {genesis.network_id}
    assert len({sets.at(epoch).set_id for epoch in (1, 10, 20)}) == 3
    assert (sets.pending(19), sets.pending(20)) == (second.digest, bytes(32))
    late = DirectorySets(genesis)
    assert [late.offer_untrusted(raw) for raw in sets.encoded(1, 10)] == [True, True]
    assert late.newest == sets.newest


def test_only_a_quorum_of_the_old_set_changes_it(world: Any) -> None:
    genesis = world.genesis(4)
    sets = DirectorySets(genesis)
    few = change_of(world, genesis, 1, 10, 0, 7, [0, 1])
    with pytest.raises(Malformed, match="2 signatures, 3 are needed"):
        sets.offer_untrusted(few.encode())
    stranger = replace(few, signatures=(*few.signatures, (2, world.key(9).sign(few.body(), b"set-change"))))
    with pytest.raises(Forged):
        sets.offer_untrusted(stranger.encode())
    assert sets.newest is genesis
    good = change_of(world, genesis, 1, 10, 0, 7, [0, 1, 2])
    with pytest.raises(Malformed, match="notice"):
        sets.offer_untrusted(good.encode(), not_before=11)
    assert sets.offer_untrusted(good.encode(), not_before=10)
    other = change_of(world, genesis, 1, 10, 0, 8, [1, 2, 3])
    with pytest.raises(Malformed, match="another change 1"):
        sets.offer_untrusted(other.encode())


def test_signatures_of_several_operators_are_put_together(world: Any) -> None:
    genesis = world.genesis(4)
    plain = change_of(world, genesis, 1, 10, 0, 7, [])
    copies = [plain.signed_by(index, world.key(index)) for index in (3, 1, 0)]
    whole = copies[0].merged(copies[1]).merged(copies[2]).merged(copies[0])
    assert [index for index, _ in whole.signatures] == [0, 1, 3]
    assert DirectorySets(genesis).offer_untrusted(whole.encode())
    with pytest.raises(UserError, match="different changes"):
        plain.merged(change_of(world, genesis, 1, 11, 0, 7, []))


def test_changes_that_cannot_be_are_refused_with_a_reason(world: Any) -> None:
    genesis = world.genesis(2)
    with pytest.raises(UserError, match="is not in the set"):
        propose(genesis, 1, 10, [world.key(9).node_id], [])
    with pytest.raises(UserError, match="in the set already"):
        propose(genesis, 1, 10, [], [newcomer(world, 1)])
    with pytest.raises(UserError, match="must name 1 to"):
        propose(genesis, 1, 10, [d.node_id for d in genesis.directories], [])
    with pytest.raises(Malformed, match="changes nothing"):
        propose(genesis, 1, 10, [], [])
    with pytest.raises(UserError, match="too large"):
        propose(genesis, 1, 10, [], [newcomer(world, i) for i in range(2, 32)])


def test_views_are_verified_by_the_set_of_their_epoch(world: Any) -> None:
    genesis = world.genesis(4)
    change = change_of(world, genesis, 1, 3, 0, 7, [0, 1, 2])
    after = apply(change, genesis)
    entries = [world.entry(i) for i in range(3)]
    old, new = world.view(genesis, entries, 2), world.view(after, entries, 3)
    by_new = world.certify(new, [1, 2, 3, 7])  # the indices of world.certify are keys; those of the set follow
    placed = replace(by_new, signatures=tuple((i, s) for i, (_, s) in enumerate(by_new.signatures)))
    now = float(genesis.clock.end(3))
    with pytest.raises(UnknownSet):
        verify_untrusted(placed.encode(), genesis, now, 0)
    sets = DirectorySets(genesis)
    sets.offer_untrusted(change.encode())
    assert verify_untrusted(placed.encode(), sets, now, 0).view == new
    assert verify_untrusted(world.certify(old, [0, 1, 2]).encode(), sets, now, 0).view == old
    with pytest.raises(UnknownSet):
        late = replace(old, epoch=3, valid_after=new.valid_after, fresh_until=new.fresh_until)
        verify_untrusted(world.certify(replace(late, valid_until=new.valid_until), [0, 1, 2]).encode(), sets, now, 0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_bytes_of_a_change_are_read_alike_or_malformed(world: Any, data: st.DataObject) -> None:
    change = change_of(world, world.genesis(4), 1, 10, 0, 7, [0, 1, 2])
    encoded = bytearray(change.encode())
    assert SetChange.decode_untrusted(bytes(encoded)) == change
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert SetChange.decode_untrusted(bytes(encoded)).encode() == bytes(encoded)
    except Malformed:
        pass
