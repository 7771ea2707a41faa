"""A stream ended here calls its handler no more, whatever is due in its batch; a circuit that is gone holds nothing."""

from __future__ import annotations

import pytest
from phantomband.core.onion import OWN
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.endpoint import Endpoint
from phantomband.core.stream.messages import Answer, EndReason, Kind, Message, encode, encode_answers, target
from phantomband.core.stream.stream import OUTBOX_LOW, Stream
from world import FakeExit, Recorder

ROOM = 1992
WHERE = target("a.test", 80)
CONNECTED = (Message.CONNECTED, encode_answers([Answer(Kind.IPV4, "192.0.2.1", 1)]))
DATA, FIN = (Message.DATA, b"data"), (Message.FIN, b"")


def endpoint(acceptor: FakeExit | None = None) -> Endpoint:
    return Endpoint(ROOM, lambda marked: [bytes(16) for _ in marked], CongestionParameters(), acceptor)


class Ender(Recorder):
    """Ends another stream as soon as it has data itself, as an exit that holds too much does."""

    victim: Stream | None = None

    def data(self, pieces: list[bytes]) -> None:
        super().data(pieces)
        assert self.victim is not None
        self.victim.end(EndReason.RESOURCE)


def batch(end: Endpoint, *said: tuple[int, Message, bytes]) -> None:
    """Messages of one batch of cells, as (stream, command, data)."""
    marked = [(OWN + encode(command, stream, data)).ljust(ROOM + 1, b"\0") for stream, command, data in said]
    end.messages(marked, [bytes(16) for _ in said], 0.0)
    end.deliver()


@pytest.mark.parametrize("due", [(CONNECTED,), (DATA,), (FIN,), (CONNECTED, DATA, FIN)])
def test_nothing_that_is_due_reaches_a_stream_ended_in_the_same_batch(due: tuple[tuple[Message, bytes], ...]) -> None:
    end = endpoint()
    ender, ended = Ender(), Recorder()
    first, second = end.open(WHERE, ender), end.open(WHERE, ended)
    ender.victim = second
    batch(end, (first.id, *CONNECTED), (first.id, *DATA), *((second.id, *one) for one in due))
    assert not second.open
    assert (ended.answers, bytes(ended.received), ended.fin, ended.reason) == (None, b"", False, None)
    assert ender.answers is not None


def test_no_source_is_told_to_read_on_whose_stream_another_ended() -> None:
    end = endpoint()
    first, second = Recorder(), Recorder()
    streams = [end.open(WHERE, first), end.open(WHERE, second)]
    for stream in streams:
        stream.write(bytes(OUTBOX_LOW))
    first.writable = lambda: streams[1].end(EndReason.DONE)  # type: ignore[method-assign]
    end.pump(0.0)
    assert not streams[1].open
    assert second.writable_calls == 0


def test_a_stream_refused_at_once_has_no_handler() -> None:
    class Refusing(FakeExit):
        def begin(self, stream: Stream, where: object) -> Recorder:
            stream.end(EndReason.POLICY)
            return Recorder(stream)

    end = endpoint(Refusing())
    batch(end, (1, Message.BEGIN, b"\0\x50\3\1a"), (1, *DATA), (1, *FIN))
    assert not end.streams
    (stream,) = end._table.ending.values()
    assert stream.handler is None


def test_nothing_is_counted_as_waiting_when_the_circuit_is_gone() -> None:
    end = endpoint()
    recorder = Recorder()
    stream = end.open(WHERE, recorder)
    for _ in range(9):
        stream.write(bytes(1024 * 1024))
    assert end.outbox_bytes == 9 * 1024 * 1024
    end.gone()
    assert (end.outbox_bytes, stream.outbox_bytes, recorder.reason) == (0, 0, EndReason.CIRCUIT_GONE)
