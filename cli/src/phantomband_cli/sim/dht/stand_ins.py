"""Signatures and proofs as the simulation has them: of their real size, unforgeable, and free.

The real ones (core/dht/proof.py, record.py) take 0.2 to 1 ms each; thousands of directories would do nothing else.
"""

from __future__ import annotations

from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.dht.contact import Contact
from phantomband.core.dht.proof import PROOF_BYTES
from phantomband.core.dht.record import MAX_LIFETIME_SECONDS, SignedRecord, record_key
from phantomband.core.errors import Forged, Malformed
from phantomband.core.ids import NodeId
from phantomband.core.wire import Reader, u64

RECORD_BYTES = 6100
"""A record with some 600 bytes of value: 5,400 are keys and signatures."""

_PROOF = bytes(PROOF_BYTES)


class Registry:
    """Which ids have keys, and which records their publishers made."""

    def __init__(self, *, signed: bool) -> None:
        self._signed = signed
        self._keys: dict[NodeId, bytes] = {}
        self._digests: set[bytes] = set()
        self._publishers: dict[bytes, NodeId] = {}
        self._first: dict[bytes, SignedRecord] = {}

    def own(self, contact: Contact) -> None:
        """`contact` has the keys of its id."""
        self._keys[contact.node_id] = contact.link_key

    def make(self, publisher: NodeId, version: int, now: float) -> SignedRecord:
        """A record that `publisher` signed."""
        record = _parse(_encode(publisher, version, now, b"\1"))
        self._digests.add(record.digest)
        self._publishers[record.key] = publisher
        return record

    def old(self, key: bytes, now: float) -> SignedRecord | None:
        """The genuine record that the publisher of `key` made before all others, or None: it published nothing yet."""
        publisher = self._publishers.get(key)
        if publisher is not None and key not in self._first:
            self._first[key] = self.make(publisher, 0, now)
        return self._first.get(key)

    def make_up(self, key: bytes, version: int, now: float) -> SignedRecord:
        """What a liar makes up under `key`: nobody signed it."""
        return _parse(_encode(self._publishers.get(key, NodeId(key)), version, now, b"\0"))

    def verify(self, encoded: bytes) -> SignedRecord:
        """Raises: Malformed: too short; Forged: not of its publisher, where records are signed."""
        record = _parse(encoded)
        if self._signed and not self.genuine(record):
            raise Forged("a signature does not verify")
        return record

    def genuine(self, record: SignedRecord) -> bool:
        return record.digest in self._digests

    def prove(self, own: Contact, nonce: bytes, asker: NodeId) -> bytes:
        return _PROOF

    def check_untrusted(self, contact: Contact, nonce: bytes, asker: NodeId, proof: bytes) -> None:
        if self._keys.get(contact.node_id) != contact.link_key or len(proof) != PROOF_BYTES:
            raise Forged("the identity is not the contact's")


def _encode(publisher: NodeId, version: int, now: float, mark: bytes) -> bytes:
    return (publisher + u64(version) + u64(max(0, int(now))) + mark).ljust(RECORD_BYTES, b"\0")


def _parse(encoded: bytes) -> SignedRecord:
    reader = Reader(encoded)
    publisher, version, published = NodeId(reader.take(32)), reader.u64(), reader.u64()
    if len(encoded) != RECORD_BYTES:
        raise Malformed("not a record")
    expires = published + MAX_LIFETIME_SECONDS
    key = record_key(0, publisher)
    return SignedRecord(key, publisher, version, published, expires, sha3_256(encoded[:49]), encoded)
