"""Ids are types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.core.ids import NODE_ID_BYTES, NodeId


@given(st.binary(min_size=32, max_size=32))
def test_node_id_round_trips_as_52_letters(raw: bytes) -> None:
    node = NodeId(raw)
    text = str(node)
    assert len(text) == 52
    assert text == text.lower()
    assert NodeId.parse(text) == node == raw
    assert hash(NodeId.parse(text)) == hash(node)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_other_sizes_are_malformed(size: int) -> None:
    with pytest.raises(Malformed):
        NodeId(bytes(size))


@pytest.mark.parametrize("text", ["", "a", "a" * 51, "a" * 53, "1" * 52, "ä" * 52, "a" * 104, " " * 52])
def test_other_text_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        NodeId.parse(text)


@given(st.text(max_size=60))
def test_any_text_gives_a_node_id_or_malformed(text: str) -> None:
    try:
        assert len(NodeId.parse(text)) == NODE_ID_BYTES
    except Malformed:
        pass


@given(st.binary(min_size=32, max_size=32), st.integers(0, 51))
def test_a_node_id_has_one_way_to_be_written(raw: bytes, at: int) -> None:
    text = str(NodeId(raw))
    capital = text[:at] + text[at].upper() + text[at + 1 :]
    others = [text[:-1] + letter for letter in "abcdefghijklmnopqrstuvwxyz234567" if letter != text[-1]]
    for other in (text.upper(), capital, text + "====", text + "=", " " + text, text + "\n", *others):
        if other != text:
            try:
                assert NodeId.parse(other) != raw
            except Malformed:
                pass


@pytest.mark.parametrize("last", ["b", "p"])
def test_spare_bits_of_the_last_letter_are_zero(last: str) -> None:
    assert NodeId.parse("a" * 52) == bytes(32)
    with pytest.raises(Malformed, match="spare bits"):
        NodeId.parse("a" * 51 + last)
    with pytest.raises(Malformed, match="lower case"):
        NodeId.parse("A" * 52)


def test_repr_is_short_and_tells_nodes_apart() -> None:
    assert repr(NodeId(bytes(32))) == "NodeId(aaaaaaaa)"
    assert repr(NodeId(b"\xff" * 32)) != repr(NodeId(bytes(32)))
