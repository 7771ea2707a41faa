"""The cell: 2,048 bytes, nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.cell import (
    BODY_BYTES,
    CELL_BYTES,
    HEADER_BYTES,
    LINK_CIRCUIT,
    Command,
    decode_untrusted,
    encode,
    split,
)
from phantomband.core.errors import Malformed


def test_the_layout_is_that_of_the_reference() -> None:
    assert (CELL_BYTES, HEADER_BYTES, BODY_BYTES) == (2048, 5, 2043)
    cell = encode(b"\1\2\3\4", Command.RELAY, b"body")
    assert cell == b"\1\2\3\4" + b"\3" + b"body" + bytes(2039)
    assert bytes(4) == LINK_CIRCUIT


def test_the_numbers_of_the_commands_never_change() -> None:
    assert {c.name: int(c) for c in Command} == {
        "PAD": 0, "CREATE": 1, "CREATED": 2, "RELAY": 3, "DESTROY": 4, "DIRECTORY": 5, "SHAPE": 6,
    }  # fmt: skip


@given(st.binary(min_size=4, max_size=4), st.sampled_from(Command), st.binary(max_size=BODY_BYTES))
def test_round_trip(circuit: bytes, command: Command, body: bytes) -> None:
    cell = encode(circuit, command, body)
    assert len(cell) == CELL_BYTES
    assert decode_untrusted(cell) == (circuit, command, body + bytes(BODY_BYTES - len(body)))


@pytest.mark.parametrize("size", [BODY_BYTES - 1, BODY_BYTES])
def test_a_full_body_fits(size: int) -> None:
    assert len(encode(LINK_CIRCUIT, Command.PAD, b"x" * size)) == CELL_BYTES


def test_one_byte_more_does_not() -> None:
    with pytest.raises(ValueError, match="2043"):
        encode(LINK_CIRCUIT, Command.PAD, bytes(BODY_BYTES + 1))


@pytest.mark.parametrize("size", [0, 4, 5, CELL_BYTES - 1, CELL_BYTES + 1, 2 * CELL_BYTES])
def test_other_sizes_are_malformed(size: int) -> None:
    with pytest.raises(Malformed):
        decode_untrusted(bytes(size))


@pytest.mark.parametrize("command", [7, 8, 127, 128, 255])
def test_unknown_commands_are_malformed(command: int) -> None:
    with pytest.raises(Malformed):
        decode_untrusted(bytes(4) + bytes((command,)) + bytes(BODY_BYTES))


@given(st.binary(max_size=32))
def test_any_bytes_give_a_cell_or_malformed(head: bytes) -> None:
    for data in (head, head.ljust(CELL_BYTES, b"\0")):
        try:
            circuit, command, body = decode_untrusted(data)
        except Malformed:
            continue
        assert encode(circuit, command, body) == data


# ---- what is the link's own --------------------------------------------------------------------------------


PAD, ON_CIRCUIT = encode(LINK_CIRCUIT, Command.PAD), encode(b"\0\0\0\1", Command.PAD)
DIRECTORY = encode(LINK_CIRCUIT, Command.DIRECTORY, b"directory")
SHAPE = encode(LINK_CIRCUIT, Command.SHAPE, b"shape")
DESTROY = encode(LINK_CIRCUIT, Command.DESTROY)
RELAY = [encode(b"\0\0\0\1", Command.RELAY, bytes((i,))) for i in range(3)]


def body(cell: bytes) -> bytes:
    return cell[HEADER_BYTES:]


def test_split_leaves_the_circuits_cells_in_order_and_drops_padding() -> None:
    mixed = b"".join([PAD, RELAY[0], PAD, DIRECTORY, RELAY[1], SHAPE, PAD, PAD, RELAY[2], DIRECTORY])
    for batch in (mixed, bytearray(mixed)):
        others, own = split(batch)
        assert others == b"".join(RELAY)
        assert own == [
            (Command.DIRECTORY, body(DIRECTORY)),
            (Command.SHAPE, body(SHAPE)),
            (Command.DIRECTORY, body(DIRECTORY)),
        ]


@pytest.mark.parametrize("cells", [RELAY, [DESTROY], [ON_CIRCUIT, *RELAY], [RELAY[0], DESTROY]])
def test_split_gives_the_same_buffer_when_nothing_is_the_links_own(cells: list[bytes]) -> None:
    batch = bytearray(b"".join(cells))
    others, own = split(batch)
    assert others is batch
    assert own == []


@pytest.mark.parametrize("command", [Command.PAD, Command.DIRECTORY, Command.SHAPE])
def test_the_links_commands_on_a_circuit_are_left_to_its_owner(command: Command) -> None:
    stray = encode(b"\0\0\0\1", command)
    others, own = split(PAD + stray + SHAPE)
    assert others == stray
    assert [c for c, _ in own] == [Command.SHAPE]


@given(st.lists(st.sampled_from([PAD, DIRECTORY, SHAPE, DESTROY, ON_CIRCUIT, *RELAY]), max_size=40))
def test_split_loses_nothing_but_padding(cells: list[bytes]) -> None:
    others, own = split(b"".join(cells))
    link = {DIRECTORY: Command.DIRECTORY, SHAPE: Command.SHAPE}
    assert others == b"".join(c for c in cells if c not in link and c != PAD)
    assert own == [(link[c], body(c)) for c in cells if c in link]
