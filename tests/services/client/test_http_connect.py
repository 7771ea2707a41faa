"""HTTP CONNECT: the second proxy port."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.core.stream.messages import EndReason, Kind, decode_target_untrusted, encode_target
from phantomband_client.http_connect import ESTABLISHED, MAX_HEAD_BYTES, HttpNegotiation, failure
from phantomband_client.socks import Command, Request


def negotiate(data: bytes, step: int = 0) -> tuple[Request | None, bytes, bytes]:
    """(request, rest, reply)."""
    negotiation, at = HttpNegotiation(), 0
    size = step or max(1, len(data))
    while at < len(data):
        try:
            done = negotiation.receive_untrusted(data[at : at + size])
        except Malformed:
            return None, b"", negotiation.take_reply()
        at += size
        if done is not None:
            return done[0], done[1] + data[at:], negotiation.take_reply()
    return None, b"", negotiation.take_reply()


def connect(where: str, *fields: str) -> bytes:
    return "\r\n".join([f"CONNECT {where} HTTP/1.1", *fields, "", ""]).encode("latin-1")


@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize(("where", "kind", "host", "port"), [
    ("example.net:443", Kind.NAME, "example.net", 443), ("192.0.2.1:80", Kind.IPV4, "192.0.2.1", 80),
    ("[2001:db8::1]:65535", Kind.IPV6, "2001:db8::1", 65535),
])  # fmt: skip
def test_connect(where: str, kind: Kind, host: str, port: int, step: int) -> None:
    got, rest, reply = negotiate(connect(where, "Host: elsewhere") + b"early", step)
    assert got is not None
    assert (got.command, got.target.kind, got.target.host, got.target.port) == (
        Command.CONNECT,
        kind,
        host,
        port,
    )
    assert (got.user, got.password, rest, reply) == (b"", b"", b"early", b"")


@pytest.mark.parametrize(("field", "user", "password"), [
    ("Proxy-Authorization: Basic " + base64.b64encode(b"alice:s:ecret").decode(), b"alice", b"s:ecret"),
    ("proxy-authorization:   bAsIc " + base64.b64encode(b"alice").decode(), b"alice", b""),
    ("Proxy-Authorization: Basic !!!", b"", b""), ("Proxy-Authorization: Bearer YTpi", b"", b""),
    ("Proxy-Authorization:", b"", b""), ("Authorization: Basic YTpi", b"", b""),
])  # fmt: skip
def test_credentials_isolate(field: str, user: bytes, password: bytes) -> None:
    got, *_ = negotiate(connect("example.net:443", "X: y", field))
    assert got is not None
    assert (got.user, got.password) == (user, password)


@pytest.mark.parametrize(
    "where",
    [
        "example.net",
        "example.net:",
        ":443",
        "[]:443",
        "example.net:0",
        "example.net:65536",
        "example.net:-1",
        "example.net:+80",
        "example.net:8_0",
        "example.net:x",
        "a\tb:80",
        "a\x7fb:80",
        "\xe4.test:80",
        "x" * 254 + ":80",
        "example.net:" + "9" * 5000,
    ],
)
def test_targets_that_are_none_are_400(where: str) -> None:
    for step in (0, 100):
        got, _, reply = negotiate(connect(where), step)
        assert got is None
        assert reply.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1", 405),
        (b"POST http://x/ HTTP/1.0", 405),
        (b"connect x:1 HTTP/1.1", 405),
        (b"CONNECT x:1", 400),
        (b"CONNECT x:1 HTTP/2", 400),
        (b"", 400),
        (b"CONNECT  x:1 HTTP/1.1", 400),
    ],
)
def test_other_requests_are_refused(head: bytes, status: int) -> None:
    _, _, reply = negotiate(head + b"\r\n\r\n")
    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    header, _, body = reply.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in header


@pytest.mark.parametrize(
    ("first", "reply"),
    [
        (b"\x16\x03\x01\x02", b"HTTP/1.1 400 this is an HTTP proxy without TLS"),
        (b"\5", b"\5\xff"),
        (b"\4", b"\0\x5b" + bytes(6)),
        (b"\0", b"HTTP/1.1 400 not an HTTP request"),
        (b"\xc3", b"HTTP/1.1 400 not an HTTP request"),
        (b"\n", b"HTTP/1.1 400 not an HTTP request"),
        (b"CONNECT x:1 HTTP/1.1\n", b"HTTP/1.1 400 lines of an HTTP request end with CR LF"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\n", b"HTTP/1.1 400 lines"),
    ],
)
def test_what_cannot_become_a_request_is_answered_at_once(first: bytes, reply: bytes) -> None:
    for step in (0, 1):
        assert negotiate(first, step)[2].startswith(reply)


def test_an_empty_line_before_the_request_and_line_feeds_behind_it_do_no_harm() -> None:
    got, rest, _ = negotiate(b"\r\n" + connect("example.net:443") + b"\n\nearly")
    assert got is not None
    assert rest == b"\n\nearly"


@pytest.mark.parametrize("extra", range(-3, 5))
@pytest.mark.parametrize("step", [0, 1000])
def test_the_heads_bound_is_the_same_in_any_split(extra: int, step: int) -> None:
    base = connect("example.net:443", "X: ")
    data = connect("example.net:443", "X: " + "x" * (MAX_HEAD_BYTES + 4 - len(base) + extra))
    got, _, reply = negotiate(data, step)
    assert (got is not None) == (extra <= 0)
    assert reply.startswith(b"HTTP/1.1 431 ") == (extra > 0)


def test_a_head_without_an_end_is_bounded() -> None:
    assert negotiate(b"x" * (MAX_HEAD_BYTES + 4), 4096)[2].startswith(b"HTTP/1.1 431 ")


@settings(max_examples=200)
@given(st.binary(max_size=60), st.integers(1, 9), st.booleans())
def test_any_bytes_in_any_split_end_alike_and_every_target_fits_the_wire(data: bytes, step: int, form: bool) -> None:
    data = b"CONNECT " + data + b" HTTP/1.1\r\n\r\n" if form else data + b"\r\n\r\n"
    whole = negotiate(data)
    assert negotiate(data, step) == whole
    assert whole[0] is None or decode_target_untrusted(encode_target(whole[0].target)) == whole[0].target


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_failure_has_a_status(reason: EndReason) -> None:
    status = {EndReason.TIMEOUT: 504, EndReason.POLICY: 403}.get(reason, 502)
    assert failure(reason).startswith(f"HTTP/1.1 {status} ".encode())
    assert ESTABLISHED == b"HTTP/1.1 200 Connection established\r\n\r\n"
