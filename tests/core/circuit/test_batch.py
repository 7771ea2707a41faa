"""The index of a CELLS frame."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.batch import MAX_CELLS, decode_untrusted, encode, encode_run
from phantomband.core.errors import Malformed
from phantomband.core.ids import LinkId


def cell(link: int, number: int) -> bytes:
    return (link.to_bytes(4, "big") + number.to_bytes(4, "big")).ljust(CELL_BYTES, b"\0")


def pieces(link: int, count: int) -> list[bytes]:
    out: list[bytes] = []
    for number in range(count):
        whole = cell(link, number)
        out += (whole[:5], whole[5:2000], whole[2000:])
    return out


def read(payload: bytes) -> list[tuple[int, list[bytes]]]:
    runs = decode_untrusted(payload)
    return [(link, [payload[at + i * CELL_BYTES :][:CELL_BYTES] for i in range(n)]) for link, at, n in runs]


def test_the_layout_is_that_of_the_reference() -> None:
    (frame,) = encode([(LinkId(7), 1, pieces(7, 1))])
    assert b"".join(frame) == b"\0\1" + b"\0\0\0\7" + b"\0\0\0\1" + cell(7, 0)
    assert b"".join(encode_run(LinkId(7), cell(7, 0))) == b"".join(frame)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 3 * MAX_CELLS)), max_size=5))
def test_all_cells_arrive_in_order_in_frames_of_at_most_256(runs: list[tuple[int, int]]) -> None:
    frames = [b"".join(f) for f in encode([(LinkId(link), n, pieces(link, n)) for link, n in runs])]
    got: list[bytes] = []
    for frame in frames:
        cells = [c for _, run in read(frame) for c in run]
        assert 0 < len(cells) <= MAX_CELLS
        assert all(c[:4] == link.to_bytes(4, "big") for link, run in read(frame) for c in run)
        got += cells
    assert got == [cell(link, i) for link, n in runs for i in range(n)]
    assert all(sum(n for _, _, n in decode_untrusted(f)) == MAX_CELLS for f in frames[:-1])


def test_a_view_of_the_buffer_is_read_as_well() -> None:
    payload = b"".join(encode_run(LinkId(1), cell(1, 0) * 3))
    assert decode_untrusted(memoryview(payload)) == [(1, 10, 3)]


WRONG = [
    b"", b"\0", b"\0\1", b"\0\1" + bytes(7), b"\0\0x", b"\0\1" + bytes(7) + b"\1",
    b"\0\1" + bytes(7) + b"\1" + bytes(CELL_BYTES - 1), b"\0\1" + bytes(7) + b"\1" + bytes(CELL_BYTES + 1),
    b"\xff\xff" + bytes(100), b"\0\1" + bytes(4) + b"\xff" * 4,
]  # fmt: skip


@pytest.mark.parametrize("payload", WRONG)
def test_an_index_that_does_not_agree_is_malformed(payload: bytes) -> None:
    with pytest.raises(Malformed):
        decode_untrusted(payload)


@given(st.binary(max_size=100))
def test_any_bytes_give_runs_within_the_payload_or_malformed(payload: bytes) -> None:
    try:
        runs = decode_untrusted(payload)
    except Malformed:
        return
    assert all(at + n * CELL_BYTES <= len(payload) for _, at, n in runs)
