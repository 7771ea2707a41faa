"""Who sends junk empties no replay memory, and a restart does not forget it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Forged, Malformed
from phantomband.core.handshake.ntor import OnionKey, RelayKeys, Responder, client_start
from phantomband.core.handshake.replay import ReplayCache
from phantomband.core.ids import HopNumber, NodeId
from world import NETWORK_ID, Seeded

NODE, KEY = NodeId(b"n" * 32), OnionKey(b"k" * 32)


def skin(seed: int) -> bytes:
    return client_start(RelayKeys(NODE, KEY.public), NETWORK_ID, HopNumber(1), b"", Seeded(seed))[1]


def test_only_messages_whose_mac_verifies_are_remembered() -> None:
    cache = ReplayCache(limit=20)
    parent, worker = Responder(NODE, [KEY], NETWORK_ID, cache), Responder(NODE, [KEY], NETWORK_ID, None)
    first = skin(1)
    parent.admit(first, 1)
    worker.answer(first, 1, lambda _: b"", Seeded(2), encapsulate_untrusted)
    parent.remember(first)
    junk = bytearray(first)
    for i in range(1000):
        junk[64:72] = i.to_bytes(8, "big")
        parent.admit(bytes(junk), 1)
        with pytest.raises(Forged):
            worker.answer(bytes(junk), 1, lambda _: b"", Seeded(2), encapsulate_untrusted)
    assert len(cache) == 1
    with pytest.raises(Forged, match="before"):
        parent.admit(first, 1)


def test_of_two_copies_that_are_under_way_one_is_answered() -> None:
    parent = Responder(NODE, [KEY], NETWORK_ID, ReplayCache())
    message = skin(1)
    parent.admit(message, 1)
    parent.admit(message, 1)
    parent.remember(message)
    with pytest.raises(Forged):
        parent.remember(message)


def test_what_comes_for_a_key_that_was_retired_meanwhile_is_not_kept() -> None:
    cache = ReplayCache()
    parent = Responder(NODE, [KEY], NETWORK_ID, cache)
    message = skin(1)
    parent.admit(message, 1)
    parent.accept([OnionKey(b"x" * 32)])
    parent.remember(message)
    assert len(cache) == 0


def test_a_memory_survives_as_bytes_with_both_generations() -> None:
    cache, again = ReplayCache(limit=10), ReplayCache(limit=10)
    for static in (b"a" * 32, b"b" * 32):
        for i in range(8):
            cache.add_untrusted(static, i.to_bytes(8, "big"))
    again.restore_untrusted(cache.encode())
    assert len(cache.encode()) <= cache.max_bytes
    assert len(again) == len(cache) == 16
    for static in (b"a" * 32, b"b" * 32):
        with pytest.raises(Forged):
            again.add_untrusted(static, (3).to_bytes(8, "big"))
    for i in range(8, 10):  # the younger generation fills: the older one is forgotten, as it would have been
        again.add_untrusted(b"a" * 32, i.to_bytes(8, "big"))
    again.check_untrusted(b"a" * 32, (0).to_bytes(8, "big"))


@given(st.binary(max_size=200))
def test_damaged_bytes_are_malformed_and_take_nothing(data: bytes) -> None:
    cache = ReplayCache(limit=10)
    cache.add_untrusted(b"a" * 32, b"12345678")
    for damaged in (data, b"\1" + data):
        try:
            cache.restore_untrusted(damaged)
        except Malformed:
            assert len(cache) == 1
        else:
            cache.add_untrusted(b"a" * 32, b"12345678")
