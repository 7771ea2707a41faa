"""Records: signed, of one network, ending; the store keeps the newest within its limits, and evidence of lies."""

from __future__ import annotations

from dataclasses import replace

import pytest
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.record import (
    MAX_LIFETIME_SECONDS,
    MAX_SKEW_SECONDS,
    MAX_VALUE_BYTES,
    SignedRecord,
    decode_record_untrusted,
    record_key,
    record_value,
    sign_record,
)
from phantomband.core.dht.store import Outcome, RecordStore
from phantomband.core.errors import Forged, Malformed
from phantomband.core.ids import NodeId

NETWORK = b"n" * 32
NOW = 1_000_000
HERE = b"\xc0\0"


def made(key: IdentityKey, version: int = 1, kind: int = 0, value: bytes = b"value") -> SignedRecord:
    return sign_record(key, NETWORK, kind, version, NOW, NOW + 3600, value)


def plain(number: int, version: int = 1) -> SignedRecord:
    """As the store gets them: verified. Its key is `number`."""
    key = number.to_bytes(32, "big")
    return SignedRecord(key, NodeId(key), version, NOW, NOW + 3600, bytes([version]) * 32, b"")


def test_a_record_comes_back_as_it_was_signed(keys: list[IdentityKey]) -> None:
    record = made(keys[0], version=7, kind=2, value=b"x" * MAX_VALUE_BYTES)
    again = decode_record_untrusted(record.encoded, NETWORK)
    assert again == record
    assert record_value(again) == b"x" * MAX_VALUE_BYTES
    assert (again.publisher, again.version) == (keys[0].node_id, 7)
    assert again.key == record_key(2, keys[0].node_id) != record_key(1, keys[0].node_id)


def test_nobody_signs_for_another(keys: list[IdentityKey]) -> None:
    good, other = made(keys[0]).encoded, keys[1].public.raw
    swapped = good[:34] + other + good[34 + len(other) :]
    for at in (34, 34 + 1984 + 7, len(good) - 3400, len(good) - 1):
        changed = bytearray(good)
        changed[at] ^= 1
        with pytest.raises(Malformed):
            decode_record_untrusted(bytes(changed), NETWORK)
    with pytest.raises(Forged):
        decode_record_untrusted(swapped, NETWORK)
    with pytest.raises(Malformed, match="another network"):
        decode_record_untrusted(good, b"m" * 32)
    for cut in (0, 1, 100, len(good) - 1):
        with pytest.raises(Malformed):
            decode_record_untrusted(good[:cut], NETWORK)
    with pytest.raises(Malformed):
        decode_record_untrusted(good + b"\0", NETWORK)


def test_fields_keep_to_their_limits(keys: list[IdentityKey]) -> None:
    for kind, life, value in ((4, 60, b""), (0, 0, b""), (0, MAX_LIFETIME_SECONDS + 1, b""), (0, 9, bytes(8193))):
        with pytest.raises(Malformed):
            sign_record(keys[0], NETWORK, kind, 1, NOW, NOW + life, value)


def test_the_newest_version_stays_and_equivocation_is_kept(keys: list[IdentityKey]) -> None:
    store = RecordStore(0, Parameters())
    first, second, twin = made(keys[0], 1), made(keys[0], 2), made(keys[0], 2, value=b"another")
    assert store.put(first, HERE, NOW, 1e12) is Outcome.STORED
    assert store.put(second, HERE, NOW, 1e12) is Outcome.STORED
    assert store.put(first, HERE, NOW, 1e12) is Outcome.OLD
    assert store.put(twin, HERE, NOW, 1e12) is Outcome.EQUIVOCATION
    assert store.get(second.key, NOW) == second
    assert store.evidence == {keys[0].node_id: (second, twin)}
    signed_again = made(keys[0], 2)
    assert signed_again.encoded != second.encoded
    assert store.put(signed_again, HERE, NOW, 1e12) is Outcome.STORED
    assert len(store.evidence) == len(store) == 1


def test_records_end_and_none_comes_from_the_future() -> None:
    store, record = RecordStore(0, Parameters()), plain(1)
    assert store.put(record, HERE, NOW + 3600, 1e12) is Outcome.EXPIRED
    assert store.put(record, HERE, NOW - MAX_SKEW_SECONDS - 1, 1e12) is Outcome.EXPIRED
    assert store.put(record, HERE, NOW, NOW + 10) is Outcome.STORED
    assert store.get(record.key, NOW + 9) == record
    assert store.get(record.key, NOW + 10) is None
    assert store.put(record, HERE, NOW + 11, 1e12) is Outcome.STORED
    assert store.get(record.key, NOW + 3599) == record
    store.expire(NOW + 3600)
    assert len(store) == 0


def test_one_network_takes_its_share_only() -> None:
    store = RecordStore(0, Parameters(records_of_prefix=3))
    outcomes = [store.put(plain(n), HERE, NOW, 1e12) for n in range(5)]
    assert outcomes == [Outcome.STORED] * 3 + [Outcome.FULL] * 2
    assert store.put(plain(0, 2), HERE, NOW, 1e12) is Outcome.STORED
    assert store.put(plain(9), b"\xc0\1", NOW, 1e12) is Outcome.STORED
    store.expire(NOW + 3600)
    assert store.put(replace(plain(8), expires=NOW + 9999), HERE, NOW + 3601, 1e12) is Outcome.STORED


def test_a_full_store_keeps_what_is_close() -> None:
    store = RecordStore(0, Parameters(records=3, records_of_prefix=100))
    for number in (10, 20, 30):
        assert store.put(plain(number), HERE, NOW, 1e12) is Outcome.STORED
    assert store.put(plain(40), HERE, NOW, 1e12) is Outcome.FULL
    assert store.put(plain(15), HERE, NOW, 1e12) is Outcome.STORED
    assert {int.from_bytes(record.key, "big") for record in store} == {10, 15, 20}
