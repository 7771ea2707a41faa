"""DIRECTORY cells: requests and answers in pieces, limits, and how they are told from circuits' cells."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.cell import BODY_BYTES, CELL_BYTES
from phantomband.core.dircall import (
    FLAG_ANSWER,
    FLAG_LAST,
    MAX_ANSWER_BYTES,
    MAX_ASKED,
    MAX_OPEN,
    MAX_REQUEST_BYTES,
    PIECE_BYTES,
    Assembler,
    DirectoryMessage,
    encode_cells,
)
from phantomband.core.errors import Malformed


def bodies(cells: bytes) -> list[bytes]:
    return [cells[i + 5 : i + CELL_BYTES] for i in range(0, len(cells), CELL_BYTES)]


def piece(request: int, flags: int, size: int, data: bytes = b"") -> bytes:
    head = request.to_bytes(4, "big") + bytes((flags,)) + size.to_bytes(2, "big")
    return (head + data).ljust(BODY_BYTES, b"\0")


def test_the_layout_is_that_of_the_reference() -> None:
    assert PIECE_BYTES == 2036
    cells = encode_cells(0x01020304, b"hello", answer=True)
    assert cells == bytes(4) + b"\5" + b"\1\2\3\4" + b"\3" + b"\0\5" + b"hello" + bytes(2031)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5 * PIECE_BYTES), st.booleans())
def test_round_trip_of_any_length(request: int, size: int, answer: bool) -> None:
    data = random.Random(size).randbytes(size)
    cells = encode_cells(request, data, answer=answer)
    assert len(cells) == CELL_BYTES * max(1, -(-size // PIECE_BYTES))
    assembler = Assembler()
    if answer:
        assembler.ask(request)
    *early, last = [assembler.cell_untrusted(b) for b in bodies(cells)]
    assert early == [None] * len(early)
    assert last == DirectoryMessage(request, answer, data)


def test_messages_interleave_and_a_request_and_an_answer_share_a_number() -> None:
    assembler = Assembler()
    for number in (1, 2):
        assembler.ask(number)
    messages = [DirectoryMessage(n, answer, bytes((n,)) * 5000) for n in (1, 2) for answer in (False, True)]
    streams = [bodies(encode_cells(m.request, m.data, answer=m.answer)) for m in messages]
    out = [assembler.cell_untrusted(body) for turn in zip(*streams, strict=True) for body in turn]
    assert [m for m in out if m is not None] == messages


@pytest.mark.parametrize(("answer", "limit"), [(False, MAX_REQUEST_BYTES), (True, MAX_ANSWER_BYTES)])
def test_the_largest_message_passes_and_one_byte_more_does_not(answer: bool, limit: int) -> None:
    assembler = Assembler()
    assembler.ask(1)
    done = [assembler.cell_untrusted(b) for b in bodies(encode_cells(1, bytes(limit), answer=answer))]
    assert done[-1] is not None
    assert len(done[-1].data) == limit
    assembler.ask(1)
    with pytest.raises(Malformed, match="over its limit"):
        for body in bodies(encode_cells(1, bytes(limit + 1), answer=answer)):
            assembler.cell_untrusted(body)


def test_sixteen_may_be_half_received_and_no_more() -> None:
    assembler = Assembler()
    for i in range(MAX_OPEN):
        assert assembler.cell_untrusted(piece(i, 0, 1, b"x")) is None
    with pytest.raises(Malformed, match="half received"):
        assembler.cell_untrusted(piece(MAX_OPEN, 0, 1, b"x"))


def test_a_finished_message_makes_room() -> None:
    assembler = Assembler()
    for i in range(1000):
        assert assembler.cell_untrusted(piece(i, 0, 1, b"a")) is None
        assert assembler.cell_untrusted(piece(i, FLAG_LAST, 1, b"b")) == DirectoryMessage(i, False, b"ab")


def test_an_answer_to_a_request_that_was_not_made_is_malformed_from_its_first_piece() -> None:
    assembler = Assembler()
    assembler.ask(1)
    for flags in (FLAG_ANSWER, FLAG_ANSWER | FLAG_LAST):
        with pytest.raises(Malformed, match="not made"):
            assembler.cell_untrusted(piece(2, flags, 1, b"x"))


def test_a_request_is_answered_once_and_may_be_asked_again() -> None:
    assembler = Assembler()
    for _ in range(2):
        assembler.ask(1)
        assert assembler.cell_untrusted(piece(1, FLAG_ANSWER, 1, b"a")) is None
        assert assembler.cell_untrusted(piece(1, FLAG_ANSWER | FLAG_LAST, 1, b"b")) == DirectoryMessage(1, True, b"ab")
        with pytest.raises(Malformed, match="not made"):
            assembler.cell_untrusted(piece(1, FLAG_ANSWER | FLAG_LAST, 1, b"c"))


def test_what_was_asked_may_be_answered_in_any_order_and_a_request_needs_no_asking() -> None:
    assembler = Assembler()
    for number in (1, 2, 3):
        assembler.ask(number)
    for number in (2, 3, 1):
        assert assembler.cell_untrusted(piece(number, FLAG_ANSWER | FLAG_LAST, 0)) is not None
    assert assembler.cell_untrusted(piece(1, FLAG_LAST, 1, b"q")) == DirectoryMessage(1, False, b"q")


def test_of_what_was_asked_and_never_answered_only_so_much_is_remembered() -> None:
    assembler = Assembler()
    for number in range(MAX_ASKED + 1):
        assembler.ask(number)
    for number in (1, MAX_ASKED):
        assert assembler.cell_untrusted(piece(number, FLAG_ANSWER | FLAG_LAST, 1, b"a")) is not None
    with pytest.raises(Malformed, match="not made"):
        assembler.cell_untrusted(piece(0, FLAG_ANSWER | FLAG_LAST, 1, b"a"))


@pytest.mark.parametrize("answer", [False, True])
def test_an_empty_piece_is_malformed_unless_it_is_the_last(answer: bool) -> None:
    """Else a message could go on for ever without growing."""
    assembler = Assembler()
    assembler.ask(1)
    kind = FLAG_ANSWER * answer
    with pytest.raises(Malformed, match="empty piece"):
        assembler.cell_untrusted(piece(1, kind, 0))
    assert assembler.cell_untrusted(piece(1, kind, 1, b"a")) is None
    with pytest.raises(Malformed, match="empty piece"):
        assembler.cell_untrusted(piece(1, kind, 0))
    assert assembler.cell_untrusted(piece(1, kind | FLAG_LAST, 0)) == DirectoryMessage(1, answer, b"a")


WRONG = [
    piece(1, 4, 0), piece(1, 0xFF, 0), piece(1, FLAG_LAST, PIECE_BYTES + 1), piece(1, FLAG_ANSWER, 0xFFFF),
    piece(1, FLAG_LAST, 0)[:-1], piece(1, FLAG_LAST, 0) + b"\0", b"", b"\0", bytes(6),
]  # fmt: skip


@pytest.mark.parametrize("body", WRONG)
def test_wrong_forms_are_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        Assembler().cell_untrusted(body)
