"""The one door into the pool, and gossip with peers that lie."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from phantomband.core.dht.descriptor_record import item_of
from phantomband.core.dht.reconcile import ItemSet, answer_untrusted
from phantomband.core.errors import Forged, Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.admission import Admission, AdmissionRule, RateRule, Rung
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor, sign_descriptor
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.pool_records import Record
from phantomband.core.work.equihash import TINY
from phantomband.core.work.stamp import Challenge
from phantomband_cli.work.solver import make_stamp
from phantomband_directory.budget import Budget
from phantomband_directory.gossip import MAX_REMEMBERED, Gossip, Remembered
from phantomband_directory.intake import Intake
from phantomband_directory.parts import Contact

VIEW_DIGEST = b"v" * 32
PEER = Contact(NodeId(b"p" * 32), b"k" * 32, ())


class Side:
    """One directory's pool and intake, in a network of one address."""

    def __init__(self, network: Any, rule: AdmissionRule | None = None) -> None:
        self.network, self.now = network, float(network.genesis.clock.start_time + 100)
        self.pool = DescriptorPool()
        self.admission = Admission(network.genesis.network_id, rule or AdmissionRule(rates=RateRule()))
        self.admission.new_view(1, VIEW_DIGEST, 0, [])
        self.added: list[SignedDescriptor] = []
        self.intake = Intake(self.pool, self.admission, lambda: self.now, self.added.append)

    def gossip(self, peer: Callable[[bytes], bytes], *, work: bool = False) -> Gossip:
        return Gossip(
            self.pool, self.intake, Wire(peer), lambda: None, lambda: [PEER], lambda: self.now, bytes, 1.0, work=work
        )


class Wire:
    """A network in which one function answers every call."""

    def __init__(self, peer: Callable[[bytes], bytes]) -> None:
        self.peer = peer

    async def call(self, contact: Contact, request: bytes) -> bytes:
        return self.peer(request)

    async def ask(self, contact: Contact, request: bytes) -> tuple[bytes, bytes]:
        return self.peer(request), b""

    async def reach(self, contact: Contact) -> None:
        raise Refused("none")


@pytest.fixture
def descriptor(network_of: Any) -> Any:
    network = network_of(1)

    def make(index: int, published: int = 90, **changes: object) -> SignedDescriptor:
        at = network.genesis.clock.start_time + published
        fields: dict[str, Any] = {
            "network_id": network.genesis.network_id, "identity": network.key(index).public.raw,
            "link_key": bytes([index]) * 32, "onion_key": b"o" * 32, "addresses": (network.address(index),),
            "exit_policy": "", "bandwidth": 1, "family": (), "nickname": "", "software": "", "mix": "none",
            "published": at, "expires": at + 1000,
        }  # fmt: skip
        return sign_descriptor(Descriptor(**{**fields, **changes}), network.key(index))

    make.network = network  # type: ignore[attr-defined]
    return make


def test_what_is_held_is_not_looked_at_again(descriptor: Any) -> None:
    side, one = Side(descriptor.network), descriptor(1)
    source = ipaddress.ip_address("192.0.2.9")
    assert side.intake.take_untrusted(b"", one.encoded, source) == one
    before = dict(side.admission.counts)
    for _ in range(1000):
        assert side.intake.take_untrusted(b"", one.encoded, source) is side.pool.get(one.digest)
    assert dict(side.admission.counts) == before, "neither rates nor signature"
    assert side.added == [one]


def test_strangers_have_a_rate_by_network_and_members_have_none_here(descriptor: Any) -> None:
    side = Side(descriptor.network, AdmissionRule(rates=RateRule(near=(0.1, 2.0))))
    source = ipaddress.ip_address("192.0.2.9")
    for index in (1, 2):
        side.intake.take_untrusted(b"", descriptor(index).encoded, source)
    with pytest.raises(Refused, match="too many"):
        side.intake.take_untrusted(b"", descriptor(3).encoded, source)
    side.intake.take_untrusted(b"", descriptor(3).encoded, None)
    assert side.admission.counts[Rung.RATE] == 1
    assert side.intake.refused == {"Refused": 1}


def test_a_stamp_that_comes_later_is_kept_and_passed_on(descriptor: Any) -> None:
    side, one = Side(descriptor.network, AdmissionRule(parameters=TINY)), descriptor(1)
    challenge = Challenge(descriptor.network.genesis.network_id, one.node_id, 1, VIEW_DIGEST)
    stamp = make_stamp(challenge, TINY, 0, 0, 1000)
    with pytest.raises(Malformed):
        side.intake.take_untrusted(b"", one.encoded)
    side.intake.take_named_untrusted(one.encoded)
    gossip = side.gossip(lambda request: b"", work=True)
    assert gossip.records((one.node_id,), b"k") == replies.Records(()), "nobody would take it without its stamp"
    with pytest.raises(Malformed):
        side.intake.take_untrusted(stamp[:-9] + bytes(9), one.encoded)
    assert side.intake.take_untrusted(stamp, one.encoded) == one
    assert side.pool.record(one.digest) == Record(one, stamp)
    assert gossip.records((one.node_id,), b"k") == replies.Records(((stamp, one.encoded),))


def test_evidence_that_is_older_than_all_that_is_held_convicts(descriptor: Any) -> None:
    side = Side(descriptor.network)
    for published in (60, 70, 80):
        side.intake.take_untrusted(b"", descriptor(1, published).encoded)
    one, other = descriptor(1, 50), descriptor(1, 50, onion_key=b"x" * 32)
    with pytest.raises(Refused, match="newer"):
        side.intake.take_untrusted(b"", one.encoded)
    refused = side.intake.take_all_untrusted([(b"", one.encoded), (b"", other.encoded)])
    assert set(refused) == {one.digest, other.digest}
    assert side.pool.is_convicted(one.node_id, side.now)
    assert {record.signed.digest for record in side.pool.shared(one.node_id)} == {one.digest, other.digest}


def test_two_with_one_forged_convict_nobody(descriptor: Any) -> None:
    side = Side(descriptor.network)
    one, other = descriptor(1, 50), descriptor(1, 50, onion_key=b"x" * 32)
    forged = other.encoded[:-1] + bytes((other.encoded[-1] ^ 1,))
    with pytest.raises(Forged):
        side.intake.take_all_untrusted([(b"", one.encoded), (b"", forged)])
    assert not side.pool.is_convicted(one.node_id, side.now)
    assert side.pool.get(one.digest) == one


def honest(held: list[SignedDescriptor], tamper: Callable[[bytes], bytes] = lambda raw: raw) -> Any:
    """A peer that holds these; `tamper` changes what it hands out."""
    by_node = {one.node_id: one for one in held}
    asked: list[Any] = []

    def answer(raw: bytes) -> bytes:
        request = requests.decode_request_untrusted(raw)
        asked.append(request)
        match request:
            case requests.Reconcile(ranges):
                return replies.encode_reply(
                    replies.ReconcileReply(answer_untrusted(ranges, ItemSet(map(item_of, held))))
                )
            case requests.GetRecords(nodes):
                found = tuple((b"", tamper(by_node[node].encoded)) for node in nodes if node in by_node)
                return replies.encode_reply(replies.Records(found))
            case _:
                return replies.encode_reply(replies.Accepted())

    answer.asked = asked  # type: ignore[attr-defined]
    return answer


def test_a_round_brings_what_is_newer_on_either_side(descriptor: Any) -> None:
    side = Side(descriptor.network)
    ours_newer, theirs_newer = descriptor(1, 95), descriptor(2, 95)
    side.pool.add(ours_newer, side.now)
    side.pool.add(descriptor(2, 80), side.now)
    side.pool.add(descriptor(3), side.now)
    peer = honest([descriptor(1, 80), theirs_newer, descriptor(4)])
    assert asyncio.run(side.gossip(peer).round_with(PEER))
    assert side.pool.newest_of(theirs_newer.node_id) == theirs_newer
    assert len(side.pool) == 4
    assert side.pool.newest_of(ours_newer.node_id) == ours_newer
    handed = {one.descriptor for one in peer.asked if isinstance(one, requests.Publish)}
    assert handed == {ours_newer.encoded, next(iter(side.pool.shared(descriptor(3).node_id))).signed.encoded}
    fetched = [one.nodes for one in peer.asked if isinstance(one, requests.GetRecords)]
    assert fetched == [tuple(sorted((theirs_newer.node_id, descriptor(4).node_id)))], "nothing that is older"


def test_who_hands_out_a_wrong_signature_is_left_alone(descriptor: Any) -> None:
    side = Side(descriptor.network)
    peer = honest([descriptor(1)], lambda raw: raw[:-1] + bytes((raw[-1] ^ 1,)))
    gossip = side.gossip(peer)
    assert not asyncio.run(gossip.round_with(PEER))
    assert len(side.pool) == 0
    assert asyncio.run(gossip.ask_anyone(requests.GetView(0))) is None, "there is nobody left to ask"
    side.now += 601
    assert asyncio.run(gossip.ask_anyone(requests.GetView(0))) == replies.Accepted()


def test_who_has_nothing_of_what_it_names_is_left_alone(descriptor: Any) -> None:
    side = Side(descriptor.network)
    peer = honest([descriptor(1)])

    def empty(raw: bytes) -> bytes:
        return replies.encode_reply(replies.Records(())) if raw[0] == requests.Kind.GET_RECORDS else peer(raw)

    gossip = side.gossip(empty)
    assert not asyncio.run(gossip.round_with(PEER))
    assert asyncio.run(gossip.ask_anyone(requests.GetView(0))) is None


def test_what_was_refused_is_not_fetched_again_for_a_while(descriptor: Any) -> None:
    side = Side(descriptor.network)
    expired = descriptor(1, 90, expires=descriptor.network.genesis.clock.start_time + 95)
    peer = honest([expired])
    gossip = side.gossip(peer)
    for _ in range(3):
        assert not asyncio.run(gossip.round_with(PEER))
    assert sum(isinstance(one, requests.GetRecords) for one in peer.asked) == 1
    side.now += 601
    asyncio.run(gossip.round_with(PEER))
    assert sum(isinstance(one, requests.GetRecords) for one in peer.asked) == 2


@pytest.mark.parametrize(
    "reply",
    [b"", b"\x8a", b"\x8a\x01\x00\x01" + bytes(10), b"\xff\x01\x00", bytes(100), b"\x8b\x00\x00", b"\x83"],
)
def test_nonsense_ends_a_round(descriptor: Any, reply: bytes) -> None:
    side = Side(descriptor.network)
    side.pool.add(descriptor(1), side.now)
    before = side.pool.version
    assert not asyncio.run(side.gossip(lambda request: reply).round_with(PEER))
    assert side.pool.version == before


def test_a_peer_that_never_ends_is_left_after_so_many_requests(descriptor: Any) -> None:
    """Its fingerprints always differ, so each answer opens new ranges."""
    side, asked = Side(descriptor.network), list[bytes]()

    def endless(raw: bytes) -> bytes:
        asked.append(raw)
        count = len(asked)
        items = ItemSet(bytes([index]) + bytes([count]) * 55 for index in range(256))
        return replies.encode_reply(replies.ReconcileReply(answer_untrusted(raw[1:], items)))

    asyncio.run(side.gossip(endless).round_with(PEER))
    assert sum(raw[0] == requests.Kind.RECONCILE for raw in asked) <= 16


def test_budgets_refill_and_forget() -> None:
    budget = Budget((1.0, 10.0), (100.0, 50.0))
    assert budget.allows(b"a", 0.0)
    budget.spend(b"a", 30.0, 0.0)
    assert not budget.allows(b"a", 19.0)
    assert budget.allows(b"a", 21.0)
    assert budget.allows(b"b", 0.0)
    budget.spend(b"b", 25.0, 0.0)
    assert not budget.allows(b"c", 0.0), "all together have spent it"
    assert budget.allows(b"c", 1.0)
    for index in range(5000):
        budget.spend(index.to_bytes(4, "big"), 1.0, 1.0)
    assert len(budget) <= 4096


def test_what_is_remembered_is_bounded() -> None:
    remembered = Remembered()
    for index in range(MAX_REMEMBERED + 10):
        remembered.add(index.to_bytes(4, "big"), 0.0)
    assert len(remembered) == MAX_REMEMBERED
    assert not remembered.has(b"\0\0\0\0", 1.0)
    assert remembered.has((MAX_REMEMBERED + 9).to_bytes(4, "big"), 599.0)
    assert not remembered.has((MAX_REMEMBERED + 9).to_bytes(4, "big"), 600.0)
    assert not remembered.has((MAX_REMEMBERED + 9).to_bytes(4, "big"), -86400.0), "a clock that was set back"


def test_a_directory_of_a_public_network_knocks_at_no_private_door(network_of: Any, virtual: Any) -> None:
    class Public(network_of):  # type: ignore[misc]
        @staticmethod
        def address(index: int) -> NodeAddress:
            return NodeAddress("tcp", f"9.{index}.0.1" if index < 5 else "10.0.0.1", 9000 + index)

    async def main() -> None:
        network = Public(4)
        network.genesis = replace(network.genesis, test_network=False)
        network.start(*range(6))
        await asyncio.sleep(60)
        assert network.names(0) == {f"n{index}" for index in range(5)}
        private = network.key(5).node_id
        assert not [one for one in network.tries if one[1] == private]
        assert network.nodes[0].service.status().spread.unreached == 1
        assert private not in {place.node_id for place in network.nodes[0].service._spread._table.contacts}

    virtual(main())
