"""SOCKS5 (RFC 1928, RFC 1929) and Tor's RESOLVE: every reply, every wrong form, any split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.core.stream.messages import Answer, EndReason, Kind, decode_target_untrusted, encode_target
from phantomband_client.socks import (
    MAX_BYTES,
    NOT_SOCKS,
    REPLY_FOR,
    Command,
    Negotiation,
    Reply,
    Request,
    failure,
    success,
)

GREETING = b"\5\1\0"
V4, V6, NAME = b"\1\xc0\0\2\1", b"\4" + bytes(15) + b"\1", b"\3\x0bexample.net"


def request(command: int = 1, address: bytes = NAME, port: int = 443) -> bytes:
    return bytes((5, command, 0)) + address + port.to_bytes(2, "big")


def negotiate(data: bytes, step: int = 0) -> tuple[Request | None, bytes, bytes, bool]:
    """(request, rest, all replies, refused), fed in pieces of `step` bytes."""
    negotiation, replies, at = Negotiation(), b"", 0
    size = step or max(1, len(data))
    while at < len(data):
        try:
            done = negotiation.receive_untrusted(data[at : at + size])
        except Malformed:
            return None, b"", replies + negotiation.take_reply(), True
        at += size
        replies += negotiation.take_reply()
        if done is not None:
            return done[0], done[1] + data[at:], replies, False
    return None, b"", replies, False


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(
    ("address", "kind", "host"),
    [
        (V4, Kind.IPV4, "192.0.2.1"),
        (V6, Kind.IPV6, "::1"),
        (NAME, Kind.NAME, "example.net"),
        (b"\3\x0b192.0.2.200", Kind.IPV4, "192.0.2.200"),
        (b"\3\x05[::1]", Kind.IPV6, "::1"),
        (b"\3\x03::1", Kind.IPV6, "::1"),
    ],
)
def test_connect(address: bytes, kind: Kind, host: str, step: int) -> None:
    got, rest, replies, _ = negotiate(GREETING + request(1, address) + b"early bytes", step)
    assert got is not None
    assert (got.command, got.target.kind, got.target.host, got.target.port) == (
        Command.CONNECT,
        kind,
        host,
        443,
    )
    assert (got.user, got.password, replies, rest) == (b"", b"", b"\5\0", b"early bytes")


@pytest.mark.parametrize("command", list(Command))
def test_commands(command: Command) -> None:
    got, *_ = negotiate(GREETING + request(command))
    assert got is not None
    assert got.command is command


@pytest.mark.parametrize(
    ("user", "password"), [(b"u", b"p"), (b"", b""), (b"x" * 255, b"y" * 255), (b"\0\xff", b"\x80")]
)
def test_user_and_password_are_accepted_whatever_they_are(user: bytes, password: bytes) -> None:
    login = b"\1" + bytes((len(user),)) + user + bytes((len(password),)) + password
    for step in (0, 1):
        got, _, replies, _ = negotiate(b"\5\2\0\2" + login + request(), step)
        assert got is not None
        assert (got.user, got.password, replies) == (user, password, b"\5\2\1\0")


def test_the_longest_negotiation_fits_its_bound() -> None:
    data = b"\5\xff" + b"\2" * 255 + b"\1\xff" + bytes(255) + b"\xff" + bytes(255) + request(1, b"\3\xfd" + b"x" * 253)
    assert len(data) <= MAX_BYTES
    for step in (0, 1):
        assert negotiate(data, step)[0] is not None


REFUSED = {
    "no method that we have": (b"\5\1\1", b"\5\xff"),
    "no method at all": (b"\5\0", b"\5\xff"),
    "socks4": (b"\4\1\0\x50\xc0\0\2\1user\0", b"\0\x5b" + bytes(6)),
    "http": (b"GET http://x/ HTTP/1.1\r\n", NOT_SOCKS),
    "connect": (b"CONNECT x:443 HTTP/1.1\r\n", NOT_SOCKS),
    "tls": (b"\x16\x03\x01", b""),
    "ssh": (b"\x00SSH", b""),
    "login version": (b"\5\1\2\2\1u\1p", b"\5\2\1\1"),
    "bind": (GREETING + request(2), b"\5\0" + failure(Reply.COMMAND_NOT_SUPPORTED)),
    "udp": (GREETING + request(3), b"\5\0" + failure(Reply.COMMAND_NOT_SUPPORTED)),
    "command 0": (GREETING + request(0), b"\5\0" + failure(Reply.COMMAND_NOT_SUPPORTED)),
    "address type": (GREETING + request(1, b"\2abcd"), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
    "request version": (GREETING + b"\4" + request()[1:], b"\5\0"),
    "empty name": (GREETING + request(1, b"\3\0"), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
    "only brackets": (GREETING + request(1, b"\3\2[]"), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
    "name with a space": (GREETING + request(1, b"\3\3a b"), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
    "name with a zero": (GREETING + request(1, b"\3\3a\0b"), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
    "name with DEL": (GREETING + request(1, b"\3\3a\x7fb"), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
    "name beyond ascii": (GREETING + request(1, b"\3\2\xc3\xa4"), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
    "name too long": (GREETING + request(1, b"\3\xff" + b"x" * 255), b"\5\0" + failure(Reply.ADDRESS_NOT_SUPPORTED)),
}


@pytest.mark.parametrize(("data", "reply"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals_say_what_the_rfc_says(data: bytes, reply: bytes) -> None:
    for step in (0, 1):
        got, _, replies, refused = negotiate(data, step)
        assert refused
        assert got is None
        assert replies == reply


@pytest.mark.parametrize("part", [b"", b"\5", b"\5\2\0", GREETING, GREETING + request()[:-1], b"\5\1\2\1\1u"])
def test_what_is_not_complete_waits(part: bytes) -> None:
    got, _, _, refused = negotiate(part)
    assert got is None
    assert not refused


def test_after_the_request_nothing_more_is_read() -> None:
    negotiation = Negotiation()
    assert negotiation.receive_untrusted(GREETING + request()) is not None
    assert negotiation.receive_untrusted(b"more") is None


@settings(max_examples=200)
@given(st.binary(max_size=80), st.integers(1, 9), st.booleans())
def test_any_bytes_in_any_split_end_alike_and_every_target_fits_the_wire(data: bytes, step: int, greeted: bool) -> None:
    data = GREETING + b"\5\1\0" + data if greeted else data
    got, rest, replies, refused = whole = negotiate(data)
    again = negotiate(data, step)
    assert (again[0], again[2], again[3]) == (got, replies, refused)
    assert again[1] == rest
    assert whole[0] is None or decode_target_untrusted(encode_target(whole[0].target)) == whole[0].target


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_failure_has_a_reply_code(reason: EndReason) -> None:
    reply = failure(REPLY_FOR.get(reason, Reply.FAILURE))
    assert len(reply) == 10
    assert reply[0] == 5
    assert reply[1] == {
        EndReason.REFUSED: 5, EndReason.UNREACHABLE: 4, EndReason.RESOLVE_FAILED: 4, EndReason.TIMEOUT: 6,
        EndReason.POLICY: 2,
    }.get(reason, 1)  # fmt: skip


def test_successes() -> None:
    assert success() == b"\5\0\0\1" + bytes(6)
    assert success(Answer(Kind.IPV4, "192.0.2.1", 1)) == b"\5\0\0\1\xc0\0\2\1\0\0"
    assert success(Answer(Kind.IPV6, "::1", 1)) == b"\5\0\0\4" + bytes(15) + b"\1\0\0"
    assert success(Answer(Kind.NAME, "a.test", 1)) == b"\5\0\0\3\6a.test\0\0"


def test_a_request_does_not_show_itself() -> None:
    got, *_ = negotiate(b"\5\1\2\1\4user\6secret" + request())
    assert not any(word in repr(got) for word in ("secret", "user", "example"))
