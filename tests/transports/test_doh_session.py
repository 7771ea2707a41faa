"""Sessions of the doh transport over a made-up way: loss, repeats, reordering, holding, ends. Virtual clock."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Forged, Malformed
from phantomband.transports.doh.client import DIRECT, RESOLVER, ClientSession, Pace
from phantomband.transports.doh.halves import MAX_PIECES, ReceiveHalf
from phantomband.transports.doh.packet import (
    ANSWER_OVERHEAD,
    DATA,
    FIN,
    OPEN,
    QUERY_OVERHEAD,
    Answer,
    Keys,
    Opening,
    Query,
    near,
    read_query_untrusted,
)
from phantomband.transports.doh.server import ServerSession
from phantomband.transports.doh.session import SessionLost

TOKEN, SESSION = bytes(range(32)), b"sessions"
ROOM, ANSWER = 147, 1100


class Way:
    congested = False


class Net:
    """One client and one server; each query and answer is lost, repeated or late as the dice say."""

    def __init__(self, pace: Pace, delay: float = 0.05, loss: float = 0.0, jitter: float = 0.0, seed: int = 1) -> None:
        self.now = 1000.0
        self.pace, self.delay, self.loss, self.jitter = pace, delay, loss, jitter
        self.dice = random.Random(seed)
        self.keys = Keys(TOKEN, SESSION)
        self.client = ClientSession(self.keys, pace, 65535 if pace.reliable else ANSWER, 0, self.now)
        self.server: ServerSession | None = None
        self.way = Way()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.queries = self.repeats = 0
        self.up, self.down = bytearray(), bytearray()
        self.mutate: Callable[[bytes], bytes] = lambda packet: packet

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, what))

    def _travel(self, what: Callable[[], None]) -> None:
        if self.dice.random() >= self.loss:
            self.at(self.now + self.delay + self.dice.random() * self.jitter, what)

    def _ask(self, number: int, packet: bytes) -> None:
        self.queries += 1
        self._travel(lambda: self._arrive(number, packet))
        if self.dice.random() < self.loss:  # a resolver that asks again
            self._travel(lambda: self._arrive(number, packet))

    def _arrive(self, number: int, packet: bytes) -> None:
        q = read_query_untrusted(packet)
        self.keys.check_query_untrusted(packet)
        if self.server is None:
            self.server = ServerSession(self.keys, q, self.now)
        room = 65000 if self.pace.reliable else ANSWER

        def reply(answer: bytes) -> None:
            assert len(answer) <= room
            self._travel(lambda: self._answer(number, self.mutate(answer)))

        try:
            self.server.query_untrusted(q, room, lambda size: size, self.way, reply, self.now)
        except Malformed:
            self.repeats += 1

    def _answer(self, number: int, packet: bytes) -> None:
        try:
            self.client.answer_untrusted(number, packet, self.now)
        except Malformed:
            self.client.refused(number)

    def _settle(self) -> None:
        for piece in self.client.take(self.now):
            self.down += piece
        if self.server is not None:
            for piece in self.server.take(self.now):
                self.up += piece
            self.server.flush(self.now)
        room = 60000 if self.pace.reliable else ROOM
        while due := self.client.query(room, self.now):
            assert len(due[1]) <= room
            self._ask(*due)

    def run(self, until: Callable[[], bool], seconds: float = 600.0) -> float:
        """Until it is true. Returns: seconds it took."""
        start, end = self.now, self.now + seconds
        while True:
            self._settle()
            if until():
                return self.now - start
            times = [end.deadline for end in (self.client, self.server) if end is not None and not end.over]
            if self._events:
                times.append(self._events[0][0])
            self.now = max(self.now, min(times))
            assert self.now < end, "it takes too long"
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            self.client.tick(self.now + 1e-6)
            if self.server:
                self.server.tick(self.now + 1e-6)

    def opened(self) -> ServerSession:
        self.run(lambda: self.client.opened)
        assert self.server is not None
        return self.server


PACES = {"direct": DIRECT, "resolver": RESOLVER}


@pytest.mark.parametrize("name", PACES)
def test_bytes_go_both_ways_and_both_ends_close(name: str) -> None:
    net = Net(PACES[name])
    server = net.opened()
    forth, back = random.Random(1).randbytes(60_000), random.Random(2).randbytes(500_000)
    net.client.write(forth)
    server.write(back)
    net.run(lambda: len(net.up) == len(forth) and len(net.down) == len(back))
    assert (net.up, net.down) == (forth, back)
    net.client.close(net.now)
    net.run(lambda: net.client.over and server.over, 20)
    assert net.client.error is None
    assert server.error is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.3), st.integers(0, 3000), st.integers(0, 60_000))
def test_whatever_is_lost_repeated_or_late(seed: int, loss: float, jitter: float, up: int, down: int) -> None:
    net = Net(RESOLVER, 0.05, loss, jitter, seed)
    server = net.opened()
    forth, back = random.Random(seed).randbytes(up), random.Random(seed + 1).randbytes(down)
    net.client.write(forth)
    server.write(back)
    net.run(lambda: len(net.up) == up and len(net.down) == down)
    assert (net.up, net.down) == (forth, back)


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_speed_at_100_ms(loss: float) -> None:
    """Down: more than four times the 130 KB/s published for dnstt, losses or not."""
    net = Net(RESOLVER, 0.05, loss)
    server = net.opened()
    server.write(bytes(5_000_000))
    seconds = net.run(lambda: len(net.down) == 5_000_000)
    assert 5_000_000 / seconds > 520_000
    net.client.write(bytes(300_000))
    assert 300_000 / net.run(lambda: len(net.up) == 300_000) > 50_000


def test_an_even_way_with_some_jitter_loses_nothing() -> None:
    """Nothing is sent twice when answers come a little later than they always did."""
    net = Net(RESOLVER, 0.25)
    net.opened()
    net.client.write(bytes(50_000))
    net.run(lambda: len(net.up) == 50_000)
    net.jitter = 0.05
    before = net.queries
    net.client.write(bytes(50_000))
    net.run(lambda: len(net.up) == 50_000 * 2)
    assert net.queries - before < 50_000 / 106 * 1.2


def test_half_of_all_lost_narrows_the_window() -> None:
    net = Net(RESOLVER, 0.05, 0.5)
    server = net.opened()
    server.write(bytes(300_000))
    net.run(lambda: len(net.down) == 300_000)
    assert net.client._window < RESOLVER.window


def test_an_idle_session_asks_rarely_and_still_hears() -> None:
    net = Net(RESOLVER)
    server = net.opened()
    net.run(lambda: net.now > 1100.0, 200)
    before, start = net.queries, net.now
    net.run(lambda: net.now > start + 60, 100)
    assert net.queries - before <= 60 / RESOLVER.rarest + 2
    server.write(b"news")
    assert net.run(lambda: net.down == b"news", 10) <= RESOLVER.rarest + 1


def test_an_idle_direct_session_holds_one_query_and_hears_at_once() -> None:
    net = Net(DIRECT)
    server = net.opened()
    net.run(lambda: net.now > 1100.0, 200)
    before, start = net.queries, net.now
    net.run(lambda: net.now > start + 60, 100)
    assert net.queries - before <= 4
    server.write(b"news")
    assert net.run(lambda: net.down == b"news", 10) < 0.16  # at worst the query has just been given back


def test_load_makes_more_polls_and_idleness_fewer() -> None:
    net = Net(RESOLVER)
    server = net.opened()
    server.write(bytes(2_000_000))
    net.run(lambda: len(net.down) == 2_000_000)
    assert net.client._wanted > 50
    net.run(lambda: net.client._wanted == 1, 60)


@pytest.mark.parametrize("name", PACES)
def test_polls_that_are_held_do_not_hold_up_data(name: str) -> None:
    """After a download all polls wait at the server; an upload begins at once."""
    net = Net(PACES[name])
    server = net.opened()
    server.write(bytes(3_000_000))
    net.run(lambda: len(net.down) == 3_000_000)
    net.client.write(bytes(1_000))
    assert net.run(lambda: len(net.up) == 1_000) < 0.31


def test_a_reader_that_does_not_take_stops_the_writer() -> None:
    net = Net(DIRECT)
    server = net.opened()
    server.take = lambda now: []  # type: ignore[method-assign]
    net.client.write(bytes(20_000_000))
    start = net.now
    net.run(lambda: net.now > start + 30, 60)
    assert net.client.send.offset <= 4 * 1024 * 1024
    del server.take  # type: ignore[method-assign]
    net.run(lambda: len(net.up) == 20_000_000)


def test_an_abort_ends_the_other_end() -> None:
    for by_client in (True, False):
        net = Net(RESOLVER)
        server = net.opened()
        (net.client if by_client else server).abort()
        other = server if by_client else net.client
        net.run(lambda other=other: other.over, 10)  # type: ignore[misc]
        assert isinstance(other.error, SessionLost)


def test_a_server_that_is_gone_ends_the_session() -> None:
    net = Net(RESOLVER)
    net.opened()
    net.loss = 1.0
    net.run(lambda: net.client.over, 100)
    assert isinstance(net.client.error, SessionLost)
    assert net.server is not None
    net.run(lambda: net.server is not None and net.server.over, 200)


def test_a_server_that_forgot_the_session_ends_it_soon() -> None:
    net = Net(DIRECT)
    server = net.opened()
    net.mutate = lambda packet: b""
    server.write(b"x")
    net.run(lambda: net.client.over, 2)


def test_answers_that_a_resolver_made_up_do_nothing() -> None:
    net = Net(RESOLVER, seed=3)
    server = net.opened()
    dice = random.Random(3)

    def sometimes(packet: bytes) -> bytes:
        if dice.random() < 0.8:
            return packet
        at = dice.randrange(len(packet))
        return packet[:at] + bytes((packet[at] ^ 1,)) + packet[at + 1 :]

    net.mutate = sometimes
    data = random.Random(4).randbytes(100_000)
    server.write(data)
    net.run(lambda: len(net.down) == len(data))
    assert net.down == data


def test_repeated_queries_are_malformed() -> None:
    keys = Keys(TOKEN, SESSION)
    packet = keys.seal_query(Query(SESSION, 0, OPEN, 0, 1, 0, 0, Opening(0, 1000, 25, False)))
    server = ServerSession(keys, read_query_untrusted(packet), 0.0)

    def ask() -> None:
        server.query_untrusted(read_query_untrusted(packet), 1000, lambda size: size, Way(), lambda a: None, 0.0)

    ask()
    with pytest.raises(Malformed):
        ask()


# packets


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 65535), st.binary(max_size=100))
def test_packets_round_trip(number: int, ack: int, credit: int, data: bytes) -> None:
    keys = Keys(TOKEN, SESSION)
    q = Query(SESSION, number, DATA | FIN, ack, credit, 7, 2**63, None, 12345, data)
    packet = keys.seal_query(q)
    assert len(packet) == QUERY_OVERHEAD + 4 + len(data)
    keys.check_query_untrusted(packet)
    assert read_query_untrusted(packet) == q
    a = Answer(number, DATA, 255, ack, credit, 99, data)
    assert keys.open_answer_untrusted(number, keys.seal_answer(number, a)) == a
    with pytest.raises(Forged):
        keys.open_answer_untrusted(number ^ 1, keys.seal_answer(number, a))
    with pytest.raises(Forged):
        Keys(bytes(32), SESSION).check_query_untrusted(packet)


@given(st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    keys = Keys(TOKEN, SESSION)
    for parse in (read_query_untrusted, lambda d: keys.open_answer_untrusted(0, d)):
        try:
            parse(data)
        except Malformed:
            pass


def test_packets_have_the_bytes_of_the_reference() -> None:
    """The layouts and MACs of docs/reference/wire-format.md, computed apart from the code."""
    import hmac

    keys = Keys(TOKEN, SESSION)
    body = SESSION + bytes.fromhex("00000005 02 00000102 0040 0003 8000000000000001 00000203") + b"data"
    mac = hmac.digest(hmac.digest(TOKEN, b"pb-doh-1:query" + SESSION, "sha256"), body, "sha256")[:8]
    assert keys.seal_query(Query(SESSION, 5, DATA, 0x102, 64, 3, 2**63 + 1, None, 0x203, b"data")) == body + mac
    body = bytes.fromhex("00000009 00 03 00000102 0040")
    covered = SESSION + bytes.fromhex("00000005") + body
    mac = hmac.digest(hmac.digest(TOKEN, b"pb-doh-1:answer" + SESSION, "sha256"), covered, "sha256")[:8]
    assert keys.seal_answer(5, Answer(9, 0, 3, 0x102, 64)) == body + mac
    assert len(body + mac) == ANSWER_OVERHEAD


@given(st.integers(0, 2**40), st.integers(-(2**31), 2**31 - 1))
def test_near_finds_the_number_again(known: int, distance: int) -> None:
    assert near((known + distance) & 0xFFFFFFFF, known) == known + distance


def test_the_same_bytes_out_of_order_are_held_once_and_overlapping_ones_within_the_window() -> None:
    half = ReceiveHalf(100_000)
    for _ in range(MAX_PIECES):
        half.add_untrusted(10, bytes(60_000), False)
    assert len(half._early) == 1
    for offset in range(1, 200):
        half.add_untrusted(offset, bytes(60_000), False)
    assert sum(len(data) for _, data, _ in half._early) <= 100_000
    half.add_untrusted(0, bytes(70_000), True)
    assert half.ended
    assert sum(map(len, half.take())) == 70_000
    assert half._early_bytes == 0
