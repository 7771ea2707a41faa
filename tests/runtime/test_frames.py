"""Frames between the services of a node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.core.ids import LinkId
from phantomband.runtime import frames

LINKS = st.integers(0, 2**32 - 1).map(LinkId)


def test_the_layouts_are_those_of_the_reference() -> None:
    assert [(f.name, int(f)) for f in frames.Frame] == [
        ("CELLS", 1),
        ("LINK_UP", 2),
        ("LINK_DOWN", 3),
        ("OVERFLOW", 4),
        ("RESET", 5),
    ]
    assert frames.link_up(LinkId(7), True, None, 9) == b"\0\0\0\7\1\0\0\0\x09"
    assert frames.link_up(LinkId(7), False, b"k" * 32) == b"\0\0\0\7\0\0\0\0\0" + b"k" * 32
    assert frames.link_down(LinkId(7)) == b"\0\0\0\7"
    assert frames.overflow(LinkId(7), b"abcd") == b"\0\0\0\7abcd"


@given(
    LINKS,
    st.booleans(),
    st.one_of(st.none(), st.binary(min_size=32, max_size=32)),
    st.binary(min_size=4, max_size=4),
)
def test_round_trips(link: LinkId, dialed: bool, key: bytes | None, circuit: bytes) -> None:
    assert frames.read_link_up(frames.link_up(link, dialed, key, 3)) == (link, dialed, key, 3)
    assert frames.read_link_down(frames.link_down(link)) == link
    assert frames.read_overflow(frames.overflow(link, circuit)) == (link, circuit)


READERS = {"up": frames.read_link_up, "down": frames.read_link_down, "overflow": frames.read_overflow}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("up", b""),
        ("up", bytes(4)),
        ("down", bytes(3)),
        ("down", bytes(5)),
        ("overflow", bytes(7)),
        ("overflow", bytes(9)),
    ],
)
def test_other_sizes_are_malformed(name: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        READERS[name](data)


@given(st.binary(max_size=50))
def test_any_bytes_give_a_value_or_malformed(data: bytes) -> None:
    for read in READERS.values():
        try:
            read(data)
        except Malformed:
            pass
