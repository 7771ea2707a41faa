"""Any messages given to either end of a circuit's streams end in Malformed or leave it at work; no handler is
called after its end.

Run: `make fuzz TARGETS=stream`.
"""

from __future__ import annotations

import contextlib

from phantomband.core.errors import Malformed
from phantomband.core.onion import OWN
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import (
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
from phantomband.core.stream.stream import Stream

ROOM = 64
SEEDS = [
    encode(Message.BEGIN, 1, encode_target(target("a.test", 80))),
    encode(Message.DATA, 1, b"data"),
    encode(Message.BEGIN, 2, encode_target(target("192.0.2.1", 1))) + encode(Message.FIN, 2),
    encode(Message.END, 1, b"\0"),
    encode(Message.CONNECTED, 1, encode_answers([Answer(Kind.IPV4, "192.0.2.1", 1)])),
    encode(Message.CREDIT, 0, bytes(16)),
    encode(Message.RESOLVE, 3, encode_target(target("::1", 0))),
    encode(Message.DROP, 0),
    encode(Message.EXTEND, 0, b"x"),
]

DECODERS = (decode_untrusted, decode_target_untrusted, decode_answers_untrusted, decode_reason_untrusted)


class Handler:
    """Fails when it is called after its end."""

    over = False

    def _alive(self) -> None:
        if self.over:
            raise AssertionError("a handler was called after its end")

    def connected(self, answers: list[Answer]) -> None:
        self._alive()

    def data(self, pieces: list[bytes]) -> None:
        self._alive()

    def finished(self) -> None:
        self._alive()

    def hold(self) -> None:
        self._alive()

    def writable(self) -> None:
        self._alive()

    def ended(self, reason: EndReason) -> None:
        self._alive()
        self.over = True


class Acceptor:
    def begin(self, stream: Stream, where: Target) -> Handler:
        stream.connected([Answer(Kind.IPV4, "192.0.2.1", 1)])
        return Handler()

    def resolve(self, stream: Stream, where: Target) -> Handler:
        stream.resolved([])
        return Handler()


def ends() -> list[Endpoint]:
    """A client's endpoint with one stream, and an exit's."""

    def send(marked: list[bytes]) -> list[bytes]:
        if any(len(m) > ROOM + 1 for m in marked):
            raise AssertionError("a message over its room")
        return [bytes(16) for _ in marked]

    client = Endpoint(ROOM, send, CongestionParameters())
    client.open(target("a.test", 80), Handler()).write(b"x" * 5000)
    return [client, Endpoint(ROOM, send, CongestionParameters(), Acceptor())]


def one_input(data: bytes) -> None:
    """Gives `data` to each decoder, and to both ends as one message and as many of 16 bytes."""
    for decode in DECODERS:
        with contextlib.suppress(Malformed):
            decode(data)
    cut = [data[i : i + 16] for i in range(0, min(len(data), 320), 16)]
    for messages in ([data], cut):
        for end in ends():
            end.pump(0.0)
            with contextlib.suppress(Malformed):
                for number, message in enumerate(messages):
                    end.messages([OWN + message[:ROOM].ljust(ROOM, b"\0")], [bytes(16)], number / 10)
                    end.deliver()
                    end.pump(number / 10)
            end.gone()
            if end.streams:
                raise AssertionError("a stream outlived its circuit")
