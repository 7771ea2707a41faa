"""What directories make, every reader takes: each limit of a reader stands in the producer, from the same constant."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from phantomband.core import dircall
from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId
from phantomband.core.netdir import ballot, replies, requests, tally
from phantomband.core.netdir.address import MAX_ADDRESSES_BYTES, NodeAddress, encode_addresses
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES, CertifiedView
from phantomband.core.netdir.codec import IDENTITY_BYTES, SIGNATURE_BYTES
from phantomband.core.netdir.descriptor import (
    MAX_DESCRIPTOR_BYTES,
    MAX_FAMILY,
    MAX_LISTED_BYTES,
    SUCCESSION_BYTES,
    Descriptor,
    listed_bytes,
)
from phantomband.core.netdir.genesis import MAX_DIRECTORIES, DirectoryInfo
from phantomband.core.netdir.view import MAX_ENTRY_BYTES, MAX_VIEW_BYTES, View, ViewEntry
from phantomband.core.netdir.view_diff import make_diff

POLICY = "\n".join(f"accept *:{port}" for port in range(10_000, 10_061))
"""976 bytes."""


def full(world: object, genesis: object, index: int, size: int = MAX_LISTED_BYTES) -> Descriptor:
    """A descriptor that lists as much as it may, under an identity that signs nothing."""
    identity = hashlib.shake_256(str(index).encode()).digest(IDENTITY_BYTES)
    host = f"{20 + index // 4096}.{index // 16 % 256}.{index % 16 // 4}.{1 + index % 4}"
    address = NodeAddress("tcp", host, 9001)
    fill = size - len(POLICY) - len(b"\1" + address.encode()) - len("none") - len("off")
    address = replace(address, parameters=(("pad", "x" * (fill - len("pad") - 3)),))
    made = world.descriptor(  # type: ignore[attr-defined]
        genesis, 1, identity=identity, addresses=(address,), exit_policy=POLICY, nickname="", padding="off"
    )
    assert listed_bytes(made) == size
    return made  # type: ignore[no-any-return]


def build(world: object, count: int) -> View:
    genesis = world.genesis(4, test_network=False)  # type: ignore[attr-defined]
    made = [full(world, genesis, index) for index in range(count)]
    digests = {bytes(one.node_id): one for one in made}
    chosen = [tally.Chosen(one.node_id, bytes(one.node_id), 3, 9, 1) for one in sorted(made, key=lambda d: d.node_id)]
    return tally.build_view(1, chosen, digests, None, bytes(32), genesis)


def test_a_view_ends_where_its_readers_limit_is(world: object) -> None:
    view = build(world, 2700)
    raw = view.encode()
    assert MAX_VIEW_BYTES - MAX_ENTRY_BYTES < len(raw) <= MAX_VIEW_BYTES
    assert View.decode_untrusted(raw) == view
    certified = CertifiedView(view, raw, tuple((i, bytes(SIGNATURE_BYTES)) for i in range(MAX_DIRECTORIES)))
    assert len(certified.encode()) <= MAX_CERTIFIED_BYTES
    reply = replies.encode_reply(replies.ViewReply(certified.encode()))
    assert len(reply) <= dircall.MAX_ANSWER_BYTES
    assert replies.decode_reply_untrusted(reply)
    small = replace(view, entries=view.entries[:5])
    diff = make_diff(small.encode(), certified)
    assert diff is None or len(diff) < len(certified.encode())


def test_who_is_left_out_of_a_full_view_is_the_same_everywhere_and_never_an_old_node(world: object) -> None:
    genesis = world.genesis(4, test_network=False)  # type: ignore[attr-defined]
    made = [full(world, genesis, index) for index in range(2700)]
    digests = {bytes(one.node_id): one for one in made}
    chosen = [tally.Chosen(one.node_id, bytes(one.node_id), 3, 9, 1) for one in sorted(made, key=lambda d: d.node_id)]
    last = max(one.node_id for one in made)
    chosen[-1] = replace(chosen[-1], since=1)
    aged = [replace(one, since=2) if one.node_id != last else one for one in chosen]
    first, again = (
        tally.build_view(3, order, digests, None, bytes(32), genesis) for order in (aged, list(reversed(aged)))
    )
    assert first == again
    assert len(first.entries) < 2700
    assert first.find(last) is not None, "who is known longest stays"


def test_a_descriptor_lists_no_more_than_an_entry_may_have(world: object) -> None:
    genesis = world.genesis(4)  # type: ignore[attr-defined]
    fits = full(world, genesis, 1)
    with pytest.raises(Malformed, match="lists 1281 bytes"):
        full(world, genesis, 1, MAX_LISTED_BYTES + 1)
    entry = ViewEntry(
        fits.node_id, fits.link_key, fits.onion_key, fits.onion_key, fits.addresses, 1, 1, fits.exit_policy, bytes(32),
        fits.mix, fits.nickname, fits.padding,
    )  # fmt: skip
    assert len(entry.encode()) == MAX_ENTRY_BYTES, "the largest descriptor gives the largest entry"
    assert ViewEntry.decode_untrusted(entry.encode()) == entry
    with pytest.raises(Malformed, match="over the limit"):
        ViewEntry.decode_untrusted(replace(entry, nickname="xy").encode())


def test_addresses_of_a_node_have_a_budget_in_bytes(world: object) -> None:
    pad = tuple((f"a{i}", "x" * 505) for i in range(2))  # 1,010 bytes of values
    address = NodeAddress("tcp", "192.0.2.1", 1, pad)
    assert len(encode_addresses((address,))) > MAX_ADDRESSES_BYTES
    genesis = world.genesis(1)  # type: ignore[attr-defined]
    info = genesis.directories[0]
    with pytest.raises(Malformed, match="1024 are allowed"):
        world.descriptor(genesis, 1, addresses=(address,))  # type: ignore[attr-defined]
    with pytest.raises(Malformed, match="1024 are allowed"):
        DirectoryInfo(info.nickname, info.identity, info.link_key, (address,))


def test_the_largest_descriptor_fits_its_carriers(world: object) -> None:
    genesis = world.genesis(1)  # type: ignore[attr-defined]
    family = tuple(NodeId(bytes([i]) * 32) for i in range(MAX_FAMILY))
    largest = replace(full(world, genesis, 1), family=family, software="s" * 64, succession=b"\0" * SUCCESSION_BYTES)
    size = len(largest.encode()) + SIGNATURE_BYTES
    assert size <= MAX_DESCRIPTOR_BYTES
    assert 2 + 255 + MAX_DESCRIPTOR_BYTES <= requests.MAX_REQUEST_BYTES


def test_the_largest_vote_is_taken(world: object) -> None:
    genesis = world.genesis(4)  # type: ignore[attr-defined]
    entries = tuple(
        ballot.VoteEntry(NodeId(index.to_bytes(32, "big")), bytes(32), 5, 3, 9)
        for index in range(ballot.MAX_VOTE_ENTRIES)
    )
    vote = ballot.Vote(genesis.network_id, 1, 0, 0, bytes(32), 7, entries)
    raw = vote.encode() + bytes(SIGNATURE_BYTES)
    assert len(raw) == ballot.MAX_VOTE_BYTES
    reply = replies.encode_reply(replies.Votes(replies.fitting([raw, raw, raw])))
    assert len(reply) <= dircall.MAX_ANSWER_BYTES
    decoded = replies.decode_reply_untrusted(reply)
    assert isinstance(decoded, replies.Votes)
    assert ballot.Vote.decode_untrusted(decoded.items[0]) == vote


@pytest.mark.parametrize("reason", ["über\nall", "x" * 500, ""])
def test_a_reason_is_what_its_reader_takes(reason: str) -> None:
    reply = replies.encode_reply(replies.RefusedReply(replies.Code.FULL, reason))
    assert replies.decode_reply_untrusted(reply)
