"""Integers and length-prefixed strings: bounds always checked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core import wire
from phantomband.core.errors import Malformed
from phantomband.core.wire import Reader

INTEGERS = [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)]


@pytest.mark.parametrize(("name", "size"), INTEGERS)
def test_integers_are_big_endian_and_of_fixed_size(name: str, size: int) -> None:
    write = getattr(wire, name)
    for value in (0, 1, 0x7F, 2 ** (8 * size) - 1):
        assert write(value) == value.to_bytes(size, "big")
        reader = Reader(write(value))
        assert getattr(reader, name)() == value
        reader.end()
    with pytest.raises(OverflowError):
        write(2 ** (8 * size))
    with pytest.raises(Malformed):
        getattr(Reader(bytes(size - 1)), name)()


@given(st.binary(max_size=255), st.binary(max_size=300), st.binary(max_size=300))
def test_length_prefixed_strings_round_trip(a: bytes, b: bytes, c: bytes) -> None:
    reader = Reader(wire.lv8(a) + wire.lv16(b) + wire.lv32(c))
    assert (reader.lv8(), reader.lv16(), reader.lv32(300)) == (a, b, c)
    reader.end()


def test_a_string_over_its_prefix_is_our_own_fault() -> None:
    with pytest.raises(OverflowError):
        wire.lv8(bytes(256))
    with pytest.raises(OverflowError):
        wire.lv16(bytes(65_536))


@pytest.mark.parametrize("data", [b"", b"\2a", b"\xff"])
def test_a_length_over_the_end_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(data).lv8()
    with pytest.raises(Malformed):
        Reader(b"\0" + data).lv16()


def test_a_long_field_is_refused_before_it_is_read() -> None:
    with pytest.raises(Malformed, match="over its limit"):
        Reader(b"\0\0\0\5abcde").lv32(4)
    assert Reader(b"\0\0\0\5abcde").lv32(5) == b"abcde"
    with pytest.raises(Malformed):
        Reader(b"\xff\xff\xff\xff").lv32(2**32)


def test_take_refuses_negative_sizes_and_keeps_its_place() -> None:
    reader = Reader(b"abc")
    for size in (-1, 4):
        with pytest.raises(Malformed):
            reader.take(size)
    assert reader.take(0) == b""
    assert reader.take(2) == b"ab"
    assert reader.remaining == 1
    assert reader.rest() == b"c"
    assert reader.rest() == b""


def test_what_is_left_over_is_malformed() -> None:
    reader = Reader(b"a")
    with pytest.raises(Malformed, match="1 bytes after the end"):
        reader.end()


def test_encap_is_that_of_proposal_332() -> None:
    assert wire.encap(b"") == bytes(8)
    assert wire.encap(b"abc") == bytes(7) + b"\3abc"


@given(
    st.binary(max_size=40),
    st.lists(st.sampled_from(["u8", "u16", "u32", "u64", "lv8", "lv16", "rest", "end"])),
)
def test_any_bytes_in_any_reading_give_values_or_malformed(data: bytes, calls: list[str]) -> None:
    reader = Reader(data)
    for call in calls:
        try:
            getattr(reader, call)()
        except Malformed:
            pass
        assert 0 <= reader.remaining <= len(data)
