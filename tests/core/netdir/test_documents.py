"""Every document: round trip; any bytes, and any change of valid bytes, give a value or Malformed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Forged, Malformed
from phantomband.core.ids import NodeId
from phantomband.core.netdir import ballot, replies, requests
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.codec import SIGNATURE_BYTES
from phantomband.core.netdir.descriptor import (
    decode_untrusted,
    decode_unverified,
    sign_descriptor,
)
from phantomband.core.netdir.view import View, ViewEntry
from phantomband.core.wire import Reader

Decode = Callable[[bytes], Any]


def read_address(data: bytes) -> NodeAddress:
    reader = Reader(data)
    address = NodeAddress.read_untrusted(reader)
    reader.end()
    return address


def samples(world: Any) -> dict[str, tuple[bytes, Decode, Callable[[Any], bytes]]]:
    """name -> (valid bytes, decode, encode)."""
    genesis = world.genesis()
    key: IdentityKey = world.key(0)
    view = world.view(genesis, [world.entry(i) for i in range(5)])
    certified = world.certify(view, [0, 2, 3])
    entries = tuple(ballot.VoteEntry(NodeId(bytes([i]) * 32), bytes(32), 5, 3, 9) for i in range(4))
    vote = ballot.Vote(genesis.network_id, 3, 0, 2, bytes(32), 77, entries)
    echo = ballot.Echo(genesis.network_id, 3, 0, ((0, bytes(32)), (2, bytes([1]) * 32)))
    share = ballot.ViewSignature(genesis.network_id, 3, 1, bytes(32), bytes(32), genesis.set_id, bytes(3373))
    signed = sign_descriptor(world.descriptor(genesis, 1, family=(NodeId(bytes(32)),)), key)
    address = NodeAddress("quic", "2001:db8::1", 443, (("alpn", "h3"), ("sni", "example.org")))
    tail = bytes(SIGNATURE_BYTES)
    made = {
        "address": (address.encode(), read_address, NodeAddress.encode),
        "descriptor": (
            signed.encoded[:-SIGNATURE_BYTES] + tail,
            decode_unverified,
            lambda d: d.encode() + tail,
        ),
        "entry": (world.entry(3).encode(), ViewEntry.decode_untrusted, ViewEntry.encode),
        "view": (view.encode(), View.decode_untrusted, View.encode),
        "certified": (certified.encode(), CertifiedView.decode_untrusted, CertifiedView.encode),
        "vote": (vote.encode() + tail, ballot.Vote.decode_untrusted, lambda v: v.encode() + tail),
        "echo": (echo.encode() + tail, ballot.Echo.decode_untrusted, lambda e: e.encode() + tail),
        "share": (share.encode(), ballot.ViewSignature.decode_untrusted, ballot.ViewSignature.encode),
    }
    for one in REQUESTS:
        encoded = requests.encode_request(one)
        made[type(one).__name__] = (encoded, requests.decode_request_untrusted, requests.encode_request)
    for reply in REPLIES:
        encoded = replies.encode_reply(reply)
        made[type(reply).__name__] = (encoded, replies.decode_reply_untrusted, replies.encode_reply)
    return made


REQUESTS: list[requests.Request] = [
    requests.GetView(7),
    requests.Publish(b"descriptor", b"stamp"),
    requests.GetDescriptors((bytes(32), bytes([1]) * 32)),
    requests.Ballot(requests.BallotKind.ECHO, b"echo"),
    requests.GetVotes(9, (bytes(32),)),
    requests.VoteHeld(9, 3, bytes(32)),
    requests.GetChanges(2),
    requests.SubmitChange(b"change"),
    requests.GetGenesis(),
    requests.GetViewDiff(9, bytes(32)),
    requests.Table(b"find"),
    requests.Reconcile(b"ranges"),
    requests.GetRecords((NodeId(bytes(32)), NodeId(bytes([1]) * 32))),
]
REPLIES: list[replies.Reply] = [
    replies.ViewReply(b"view"),
    replies.NotNewer(3),
    replies.Accepted(),
    replies.Descriptors((b"one", b"")),
    replies.Votes((b"one", b"two")),
    replies.Changes((b"one",)),
    replies.GenesisReply(b"{}"),
    replies.ViewDiffReply(b"diff"),
    replies.TableReply(b"found"),
    replies.ReconcileReply(b"ranges"),
    replies.Records(((b"stamp", b"one"), (b"", b""))),
    replies.RefusedReply(replies.Code.BUSY, "later"),
]
NAMES = ["address", "descriptor", "entry", "view", "certified", "vote", "echo", "share"]
NAMES += [type(one).__name__ for one in (*REQUESTS, *REPLIES)]

CARRIERS = {"Publish", "Ballot", "SubmitChange", "Table", "Reconcile"}
CARRIERS |= {"ViewReply", "GenesisReply", "ViewDiffReply", "TableReply", "ReconcileReply"}
"""These carry a document of any length."""


@pytest.fixture(scope="module")
def made(world: Any) -> dict[str, tuple[bytes, Decode, Callable[[Any], bytes]]]:
    return samples(world)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name: str, made: Any) -> None:
    encoded, decode, encode = made[name]
    assert encode(decode(encoded)) == encoded
    with pytest.raises(Malformed):
        decode(b"")
    if name not in CARRIERS:
        for broken in (encoded[:-1], encoded + b"\x00"):
            with pytest.raises(Malformed):
                decode(broken)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_bytes_give_a_value_of_one_encoding_or_malformed(name: str, made: Any, data: st.DataObject) -> None:
    encoded, decode, encode = made[name]
    changed = bytearray(encoded)
    interesting = len(encoded) - (SIGNATURE_BYTES if len(encoded) > SIGNATURE_BYTES else 0)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, max(0, interesting - 1)))] = data.draw(st.integers(0, 255))
    try:
        value = decode(bytes(changed))
    except Malformed:
        return
    if name != "certified":  # its view is kept as the bytes that were signed
        assert encode(value)[: len(changed) - SIGNATURE_BYTES] == bytes(changed)[: len(changed) - SIGNATURE_BYTES]
        assert len(encode(value)) == len(changed)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(raw=st.binary(max_size=300))
def test_any_bytes_give_a_value_or_malformed(name: str, made: Any, raw: bytes) -> None:
    _, decode, encode = made[name]
    try:
        assert encode(decode(raw)) == raw
    except Malformed:
        pass


def test_descriptor_signature(world: Any) -> None:
    genesis = world.genesis()
    descriptor = world.descriptor(genesis, 2)
    signed = sign_descriptor(descriptor, world.key(2))
    assert decode_untrusted(signed.encoded, genesis.network_id) == signed
    assert signed.node_id == world.key(2).node_id
    again = sign_descriptor(descriptor, world.key(2))
    assert (again.digest, again.descriptor) == (signed.digest, signed.descriptor)
    with pytest.raises(Forged):
        decode_untrusted(sign_descriptor(descriptor, world.key(3)).encoded, genesis.network_id)
    at = signed.encoded.index(b"node2")
    with pytest.raises(Forged):
        decode_untrusted(signed.encoded[:at] + b"N" + signed.encoded[at + 1 :], genesis.network_id)
    with pytest.raises(Malformed, match="another network"):
        decode_untrusted(signed.encoded, bytes(32))


@pytest.mark.parametrize(
    "changes",
    [
        {"nickname": "x" * 33},
        {"nickname": "no spaces"},
        {"exit_policy": "accept everything"},
        {"link_key": b""},
        {"expires": 0},
        {"mix": "\n"},
        {"padding": "\n"},
        {"padding": "x" * 65},
        {"family": (NodeId(b"b" * 32), NodeId(b"a" * 32))},
    ],
)
def test_descriptor_bounds(world: Any, changes: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        world.descriptor(world.genesis(), 0, **changes)


def test_an_entry_is_about_200_bytes(world: Any) -> None:
    assert 150 < len(world.entry(1).encode()) < 210


def test_address_text() -> None:
    for text in (
        "meek_lite://192.0.2.1:443?url=x",
        "tcp://192.0.2.1:9001",
        "quic://[2001:db8::1]:443?alpn=h3&sni=a%20b",
    ):
        assert NodeAddress.parse(text).text() == text
    for wrong in (
        "192.0.2.1:9001",
        "tcp://example.org:1",
        "tcp://192.0.2.1",
        "tcp://192.0.2.1:0",
        "tcp://1.2.3.4:5/x",
    ):
        with pytest.raises((ValueError, Malformed)):
            NodeAddress.parse(wrong)
    assert "192" not in repr(NodeAddress.parse("tcp://192.0.2.1:9001"))


def test_request_limits() -> None:
    with pytest.raises(Malformed, match="over the limit"):
        requests.decode_request_untrusted(bytes(65 * 1024))
    assert len(replies.fitting([bytes(1024 * 1024)] * 5)) == 3
