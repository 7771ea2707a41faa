"""All streams of a circuit together hold a bounded number of bytes, and every source that was held reads again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import EndReason, target
from phantomband.core.stream.outbox_gate import CIRCUIT_HIGH, CIRCUIT_LOW, READ_BYTES
from phantomband.core.stream.stream import OUTBOX_HIGH
from world import FakeExit, Recorder

ROOM = 1992


class Source(Recorder):
    """A socket that has more whenever it may be read."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left
        self.paused = False

    def hold(self) -> None:
        self.paused = True

    def writable(self) -> None:
        self.paused = False

    def read(self, size: int = READ_BYTES) -> None:
        assert not self.paused
        assert self.stream is not None
        size = min(size, self.left)
        self.left -= size
        if size and not self.stream.write(bytes(size)):
            self.paused = True


class Sending:
    """An endpoint whose streams have sources, and the other end, which gives credit only when it is asked to."""

    def __init__(self, count: int, left: int) -> None:
        self.to_client: list[tuple[bytes, bytes]] = []
        self.to_exit: list[tuple[bytes, bytes]] = []
        self.number = 0
        self.acceptor = FakeExit(echo=False)
        self.client = Endpoint(ROOM, lambda m: self._queue(self.to_exit, m), CongestionParameters())
        self.exit = Endpoint(ROOM, lambda m: self._queue(self.to_client, m), CongestionParameters(), self.acceptor)
        self.received = [Recorder() for _ in range(count)]
        for recorder in self.received:
            recorder.stream = self.client.open(target("198.51.100.1", 80), recorder)
        self.step(credit=False)
        self.sources = [Source(left) for _ in range(count)]
        for source, (stream, _, _) in zip(self.sources, self.acceptor.opened, strict=True):
            source.stream = stream
            stream.handler = source

    def _queue(self, queue: list[tuple[bytes, bytes]], messages: list[bytes]) -> list[bytes]:
        sealed = []
        for message in messages:
            self.number += 1
            sealed.append(self.number.to_bytes(16, "big"))
            queue.append((message + bytes(ROOM + 1 - len(message)), sealed[-1]))
        return sealed

    def step(self, *, credit: bool) -> None:
        for endpoint, queue in ((self.exit, self.to_exit), (self.client, self.to_client)):
            if endpoint is self.exit or credit:
                taken, queue[:] = list(queue), []
                endpoint.messages([m for m, _ in taken], [s for _, s in taken], 0.0)
                endpoint.deliver()
            endpoint.pump(0.0)

    def read_all(self) -> None:
        for source in self.sources:
            while not source.paused and source.left:
                source.read()


def test_a_client_that_gives_no_credit_makes_a_thousand_streams_hold_what_one_circuit_may() -> None:
    many = Sending(1000, 100 * READ_BYTES)
    for _ in range(20):
        many.read_all()
        many.step(credit=False)
    assert CIRCUIT_LOW <= many.exit.outbox_bytes <= CIRCUIT_HIGH + READ_BYTES
    assert all(source.paused for source in many.sources)


def test_a_stream_that_opens_meanwhile_does_not_read_until_there_is_room() -> None:
    many = Sending(60, 100 * READ_BYTES)
    many.read_all()
    late = many.client.open(target("198.51.100.1", 80), Recorder())
    many.step(credit=False)
    stream, _, _ = many.acceptor.opened[-1]
    source = Source(READ_BYTES)
    source.stream, stream.handler = stream, source
    assert late.open
    assert not stream.may_read
    source.paused = True
    for other, _, _ in many.acceptor.opened[:-1]:
        other.end(EndReason.DONE)
    many.exit.pump(0.0)
    many.exit.deliver()
    assert not source.paused


def test_those_that_wait_longest_read_first_and_only_as_many_as_there_is_room_for() -> None:
    many = Sending(200, 4 * READ_BYTES)
    many.read_all()
    read_on = 0
    while many.exit.outbox_bytes >= CIRCUIT_LOW:
        many.step(credit=True)
        read_on = sum(not source.paused for source in many.sources)
    assert 0 < read_on <= CIRCUIT_HIGH // READ_BYTES
    many.read_all()
    assert many.exit.outbox_bytes <= CIRCUIT_HIGH + READ_BYTES


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 12))
def test_whatever_the_order_every_byte_arrives_and_nobody_is_held_for_ever(seed: int, count: int, reads: int) -> None:
    dice = random.Random(seed)
    many = Sending(count, reads * 100_000)
    ended = 0
    for turn in range(3000):
        for source in dice.sample(many.sources, count):
            if not source.paused and source.left and dice.random() < 0.7:
                source.read(dice.randrange(1, READ_BYTES))
            assert many.exit.outbox_bytes <= CIRCUIT_HIGH + READ_BYTES
        many.step(credit=dice.random() < 0.6)
        if turn == 5 and count > 3:
            many.sources[0].left, ended = 0, 1
            many.sources[0].stream.end(EndReason.RESET)  # type: ignore[union-attr]
        if not any(source.left for source in many.sources) and not many.exit.outbox_bytes:
            break
    for _ in range(3):
        many.step(credit=True)
    assert [len(r.received) for r in many.received[ended:]] == [reads * 100_000] * (count - ended)
    assert many.exit.outbox_bytes == 0


def test_a_stream_alone_is_bounded_as_before() -> None:
    one = Sending(1, 100 * READ_BYTES)
    one.read_all()
    assert OUTBOX_HIGH <= one.exit.outbox_bytes <= OUTBOX_HIGH + READ_BYTES


@pytest.mark.parametrize("reason", [EndReason.DONE, EndReason.RESOURCE])
def test_what_waits_in_a_stream_that_ends_is_not_counted_any_more(reason: EndReason) -> None:
    many = Sending(10, 10 * READ_BYTES)
    many.read_all()
    for stream, _, _ in many.acceptor.opened:
        stream.end(reason)
    assert many.exit.outbox_bytes == 0
