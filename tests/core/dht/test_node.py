"""Directories with real keys: joining, publishing, searching; and what a stranger cannot do to one."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.dht.contact import Contact
from phantomband.core.dht.limits import RateLimits
from phantomband.core.dht.messages import (
    PIECE_BYTES,
    Answer,
    Find,
    Found,
    Get,
    Ping,
    Pong,
    RecordAnswer,
    Request,
    Store,
    StoreAnswer,
    decode_answer_untrusted,
    decode_request_untrusted,
    encode,
)
from phantomband.core.dht.node import DirectoryNode, Effect
from phantomband.core.dht.operation import Finished, Send
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.proof import IdentityProver
from phantomband.core.dht.record import SignedRecord, decode_record_untrusted, record_value, sign_record
from phantomband.core.dht.store import Outcome
from phantomband.core.errors import Forged, Malformed

NETWORK = b"n" * 32
NOW = 1_000_000.0


def verify(encoded: bytes) -> SignedRecord:
    return decode_record_untrusted(encoded, NETWORK)


class Net:
    """Directories that reach each other at once, with every message encoded and decoded."""

    def __init__(self, keys: list[IdentityKey]) -> None:
        self.nodes: dict[bytes, DirectoryNode] = {}
        self.finished: list[Finished] = []
        self.sent: list[Request] = []
        self.keys = keys
        for at, key in enumerate(keys):
            own = Contact(key.node_id, bytes([at + 2]) * 32, bytes([10, at, 0, 1]), 9001)
            source = random.Random(at).randbytes
            self.nodes[own.ip] = DirectoryNode(own, IdentityProver(key), verify, source, Parameters(), NOW)

    def __getitem__(self, at: int) -> DirectoryNode:
        return list(self.nodes.values())[at]

    def run(self, node: DirectoryNode, effects: list[Effect], now: float = NOW) -> None:
        """Until nothing moves any more."""
        waits = deque((node, effect) for effect in effects)
        while waits:
            here, effect = waits.popleft()
            if isinstance(effect, Finished):
                self.finished.append(effect)
            elif isinstance(effect.message, Request):
                self.sent.append(effect.message)
                waits += self.carry(here, effect.contact, effect.message, now)

    def carry(
        self, here: DirectoryNode, contact: Contact, request: Request, now: float
    ) -> list[tuple[DirectoryNode, Effect]]:
        there = self.nodes.get(contact.ip)
        if there is None:
            return [(here, effect) for effect in here.lost(request.nonce, contact, now)]
        data = encode(request)
        out = there.request(decode_request_untrusted(data), here.own.ip, now)
        answers = [one.message for one in out if isinstance(one, Send) and not isinstance(one.message, Request)]
        (reply,) = [encode(one) for one in answers]
        assert len(reply) <= len(data)
        back = here.answer(decode_answer_untrusted(reply), contact, now)
        return [(here, effect) for effect in back] + [
            (there, one) for one in out if isinstance(one, Finished) or isinstance(one.message, Request)
        ]

    def join_all(self) -> None:
        for at in range(1, len(self.keys)):
            self.run(self[at], self[at].join([self[0].own], NOW))


def record_of(key: IdentityKey, version: int = 1) -> SignedRecord:
    return sign_record(key, NETWORK, 0, version, int(NOW), int(NOW) + 3600, b"descriptor")


def test_directories_meet_publish_and_find(keys: list[IdentityKey]) -> None:
    net = Net(keys)
    net.join_all()
    assert all(len(node.table) == len(keys) - 1 for node in net.nodes.values())
    net.finished.clear()
    net.run(net[1], net[1].publish(record_of(keys[1]), NOW)[1])
    assert net.finished[0].stored == len(keys) - 1
    number, effects = net[4].search(record_of(keys[1]).key, NOW)
    net.run(net[4], effects)
    found = next(one for one in net.finished if one.number == number and one.record is not None)
    assert found.record is not None
    assert record_value(found.record) == b"descriptor"


def test_what_nobody_published_is_not_found(keys: list[IdentityKey]) -> None:
    net = Net(keys)
    net.join_all()
    net.finished.clear()
    net.run(net[2], net[2].search(b"k" * 32, NOW)[1])
    assert [one.record for one in net.finished] == [None]


def test_a_stranger_enters_no_table_before_it_proved_itself(keys: list[IdentityKey]) -> None:
    net = Net(keys[:1])
    node = net[0]
    stranger = Contact(keys[1].node_id, b"s" * 32, b"\x0a\x09\0\1", 9001)
    effects = node.request(Ping(b"n" * 16, stranger, False), stranger.ip, NOW)
    asked = [one.message for one in effects if isinstance(one, Send) and isinstance(one.message, Ping)]
    assert len(asked) == 1
    assert asked[0].prove
    assert len(node.table) == 0
    prover = IdentityProver(keys[1])
    wrong_nonce = Pong(asked[0].nonce, prover.prove(stranger, b"x" * 16, node.own.node_id))
    node.answer(wrong_nonce, stranger, NOW)
    assert len(node.table) == 0
    (again,) = [
        one.message
        for one in node.request(Ping(b"n" * 16, stranger, False), stranger.ip, NOW)
        if isinstance(one, Send) and isinstance(one.message, Ping)
    ]
    right = Pong(again.nonce, prover.prove(stranger, again.nonce, node.own.node_id))
    node.answer(right, replace(stranger, port=1), NOW)
    node.answer(Pong(b"guess" + bytes(11), right.proof), stranger, NOW)
    assert len(node.table) == 0
    node.answer(right, stranger, NOW)
    assert node.table.contacts() == [stranger]


def test_a_proof_is_of_one_contact_nonce_and_asker(keys: list[IdentityKey]) -> None:
    prover, other = IdentityProver(keys[0]), IdentityProver(keys[1])
    own, asker = Contact(keys[0].node_id, b"k" * 32, b"\1\2\3\4", 5), keys[2].node_id
    proof = prover.prove(own, b"n" * 16, asker)
    other.check_untrusted(own, b"n" * 16, asker, proof)
    for contact, nonce, who, said in (
        (replace(own, port=6), b"n" * 16, asker, proof),
        (replace(own, link_key=b"l" * 32), b"n" * 16, asker, proof),
        (replace(own, node_id=keys[3].node_id), b"n" * 16, asker, proof),
        (own, b"m" * 16, asker, proof),
        (own, b"n" * 16, keys[3].node_id, proof),
        (own, b"n" * 16, asker, other.prove(own, b"n" * 16, asker)),
    ):
        with pytest.raises(Forged):
            prover.check_untrusted(contact, nonce, who, said)
    with pytest.raises(Malformed):
        prover.check_untrusted(own, b"n" * 16, asker, b"")


def test_a_forged_record_is_refused(keys: list[IdentityKey]) -> None:
    node, sender = Net(keys[:1])[0], Contact(keys[1].node_id, b"s" * 32, b"\x0a\x09\0\1", 9001)
    bad = bytearray(record_of(keys[2]).encoded)
    bad[-1] ^= 1
    for encoded, outcome in ((bytes(bad), Outcome.MALFORMED), (record_of(keys[2]).encoded, Outcome.STORED)):
        effects = node.request(Store(b"n" * 16, sender, encoded), sender.ip, NOW)
        assert StoreAnswer(b"n" * 16, outcome) in [one.message for one in effects if isinstance(one, Send)]
    assert len(node.store) == 1


def test_requests_without_answer_are_given_up_and_their_contacts_forgotten(keys: list[IdentityKey]) -> None:
    net = Net(keys)
    net.join_all()
    node, gone = net[1], net[2].own
    del net.nodes[gone.ip]
    for step in range(P_FAILURES):
        number, effects = node.search(gone.node_id, NOW + 10 * step)
        net.run(node, effects, NOW + 10 * step)
        assert any(one.number == number for one in net.finished)
    assert gone.node_id not in node.table


P_FAILURES = Parameters().failures


def test_overdue_requests_end_a_search(keys: list[IdentityKey]) -> None:
    net = Net(keys)
    net.join_all()
    node, now = net[1], NOW
    number, effects = node.search(b"k" * 32, now)
    for _ in range(100):
        if any(isinstance(one, Finished) and one.number == number for one in effects):
            break
        assert node.deadline > now
        now = node.deadline
        effects = node.tick(now)
    else:
        pytest.fail("the search did not end")
    assert now - NOW <= 1.5 * len(keys)


def test_one_prefix_is_served_at_its_rate_and_prefixes_are_forgotten() -> None:
    limits = RateLimits(Parameters(rate=2, burst=5, rated=3))
    assert [limits.allows(b"a", 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limits.allows(b"a", 0.5)
    assert not limits.allows(b"a", 0.5)
    for prefix in (b"b", b"c", b"d", b"e"):
        assert limits.allows(prefix, 1.0)
    assert len(limits) == 3


def test_a_flood_of_strangers_is_bounded(keys: list[IdentityKey]) -> None:
    node, source = Net(keys[:1])[0], random.Random(1)
    sent = 0
    for _ in range(500):
        stranger = Contact(type(keys[0].node_id)(source.randbytes(32)), b"k" * 32, source.randbytes(4), 9)
        effects = node.request(Ping(source.randbytes(16), stranger, False), stranger.ip, NOW)
        sent += sum(isinstance(one, Send) and isinstance(one.message, Ping) for one in effects)
    assert sent == node.parameters.candidates
    assert len(node.table) == 0


@pytest.mark.parametrize("prove", [False, True])
def test_requests_are_as_long_as_their_longest_answer(keys: list[IdentityKey], prove: bool) -> None:
    six = [Contact(key.node_id, b"k" * 32, bytes([32, at]) + bytes(14), 9) for at, key in enumerate(keys)]
    proof = IdentityProver(keys[0]).prove(six[0], b"n" * 16, keys[1].node_id) if prove else b""
    pairs: list[tuple[Request, Answer]] = [
        (Ping(b"n" * 16, six[0], prove), Pong(b"n" * 16, proof)),
        (Find(b"n" * 16, six[0], prove, bytes(32)), Found(b"n" * 16, proof, tuple(six), None)),
        (Get(b"n" * 16, six[0], bytes(32), 9000), RecordAnswer(b"n" * 16, bytes(9000))),
    ]
    for request, answer in pairs:
        data = encode(request)
        assert len(data) % PIECE_BYTES == 0
        assert len(encode(answer)) <= len(data)
        assert answer.pieces <= request.pieces
        assert decode_request_untrusted(data) == request
        assert decode_answer_untrusted(encode(answer)) == answer
        for bad in (data[:-1], data + b"\0", data[:-1] + b"\1", data + bytes(PIECE_BYTES)):
            with pytest.raises(Malformed):
                decode_request_untrusted(bad)


def test_a_search_gives_what_it_found_to_the_closest_that_lacks_it(keys: list[IdentityKey]) -> None:
    net = Net(keys)
    net.join_all()
    record = record_of(keys[1])
    net.run(net[1], net[1].publish(record, NOW)[1])
    holder = next(node for node in net.nodes.values() if node is not net[1] and node is not net[2])
    lacking = [node for node in net.nodes.values() if node not in (net[2], holder)]
    for node in lacking:
        node.store.expire(NOW + 3601)
    net.run(net[2], net[2].search(record.key, NOW)[1])
    assert sum(node.store.get(record.key, NOW) is not None for node in lacking) == 1


def test_limits_go_by_where_a_request_came_from(keys: list[IdentityKey]) -> None:
    node = Net(keys[:1])[0]
    victim = Contact(keys[1].node_id, b"v" * 32, b"\x0a\x09\0\1", 9001)
    for _ in range(int(node.parameters.burst) + 1):
        flooded = node.request(Ping(b"n" * 16, victim, False), b"\x0b\0\0\1", NOW)
    assert flooded == []
    assert node.request(Ping(b"n" * 16, victim, False), victim.ip, NOW)
