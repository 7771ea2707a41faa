"""Any bytes in any split given to the proxies' negotiations end in the same request or in Malformed; what is
asked for fits the wire.

Run: `make fuzz TARGETS=socks`.
"""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.errors import Malformed
from phantomband.core.stream.messages import decode_target_untrusted, encode_target
from phantomband.transports.managed.extended_port import Calling, Serving
from phantomband.transports.managed.socks import Dialling
from phantomband_cli.pt.socks import Accepting
from phantomband_client.http_connect import HttpNegotiation
from phantomband_client.socks import Negotiation, Request

SEEDS = [
    b"\5\1\0\5\1\0\1\xc0\0\2\1\1\xbb",
    b"\5\1\0\5\1\0\3\x0bexample.net\1\xbbearly",
    b"\5\2\0\2\1\1u\1p\5\xf0\0\3\1a\0\0",
    b"\5\1\0\5\1\0\4" + bytes(18),
    b"\5\1\0\5\1\0\3\4[::]\0\x50",
    b"\4\1\0\x50\xc0\0\2\1x\0",
    b"GET / HTTP/1.1\r\n\r\n",
    b"CONNECT example.net:443 HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\r\nearly",
    b"CONNECT [2001:db8::1]:80 HTTP/1.0\r\n\r\n",
    b"\5\1\2\1\3a=b\1\0\5\1\0\1\xc0\0\2\1\1\xbb",
    b'\5\1\x09\0\0\0\7{"a":1}\5\1\0\1\xc0\0\2\1\1\xbb',
    b"\5\2\1\0\5\0\0\1" + bytes(6),
    b"\1" + bytes(64),
    b"\1\0" + bytes(65),
]

Outcome = tuple[Request | None, bytes, bytes, bool]


def negotiate(negotiation: Negotiation | HttpNegotiation, pieces: list[bytes]) -> Outcome:
    """(request, what came behind it, replies, refused)."""
    replies = b""
    for i, piece in enumerate(pieces):
        try:
            done = negotiation.receive_untrusted(piece)
        except Malformed:
            return None, b"", replies + negotiation.take_reply(), True
        replies += negotiation.take_reply()
        if done is not None:
            return done[0], done[1] + b"".join(pieces[i + 1 :]), replies, False
    return None, b"", replies, False


Plugged = Accepting | Dialling | Serving | Calling
"""Negotiations with other programs."""


def step_by_step(negotiation: Plugged, pieces: list[bytes]) -> tuple[bytes | None, bytes]:
    """(what came behind the negotiation or None if it was refused or is not done, replies) of those of `pt`."""
    replies = negotiation.take_reply()
    for i, piece in enumerate(pieces):
        try:
            done = negotiation.receive_untrusted(piece)
        except Malformed:
            return None, replies + negotiation.take_reply()
        replies += negotiation.take_reply()
        if done is not None:
            return done + b"".join(pieces[i + 1 :]), replies
    return None, replies


PLUGGED: tuple[Callable[[], Plugged], ...] = (
    Accepting,
    lambda: Dialling("192.0.2.1", 80, {"a": "b"}),
    lambda: Dialling("2001:db8::1", 80, {}),
    lambda: Serving(bytes(32), bytes),
    lambda: Calling(bytes(32), "obfs4", "192.0.2.1:80", bytes),
)


def one_input(data: bytes) -> None:
    """Negotiates with `data` whole, in two parts and byte by byte."""
    half = len(data) // 2
    for made in PLUGGED:
        once = step_by_step(made(), [data])
        for pieces in ([data[:half], data[half:]], [data[i : i + 1] for i in range(len(data))]):
            if step_by_step(made(), pieces) != once:
                raise AssertionError("the split of the input changed its meaning to a program")
    for kind in (Negotiation, HttpNegotiation):
        whole = negotiate(kind(), [data])
        splits = [[data[:half], data[half:]], [data[i : i + 1] for i in range(len(data))]]
        if any(negotiate(kind(), pieces) != whole for pieces in splits):
            raise AssertionError("the split of the input changed its meaning")
        if whole[0] is not None:
            target = whole[0].target
            if decode_target_untrusted(encode_target(target)) != target:
                raise AssertionError("a target that changes on the wire")
