"""Any bytes are a request, an answer, a record or a range of the directories' table in its one form, or Malformed;
a directory survives every message that decodes, and never answers more than it was asked.

Run: `make fuzz TARGETS=dht`.
"""

from __future__ import annotations

from phantomband.core.dht.contact import Contact
from phantomband.core.dht.lookup import Held
from phantomband.core.dht.messages import (
    Find,
    Found,
    Get,
    Ping,
    Pong,
    RecordAnswer,
    Store,
    StoreAnswer,
    decode_answer_untrusted,
    decode_request_untrusted,
    encode,
)
from phantomband.core.dht.node import DirectoryNode
from phantomband.core.dht.operation import Send
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.proof import PROOF_BYTES
from phantomband.core.dht.reconcile import MAX_REPLY_BYTES, ItemSet, Reconciliation, answer_untrusted
from phantomband.core.dht.record import SignedRecord, decode_record_untrusted
from phantomband.core.dht.store import Outcome
from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId

NONCE = bytes(range(16))
NETWORK = bytes(32)
FOUR = Contact(NodeId(b"\4" * 32), b"k" * 32, b"\xc0\0\2\1", 443)
SIX = Contact(NodeId(b"\6" * 32), b"k" * 32, b"\x20\1\x0d\xb8" + bytes(12), 9001)
ITEMS = ItemSet(bytes([i]) * 56 for i in range(200))

SEEDS = [
    encode(Ping(NONCE, FOUR, True)),
    encode(Find(NONCE, SIX, False, b"t" * 32)),
    encode(Get(NONCE, SIX, b"t" * 32, 6000)),
    encode(Store(NONCE, FOUR, b"r" * 3000)),
    encode(Pong(NONCE, bytes(PROOF_BYTES))),
    encode(Found(NONCE, b"", (FOUR, SIX), Held(3, b"d" * 32, 900))),
    encode(RecordAnswer(NONCE, b"record")),
    encode(StoreAnswer(NONCE, Outcome.OLD)),
    Reconciliation(ItemSet(())).next_request() or b"",
    answer_untrusted(Reconciliation(ItemSet(())).next_request() or b"", ITEMS),
]


class _Prover:
    def prove(self, own: Contact, nonce: bytes, asker: NodeId) -> bytes:
        return bytes(PROOF_BYTES)

    def check_untrusted(self, contact: Contact, nonce: bytes, asker: NodeId, proof: bytes) -> None:
        raise Malformed("no proof is right here")


def _verify(encoded: bytes) -> SignedRecord:
    return decode_record_untrusted(encoded, NETWORK)


def request(data: bytes) -> None:
    try:
        found = decode_request_untrusted(data)
    except Malformed:
        return
    if encode(found) != data:
        raise AssertionError("a request has two forms")
    node = DirectoryNode(FOUR, _Prover(), _verify, bytes, Parameters(), 0.0)
    for effect in node.request(found, found.sender.ip, 0.0):
        said = effect.message if isinstance(effect, Send) else None
        if isinstance(said, Pong | Found | RecordAnswer | StoreAnswer) and len(encode(said)) > len(data):
            raise AssertionError("an answer is larger than its request")


def answer(data: bytes) -> None:
    try:
        found = decode_answer_untrusted(data)
    except Malformed:
        return
    if encode(found) != data:
        raise AssertionError("an answer has two forms")


def record(data: bytes) -> None:
    try:
        decode_record_untrusted(data, NETWORK)
    except Malformed:
        return
    raise AssertionError("a record that nobody signed")


def ranges(data: bytes) -> None:
    try:
        if len(answer_untrusted(data, ITEMS)) > MAX_REPLY_BYTES:
            raise AssertionError("a reply over its limit")
    except Malformed:
        pass
    run = Reconciliation(ItemSet(()))
    run.next_request()
    try:
        run.reply_untrusted(data)
    except Malformed:
        return
    if len(run.wanted) > 512 * 32:
        raise AssertionError("more differences than a reply can name")


def one_input(data: bytes) -> None:
    """Gives `data` to every reader."""
    request(data)
    answer(data)
    record(data)
    ranges(data)
