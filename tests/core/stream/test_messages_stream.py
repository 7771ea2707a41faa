"""Stream messages: layouts, and every reader of their data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.core.stream.messages import (
    MAX_ANSWERS,
    MAX_NAME_BYTES,
    Answer,
    EndReason,
    Kind,
    Message,
    Target,
    decode_answers_untrusted,
    decode_reason_untrusted,
    decode_target_untrusted,
    decode_untrusted,
    encode,
    encode_answers,
    encode_target,
    target,
)


def test_the_numbers_never_change() -> None:
    assert [(m.name, int(m)) for m in Message] == [
        ("BEGIN", 1), ("CONNECTED", 2), ("DATA", 3), ("FIN", 4), ("END", 5), ("RESOLVE", 6), ("RESOLVED", 7),
        ("CREDIT", 8), ("EXTEND", 9), ("EXTENDED", 10), ("DROP", 11), ("PACE", 12), ("PACED", 13), ("LOOP", 14),
        ("LOOPED", 15),
    ]  # fmt: skip
    assert [(r.name, int(r)) for r in EndReason] == [
        ("DONE", 0), ("RESET", 1), ("REFUSED", 2), ("UNREACHABLE", 3), ("TIMEOUT", 4), ("RESOLVE_FAILED", 5),
        ("POLICY", 6), ("RESOURCE", 7), ("INTERNAL", 8), ("CIRCUIT_GONE", 9),
    ]  # fmt: skip
    assert (Kind.NAME, Kind.IPV4, Kind.IPV6) == (3, 4, 6)


def test_the_layouts_are_those_of_the_reference() -> None:
    assert encode(Message.DATA, 0x0102, b"abc") == b"\3\1\2\0\3abc"
    assert encode_target(target("192.0.2.1", 443)) == b"\x01\xbb\4\xc0\0\2\1"
    assert encode_target(target("2001:db8::1", 80)) == b"\0\x50\6" + bytes.fromhex("20010db8" + "0" * 23 + "1")
    assert encode_target(target("a.test", 80)) == b"\0\x50\3\6a.test"
    assert encode_answers([Answer(Kind.IPV4, "192.0.2.1", 60)]) == b"\1\0\0\0\x3c\4\xc0\0\2\1"
    assert encode_answers([]) == b"\0"


@given(st.sampled_from(Message), st.integers(0, 65535), st.binary(max_size=100), st.integers(0, 50))
def test_messages_round_trip_whatever_the_padding(command: Message, stream: int, data: bytes, padding: int) -> None:
    assert decode_untrusted(encode(command, stream, data) + bytes(padding)) == (command, stream, data)


@pytest.mark.parametrize("message", [b"", b"\3\0\1\0", b"\3\0\1\0\1", b"\0\0\1\0\0", b"\x10\0\1\0\0", b"\xff\0\1\0\0"])
def test_wrong_messages_are_malformed(message: bytes) -> None:
    with pytest.raises(Malformed):
        decode_untrusted(message)


def test_targets_and_answers_never_show_themselves() -> None:
    for secret in (target("very.secret.example", 4242), Answer(Kind.IPV4, "192.0.2.77", 4242)):
        shown = f"{secret!r} {secret}"
        assert "[scrubbed]" in shown
        assert not any(word in shown for word in ("secret", "4242", "192.0.2.77"))


@pytest.mark.parametrize("name", [b"", b"a b", b"a\0b", b"\x7f", "ä".encode(), b"a\n", b"x" * 254])
def test_names_that_are_none_are_malformed(name: bytes) -> None:
    with pytest.raises(Malformed):
        decode_target_untrusted(b"\0\x50\3" + bytes((len(name),)) + name)


def test_the_longest_name_passes() -> None:
    long = "x" * MAX_NAME_BYTES
    assert decode_target_untrusted(encode_target(Target(Kind.NAME, long, 1))).host == long


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\x50", b"\0\x50\5abcd", b"\0\x50\4abc", b"\0\x50\4abcde", b"\0\x50\xf0"]
)
def test_wrong_targets_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_target_untrusted(data)


def test_sixteen_answers_pass_and_a_seventeenth_is_left_out_by_us_and_refused_from_others() -> None:
    many = [Answer(Kind.IPV4, f"192.0.2.{i}", i) for i in range(20)]
    assert decode_answers_untrusted(encode_answers(many)) == many[:MAX_ANSWERS]
    with pytest.raises(Malformed):
        decode_answers_untrusted(b"\x11" + encode_answers(many)[1:] + b"\0\0\0\1\4abcd")


@given(st.binary(max_size=60))
def test_any_bytes_give_values_or_malformed(data: bytes) -> None:
    for decode in (
        decode_untrusted,
        decode_target_untrusted,
        decode_answers_untrusted,
        decode_reason_untrusted,
    ):
        try:
            decode(data)
        except Malformed:
            pass


@pytest.mark.parametrize("reason", [r for r in EndReason if r is not EndReason.CIRCUIT_GONE])
def test_reasons_round_trip(reason: EndReason) -> None:
    assert decode_reason_untrusted(bytes((reason,))) is reason


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\x0a", b"\xff", bytes((EndReason.CIRCUIT_GONE,))])
def test_other_reasons_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_reason_untrusted(data)


def test_the_zone_of_an_address_stays_here() -> None:
    assert target("fe80::1%eth0", 80) == Target(Kind.IPV6, "fe80::1", 80)
