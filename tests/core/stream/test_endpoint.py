"""Two endpoints face to face: every order of closing, every message where it does not belong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantomband.core.errors import Malformed
from phantomband.core.onion import OWN
from phantomband.core.stream.congestion import Congestion, CongestionParameters
from phantomband.core.stream.credit import STREAM_WINDOW, ReceivedLedger, SentLedger
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import (
    Answer,
    EndReason,
    Kind,
    Message,
    Target,
    decode_answers_untrusted,
    decode_target_untrusted,
    encode,
    encode_answers,
    encode_target,
    target,
)
from world import FakeExit, Recorder

ROOM = 1992


class Pair:
    """A client's endpoint and an exit's, joined by two queues; the tag is a counter."""

    def __init__(self) -> None:
        self.queues: dict[str, list[tuple[bytes, bytes]]] = {"client": [], "exit": []}
        self.count = 0
        self.acceptor = FakeExit(echo=False)
        self.client = Endpoint(ROOM, lambda m: self._send("exit", m), CongestionParameters())
        self.exit = Endpoint(ROOM, lambda m: self._send("client", m), CongestionParameters(), self.acceptor)
        self.now = 0.0

    def _send(self, to: str, messages: list[bytes]) -> list[bytes]:
        out = []
        for message in messages:
            self.count += 1
            sealed = b"sealed" + self.count.to_bytes(16, "big")
            self.queues[to].append((message + bytes(ROOM + 1 - len(message)), sealed))
            out.append(sealed)
        return out

    def step(self, end: str, limit: int = 10**9) -> None:
        endpoint = self.client if end == "client" else self.exit
        taken, self.queues[end] = self.queues[end][:limit], self.queues[end][limit:]
        for message, sealed in taken:
            endpoint.messages([message], [sealed], self.now)
        endpoint.deliver()
        endpoint.pump(self.now)

    def run(self) -> None:
        for _ in range(10_000):
            self.now += 0.01
            self.client.pump(self.now)
            self.exit.pump(self.now)
            if not self.queues["client"] and not self.queues["exit"]:
                return
            self.step("exit")
            self.step("client")

    def open(self) -> tuple[Recorder, Recorder]:
        handler = Recorder()
        handler.stream = self.client.open(target("example.net", 80), handler)
        self.run()
        _, _, other = self.acceptor.opened[-1]
        return handler, other


ACTIONS = ["write", "finish", "end", "reset"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["client", "exit"]), st.sampled_from([*ACTIONS, "step", "step1"])), max_size=14)
)
def test_any_order_of_closing_leaves_nothing_and_breaks_nothing(moves: list[tuple[str, str]]) -> None:
    pair = Pair()
    ours, theirs = pair.open()
    for who, what in moves:
        stream = (ours if who == "client" else theirs).stream
        assert stream is not None
        match what:
            case "write":
                stream.write(b"data" * 700)
            case "finish":
                stream.finish()
            case "end":
                stream.end(EndReason.DONE)
            case "reset":
                stream.end(EndReason.RESET)
            case "step":
                pair.step(who)
            case "step1":
                pair.step(who, 1)
    for side in (ours, theirs):
        assert side.stream is not None
        side.stream.finish()
    pair.run()
    assert not pair.client.streams
    assert not pair.exit.streams
    another, _ = pair.open()
    assert another.stream is not None
    assert another.stream.open


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=5000), max_size=30),
    st.lists(st.binary(min_size=1, max_size=5000), max_size=30),
)
def test_bytes_arrive_in_order_both_ways(up: list[bytes], down: list[bytes]) -> None:
    pair = Pair()
    ours, theirs = pair.open()
    assert ours.stream is not None
    assert theirs.stream is not None
    for piece in up:
        ours.stream.write(piece)
    for piece in down:
        theirs.stream.write(piece)
    ours.stream.finish()
    theirs.stream.finish()
    pair.run()
    assert bytes(theirs.received) == b"".join(up)
    assert bytes(ours.received) == b"".join(down)
    assert ours.fin
    assert theirs.fin
    assert ours.reason is theirs.reason is EndReason.DONE


@pytest.mark.parametrize("command", list(range(256)))
def test_messages_where_they_do_not_belong_are_malformed(command: int) -> None:
    pair = Pair()
    with pytest.raises(Malformed):
        pair.client.messages([bytes((1, command, 0, 9, 0, 1, 65)) + bytes(100)], [bytes(32)], 0)


def tell(end: Endpoint, message: bytes) -> None:
    end.messages([OWN + message.ljust(ROOM, b"\0")], [bytes(32)], 0)


def test_a_fin_is_empty() -> None:
    pair = Pair()
    for end, handler in zip((pair.client, pair.exit), pair.open(), strict=True):
        assert handler.stream is not None
        with pytest.raises(Malformed):
            tell(end, encode(Message.FIN, handler.stream.id, b"x"))
        assert not handler.fin
        tell(end, encode(Message.FIN, handler.stream.id))
        end.deliver()
        assert handler.fin


@pytest.mark.parametrize(("stream", "data"), [(0, b"x"), (0, bytes(100)), (1, b""), (9, b""), (1, b"x")])
def test_cover_is_empty_and_of_no_stream(stream: int, data: bytes) -> None:
    pair = Pair()
    pair.open()
    for end in (pair.client, pair.exit):
        tell(end, encode(Message.DROP, 0))
        with pytest.raises(Malformed):
            tell(end, encode(Message.DROP, stream, data))


@pytest.mark.parametrize("command", [Message.EXTEND, Message.EXTENDED])
def test_what_is_the_circuits_names_no_stream(command: Message) -> None:
    pair = Pair()
    pair.open()
    got: list[tuple[int, bytes]] = []
    pair.exit.extra = lambda *message: got.append(message)
    tell(pair.exit, encode(command, 0, b"data"))
    assert got == [(command, b"data")]
    for stream in (1, 9, 65535):
        with pytest.raises(Malformed):
            tell(pair.exit, encode(command, stream, b"data"))
    assert len(got) == 1


def test_forged_credit_kills() -> None:
    pair = Pair()
    ours, _ = pair.open()
    assert ours.stream is not None
    ours.stream.write(bytes(1987 * 200))
    pair.client.pump(0)
    for stream in (0, ours.stream.id):
        with pytest.raises(Malformed):
            pair.client.messages([OWN + encode(Message.CREDIT, stream, bytes(16)) + bytes(50)], [bytes(32)], 0)


def test_credit_without_reading_is_impossible_and_window_is_enforced() -> None:
    ledger = ReceivedLedger(64, STREAM_WINDOW)
    for i in range(STREAM_WINDOW + 63):
        ledger.count(i.to_bytes(16, "big"))
    with pytest.raises(Malformed):
        ledger.count(bytes(16))
    sent = SentLedger(4)
    for i in range(8):
        sent.count([i.to_bytes(16, "big")], float(i))
    sent.count([bytes((9,)) * 16] * 3, 9.0)
    with pytest.raises(Malformed):
        sent.credit_untrusted((7).to_bytes(16, "big"))
    assert sent.credit_untrusted((3).to_bytes(16, "big")) == 3.0
    assert sent.credit_untrusted((7).to_bytes(16, "big")) == 7.0
    with pytest.raises(Malformed):
        sent.credit_untrusted((7).to_bytes(16, "big"))


def test_circuit_window_bounds_what_is_under_way() -> None:
    pair = Pair()
    ours, _ = pair.open()
    assert ours.stream is not None
    ours.stream.write(bytes(1987 * 3000))
    assert pair.client.pump(0) == CongestionParameters().initial
    assert pair.client.pump(0) == 0


def test_streams_take_turns() -> None:
    pair = Pair()
    first, _ = pair.open()
    second, _ = pair.open()
    assert first.stream is not None
    assert second.stream is not None
    first.stream.write(bytes(1987 * 1000))
    second.stream.write(bytes(1987 * 3))
    pair.queues["exit"].clear()
    pair.client.pump(0)
    ids = [m[2] << 8 | m[3] for m, _ in pair.queues["exit"]]
    assert ids.count(second.stream.id) == 3
    assert ids.index(second.stream.id) <= 16


def test_outbox_says_when_full_and_when_writable() -> None:
    pair = Pair()
    ours, theirs = pair.open()
    assert ours.stream is not None
    assert ours.stream.write(bytes(1000))
    assert not ours.stream.write(bytes(3_000_000))
    pair.run()
    assert ours.writable_calls == 1
    assert len(theirs.received) == 3_001_000


def test_a_stream_that_ends_in_pump_is_told_at_once() -> None:
    pair = Pair()
    ours, theirs = pair.open()
    assert ours.stream is not None
    assert theirs.stream is not None
    theirs.stream.finish()
    pair.exit.pump(0)
    pair.step("client")
    assert ours.fin
    ours.stream.finish()
    pair.client.pump(0)
    assert ours.reason is EndReason.DONE


def test_circuit_end_reaches_every_stream_once() -> None:
    pair = Pair()
    handlers = [pair.open()[0] for _ in range(3)]
    pair.client.gone()
    pair.client.gone()
    assert [h.reason for h in handlers] == [EndReason.CIRCUIT_GONE] * 3


def test_congestion_window_grows_on_an_empty_path_and_shrinks_when_queues_form() -> None:
    window = Congestion(CongestionParameters())
    now = 0.0
    for _ in range(100):
        now += 0.01
        window.sample(0.01, 32, now)
    grown = window.window
    assert grown == CongestionParameters().maximum
    for _ in range(3000):
        now += 0.01
        window.sample(0.2, 32, now)
        if now > 8:
            break
    assert window.window < grown


def test_mixing_delay_is_not_congestion() -> None:
    plain, mixed = Congestion(CongestionParameters()), Congestion(CongestionParameters(), mixing=0.2)
    now = 0.0
    for i in range(400):
        now += 0.01
        delay = 0.01 if i % 50 == 0 else 0.2
        plain.sample(delay, 32, now)
        mixed.sample(delay, 32, now)
    assert mixed.window > plain.window


hosts = st.one_of(
    st.ip_addresses().map(str), st.from_regex(r"[a-z][a-z0-9-]{0,40}(\.[a-z]{2,10}){0,3}", fullmatch=True)
)


@given(hosts, st.integers(0, 65535))
def test_targets_round_trip(host: str, port: int) -> None:
    where = target(host, port)
    assert decode_target_untrusted(encode_target(where)) == where
    assert repr(where) == f"Target({where.kind.name}, [scrubbed])"


@given(st.binary(max_size=300))
def test_any_bytes_give_a_target_or_malformed(data: bytes) -> None:
    for decoder in (decode_target_untrusted, decode_answers_untrusted):
        try:
            value = decoder(data)
        except Malformed:
            continue
        assert isinstance(value, (Target, list))


def test_answers_round_trip() -> None:
    answers = [
        Answer(Kind.IPV4, "192.0.2.1", 5),
        Answer(Kind.IPV6, "2001:db8::1", 0),
        Answer(Kind.NAME, "a.example", 9),
    ]
    assert decode_answers_untrusted(encode_answers(answers)) == answers
