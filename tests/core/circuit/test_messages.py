"""CREATE and EXTEND."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.cell import BODY_BYTES
from phantomband.core.circuit.messages import (
    decode_create_untrusted,
    decode_extend_untrusted,
    encode_create,
    encode_extend,
)
from phantomband.core.errors import Malformed
from phantomband.core.handshake.ntor import CLIENT_BYTES, RELAY_BYTES
from phantomband.core.ids import NodeId
from phantomband.core.onion import MAX_HOPS, message_room
from phantomband.core.stream.messages import HEADER_BYTES

SKIN = bytes(i % 251 for i in range(CLIENT_BYTES))
NODE = NodeId(b"n" * 32)


def test_the_layouts_are_those_of_the_reference() -> None:
    assert (CLIENT_BYTES, RELAY_BYTES) == (1568, 1408)
    assert encode_create(3, SKIN) == b"\3\1\x06\x20" + SKIN
    assert encode_extend(NODE, SKIN) == NODE + b"\1\x06\x20" + SKIN
    assert len(encode_extend(NODE, SKIN)) == 1603


def test_extend_fits_one_message_at_the_last_hop_that_may_extend() -> None:
    assert message_room(MAX_HOPS) >= HEADER_BYTES + 1603


@pytest.mark.parametrize("hop", range(1, MAX_HOPS + 1))
def test_round_trips(hop: int) -> None:
    assert decode_create_untrusted(encode_create(hop, SKIN).ljust(BODY_BYTES, b"\0")) == (hop, SKIN)
    assert decode_extend_untrusted(encode_extend(NODE, SKIN)) == (NODE, SKIN)


@pytest.mark.parametrize("hop", [0, MAX_HOPS + 1, 255])
def test_a_hop_outside_its_range_is_malformed(hop: int) -> None:
    with pytest.raises(Malformed):
        decode_create_untrusted(encode_create(hop, SKIN))


@pytest.mark.parametrize("skin", [b"", SKIN[:-1], SKIN + b"\0"])
def test_an_onion_skin_of_another_length_is_malformed(skin: bytes) -> None:
    with pytest.raises(Malformed):
        decode_create_untrusted(encode_create(1, skin).ljust(BODY_BYTES, b"\0"))
    with pytest.raises(Malformed):
        decode_extend_untrusted(encode_extend(NODE, skin))


@pytest.mark.parametrize("kind", [0, 2, 255])
def test_another_handshake_type_is_malformed(kind: int) -> None:
    create, extend = bytearray(encode_create(1, SKIN)), bytearray(encode_extend(NODE, SKIN))
    create[1] = extend[32] = kind
    with pytest.raises(Malformed):
        decode_create_untrusted(bytes(create))
    with pytest.raises(Malformed):
        decode_extend_untrusted(bytes(extend))


def test_extend_has_nothing_behind_it() -> None:
    with pytest.raises(Malformed):
        decode_extend_untrusted(encode_extend(NODE, SKIN) + b"\0")


@given(st.binary(max_size=64))
def test_any_bytes_give_a_value_or_malformed(head: bytes) -> None:
    for data in (head, head.ljust(BODY_BYTES, b"\0"), head + SKIN):
        for decode in (decode_create_untrusted, decode_extend_untrusted):
            try:
                assert len(decode(data)[1]) == CLIENT_BYTES
            except Malformed:
                pass
