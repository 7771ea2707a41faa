"""Onion layers: sizes, ratchet, what a changed, repeated, dropped or reordered cell does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.cell import BODY_BYTES
from phantomband.core.crypto.kdf import shake256
from phantomband.core.crypto.labels import ONION_RATCHET
from phantomband.core.errors import Forged, Malformed
from phantomband.core.onion import (
    CLOSE_CELLS,
    LAYER_BYTES,
    MAX_HOPS,
    RATCHET_CELLS,
    TAG_BYTES,
    Layer,
    message_room,
    sealed_bytes,
)
from phantomband.core.wire import encap

KEY = bytes(range(32))


def test_sizes_are_those_of_the_reference() -> None:
    assert LAYER_BYTES == 17
    assert [sealed_bytes(i) for i in (1, 2, 3)] == [2043, 2026, 2009]
    assert [message_room(i) for i in (1, 2, 3, MAX_HOPS)] == [2026, 2009, 1992, 1907]
    assert all(message_room(i) == sealed_bytes(i + 1) for i in range(1, MAX_HOPS))
    assert sealed_bytes(1) == BODY_BYTES


def test_a_layer_is_plain_aes_gcm_with_a_counter() -> None:
    layer = Layer(KEY)
    assert layer.seal(b"first") == AESGCM(KEY).encrypt(bytes(12), b"first", None)
    assert layer.seal(b"second") == AESGCM(KEY).encrypt(bytes(11) + b"\1", b"second", None)
    assert layer.counter == 2


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_what_is_sealed_opens_in_order(pieces: list[bytes]) -> None:
    sealer, opener = Layer(KEY), Layer(KEY)
    sealed = [sealer.seal(p) for p in pieces]
    assert all(len(s) == len(p) + TAG_BYTES for s, p in zip(sealed, pieces, strict=True))
    assert [opener.open(s) for s in sealed] == pieces


def test_the_key_ratchets_each_1024_cells_and_the_counter_goes_on() -> None:
    sealer, opener = Layer(KEY), Layer(KEY)
    for _ in range(2 * RATCHET_CELLS):
        opener.open(sealer.seal(b"x"))
    assert opener.open(sealer.seal(b"y")) == b"y"
    once = shake256(32, encap(ONION_RATCHET), KEY)
    twice = shake256(32, encap(ONION_RATCHET), once)
    fresh = Layer(KEY)
    sealed = [fresh.seal(b"z") for _ in range(2 * RATCHET_CELLS + 1)]
    for counter, key in (
        (0, KEY), (RATCHET_CELLS - 1, KEY), (RATCHET_CELLS, once), (2 * RATCHET_CELLS - 1, once),
        (2 * RATCHET_CELLS, twice),
    ):  # fmt: skip
        assert AESGCM(key).decrypt(counter.to_bytes(12, "big"), sealed[counter], None) == b"z"


def test_an_old_key_opens_nothing_after_the_ratchet() -> None:
    layer = Layer(KEY)
    sealed = [layer.seal(b"x") for _ in range(RATCHET_CELLS + 1)][-1]
    with pytest.raises(Exception):  # noqa: B017 - InvalidTag of the library below
        AESGCM(KEY).decrypt(RATCHET_CELLS.to_bytes(12, "big"), sealed, None)


def flipped(sealed: bytes, bit: int) -> bytes:
    bit %= 8 * len(sealed)
    return bytes(b ^ (1 << bit % 8 if i == bit // 8 else 0) for i, b in enumerate(sealed))


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "first bit": lambda s: flipped(s, 0),
    "last bit": lambda s: flipped(s, -1),
    "cut": lambda s: s[:-1],
    "longer": lambda s: s + b"\0",
    "empty": lambda _: b"",
    "shorter than a tag": lambda s: s[:15],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_cell_does_not_open_and_the_counter_stays(change: Callable[[bytes], bytes]) -> None:
    sealer, opener = Layer(KEY), Layer(KEY)
    sealed = sealer.seal(b"payload")
    with pytest.raises(Forged):
        opener.open(change(sealed))
    assert opener.counter == 0


def test_replayed_dropped_and_reordered_cells_do_not_open() -> None:
    sealer = Layer(KEY)
    first, second, third = (sealer.seal(b"x") for _ in range(3))
    opener = Layer(KEY)
    with pytest.raises(Forged):
        opener.open(second)
    opener.open(first)
    for wrong in (first, third):
        with pytest.raises(Forged):
            opener.open(wrong)


def test_another_key_opens_nothing() -> None:
    with pytest.raises(Forged):
        Layer(bytes(32)).open(Layer(KEY).seal(b"x"))


def test_a_layer_closes_at_two_to_the_forty() -> None:
    for use in (Layer.seal, Layer.open):
        layer = Layer(KEY)
        layer.counter = CLOSE_CELLS
        with pytest.raises(Malformed, match="used up"):
            use(layer, bytes(32))
    last = Layer(KEY)
    last.counter = CLOSE_CELLS - 1
    assert len(last.seal(b"x")) == 17


@given(st.integers(0, 3 * RATCHET_CELLS), st.lists(st.integers(0, 40), max_size=4))
def test_batches_are_sealed_and_opened_like_single_cells(start: int, sizes: list[int]) -> None:
    start = start // 1000 * RATCHET_CELLS + (RATCHET_CELLS - 20 if start % 2 else 0)
    one, many, opener = Layer(KEY), Layer(KEY), Layer(KEY)
    for layer in (one, many, opener):
        layer.counter = start
    for size in sizes:
        plain = [bytes((i,)) * 20 for i in range(size)]
        sealed = many.seal_all(plain)
        assert sealed == [one.seal(p) for p in plain]
        assert opener.open_all(sealed) == plain
    assert one.counter == many.counter == opener.counter


def test_a_batch_with_one_wrong_cell_gives_nothing() -> None:
    sealer, opener = Layer(KEY), Layer(KEY)
    sealed = sealer.seal_all([b"a", b"b", b"c"])
    sealed[1] = flipped(sealed[1], 3)
    with pytest.raises(Forged):
        opener.open_all(sealed)


def test_batches_close_at_two_to_the_forty_too() -> None:
    for use in (Layer.seal_all, Layer.open_all):
        layer = Layer(KEY)
        layer.counter = CLOSE_CELLS
        with pytest.raises(Malformed, match="used up"):
            use(layer, [bytes(32)])
