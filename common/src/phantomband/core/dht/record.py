"""What the table stores: a small value signed by its publisher, with a version and an end.

    format 1 | network id 32 | kind 1 | identity 1,984 | version 8 | published 8 | expires 8 | value 2+n
    | signature 3,373

The signature (core/crypto/sign.py, context "dht-record") covers everything before it. A record's key is
SHA3-256("phantomband-dht-key-1" | 0x00 | kind 1 | publisher's node id 32): nobody can write under another's key. The
digest is over all but the signature, which is never twice the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.crypto.labels import SIGN_RECORD
from phantomband.core.crypto.sign import IDENTITY_PUBLIC_BYTES, IDENTITY_SIGNATURE_BYTES, IdentityPublicKey, Signer
from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES
from phantomband.core.wire import Reader, lv16, u8, u64

FORMAT = 1
KEY_LABEL = b"phantomband-dht-key-1\x00"
DIGEST_LABEL = b"phantomband-dht-record-1\x00"
NETWORK_BYTES = 32
MAX_KIND = 3
"""Kinds a publisher may use, from 0: so it has at most four records."""

MAX_VALUE_BYTES = 8 * 1024
MAX_LIFETIME_SECONDS = 86400
"""From published to expires: what nobody republishes is gone in a day."""

MAX_SKEW_SECONDS = 600
"""A record from further in the future is refused."""

_FRAME_BYTES = 1 + NETWORK_BYTES + 1 + IDENTITY_PUBLIC_BYTES + 8 + 8 + 8 + 2
_MAX_GENERIC_BYTES = _FRAME_BYTES + MAX_VALUE_BYTES + IDENTITY_SIGNATURE_BYTES

MAX_RECORD_BYTES = max(_MAX_GENERIC_BYTES, 1 + 255 + MAX_DESCRIPTOR_BYTES)
"""Of any kind: a descriptor with its stamp (descriptor_record.py) may be longer than the format above."""


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record whose signature verified, with the bytes that it came in. Times are Unix seconds."""

    key: bytes
    publisher: NodeId
    version: int
    published: int
    expires: int
    digest: bytes
    encoded: bytes


Verify = Callable[[bytes], SignedRecord]
"""Checks an encoded record, raising Malformed: `decode_record_untrusted` of one network."""


def record_key(kind: int, publisher: NodeId) -> bytes:
    """Returns: 32 bytes, where the record of that kind of `publisher` is stored."""
    return sha3_256(KEY_LABEL, u8(kind), publisher)


def sign_record(
    key: Signer, network_id: bytes, kind: int, version: int, published: int, expires: int, value: bytes
) -> SignedRecord:
    """Signs `value` as the publisher's record of that kind.

    Raises:
        Malformed: a field out of its range.
    """
    head = u8(FORMAT) + network_id + u8(kind) + key.public.raw + u64(version) + u64(published) + u64(expires)
    body = head + lv16(value)
    return decode_record_untrusted(body + key.sign(body, SIGN_RECORD), network_id)


def decode_record_untrusted(encoded: bytes, network_id: bytes) -> SignedRecord:
    """Checks form, network and, last, the signature.

    Raises:
        Malformed: not a record of this network.
        Forged: the signature does not verify.
    """
    if len(encoded) > _MAX_GENERIC_BYTES:
        raise Malformed(f"a record of {len(encoded)} bytes is over the limit of {_MAX_GENERIC_BYTES}")
    reader = Reader(encoded)
    if (form := reader.u8()) != FORMAT:
        raise Malformed(f"unknown record format {form}")
    if reader.take(NETWORK_BYTES) != network_id:
        raise Malformed("the record belongs to another network")
    if (kind := reader.u8()) > MAX_KIND:
        raise Malformed(f"unknown kind of record {kind}")
    identity, version, published, expires = (
        reader.take(IDENTITY_PUBLIC_BYTES),
        reader.u64(),
        reader.u64(),
        reader.u64(),
    )
    if not published < expires <= published + MAX_LIFETIME_SECONDS:
        raise Malformed("a record expires after it was published, and within a day")
    if len(reader.lv16()) > MAX_VALUE_BYTES:
        raise Malformed(f"a record's value has at most {MAX_VALUE_BYTES} bytes")
    signature = reader.take(IDENTITY_SIGNATURE_BYTES)
    reader.end()
    body = encoded[:-IDENTITY_SIGNATURE_BYTES]
    public = IdentityPublicKey(identity)
    public.verify(signature, body, SIGN_RECORD)
    key, digest = record_key(kind, public.node_id), sha3_256(DIGEST_LABEL, body)
    return SignedRecord(key, public.node_id, version, published, expires, digest, encoded)


def record_value(record: SignedRecord) -> bytes:
    """The value that the publisher signed."""
    return record.encoded[_FRAME_BYTES:-IDENTITY_SIGNATURE_BYTES]
