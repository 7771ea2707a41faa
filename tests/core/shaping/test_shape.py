"""Shapes: their one form on the wire and as text, and what an end does for who asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.cell import BODY_BYTES, HEADER_BYTES, Command, decode_untrusted
from phantomband.core.errors import Malformed
from phantomband.core.shaping import LADDER, MAX_RATE, OFF, Mode, Policy, Schedule, Shape

FIXED, POISSON = Schedule.FIXED, Schedule.POISSON


def constant(rate: int, schedule: Schedule = FIXED) -> Shape:
    return Shape(Mode.CONSTANT, schedule, rate)


def adaptive(rate: int, schedule: Schedule = FIXED) -> Shape:
    return Shape(Mode.ADAPTIVE, schedule, rate)


SHAPES = st.one_of(
    st.just(OFF),
    st.builds(constant, st.integers(1, MAX_RATE), st.sampled_from(Schedule)),
    st.builds(adaptive, st.sampled_from(LADDER), st.sampled_from(Schedule)),
)


def test_the_cell_is_that_of_the_reference() -> None:
    cell = constant(0x0180, POISSON).cell()
    assert cell == bytes(4) + b"\6" + b"\2\1\0\0\1\x80" + bytes(2037)
    assert (list(Mode), list(Schedule), MAX_RATE) == ([0, 1, 2], [0, 1], 32_768)


@given(SHAPES)
def test_cells_and_texts_round_trip(shape: Shape) -> None:
    _, command, body = decode_untrusted(shape.cell())
    assert command == Command.SHAPE
    assert Shape.decode_untrusted(body) == shape
    assert Shape.parse_untrusted(shape.text) == shape


def test_texts() -> None:
    assert [s.text for s in (OFF, constant(128), adaptive(32_768, POISSON))] == [
        "off", "constant:fixed:128", "adaptive:poisson:32768",
    ]  # fmt: skip


WRONG = [
    b"\0\1\0\0\0\0", b"\0\0\0\0\0\1", b"\1\0\0\0\0\0", b"\1\0\0\0\0\x09", b"\1\0\0\1\0\0", b"\2\0\0\0\0\0",
    b"\2\0\0\0\x80\1", b"\2\0\xff\xff\xff\xff", b"\3\0\0\0\0\1", b"\2\2\0\0\0\1", b"\xff\xff\0\0\0\x08",
]  # fmt: skip


@pytest.mark.parametrize("head", WRONG)
def test_other_values_are_malformed(head: bytes) -> None:
    with pytest.raises(Malformed):
        Shape.decode_untrusted(head.ljust(BODY_BYTES, b"\0"))


@pytest.mark.parametrize("change", [lambda b: b[:-1] + b"\1", lambda b: b[:6] + b"\1" + b[7:], lambda b: b[:-1]])
def test_other_forms_are_malformed(change: object) -> None:
    body = constant(128).cell()[HEADER_BYTES:]
    with pytest.raises(Malformed):
        Shape.decode_untrusted(change(body))  # type: ignore[operator]


@given(st.binary(max_size=8))
def test_any_body_gives_a_shape_that_encodes_the_same_or_malformed(head: bytes) -> None:
    body = head.ljust(BODY_BYTES, b"\0")
    try:
        shape = Shape.decode_untrusted(body)
    except Malformed:
        return
    assert shape.cell()[HEADER_BYTES:] == body


@pytest.mark.parametrize(
    "text",
    ["", "OFF", "off:fixed:0", "constant", "constant:128", "constant:fixed:0128", "constant:fixed:+1",
     "adaptive:fixed:9", "constant:fixed:1:1", "constant:fixed:99999", "constant:fixed:\u0661",
     "random:fixed:8", "constant:0:128"],
)  # fmt: skip
def test_other_texts_are_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        Shape.parse_untrusted(text)


@given(st.text(max_size=30))
def test_any_text_gives_a_shape_or_malformed(text: str) -> None:
    try:
        assert Shape.parse_untrusted(text).text == text
    except Malformed:
        pass


# ---- what is done for who asks -----------------------------------------------------------------------------

ANSWERS = [
    # own, max_rate, asked, done
    (OFF, 512, OFF, OFF),
    (OFF, 512, constant(32), constant(32)),
    (OFF, 512, constant(4000, POISSON), constant(512, POISSON)),
    (OFF, 512, adaptive(2048), adaptive(512)),
    (OFF, 600, adaptive(2048), adaptive(512)),
    (OFF, 7, adaptive(8), OFF),
    (OFF, 0, constant(1), OFF),
    (adaptive(32_768), 512, OFF, adaptive(32_768)),
    (adaptive(32_768), 512, adaptive(32_768), adaptive(32_768)),
    (adaptive(32_768), 512, adaptive(8, POISSON), adaptive(8, POISSON)),
    (adaptive(32_768), 512, constant(4000), constant(512)),
    (adaptive(32_768), 0, constant(4000), adaptive(32_768)),
    (constant(128), 512, adaptive(512), constant(128)),
    (constant(128), 0, constant(16), constant(16)),
    (constant(128), 0, constant(512), constant(128)),
    (constant(128), 512, OFF, constant(128)),
]


@pytest.mark.parametrize(("own", "limit", "asked", "done"), ANSWERS)
def test_answers(own: Shape, limit: int, asked: Shape, done: Shape) -> None:
    assert Policy(own, limit).answer(asked) == done


@given(SHAPES, st.integers(0, MAX_RATE), SHAPES)
def test_an_answer_is_never_weaker_than_our_own_mode_nor_over_the_limit(own: Shape, limit: int, asked: Shape) -> None:
    done = Policy(own, limit).answer(asked)
    assert done.mode >= own.mode
    assert done == own or (done.mode is asked.mode and done.rate <= min(asked.rate, max(limit, own.rate)))
