"""The splice of a stream and a TCP connection, event by event.

Whole conversations: tests/services/relay/test_exit_bytes.py.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any

import pytest
from phantomband.core.stream.messages import EndReason
from phantomband.runtime.splice import SOCKET_HIGH, SOCKET_LOW, SocketStream


@dataclass
class FakeStream:
    room: bool = True
    may_read: bool = True
    calls: list[tuple[str, object]] = field(default_factory=list)

    def write(self, data: bytes) -> bool:
        self.calls.append(("write", data))
        return self.room

    def finish(self) -> None:
        self.calls.append(("finish", None))

    def end(self, reason: EndReason) -> None:
        self.calls.append(("end", reason))

    def take(self, ready: bool) -> None:
        self.calls.append(("take", ready))


@dataclass
class FakeTransport:
    calls: list[object] = field(default_factory=list)
    sock: socket.socket | None = None

    def __getattr__(self, name: str) -> Any:
        def call(*args: object, **kwargs: object) -> None:
            self.calls.append((name, *args) if args else name)

        return call

    closing: bool = False

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self.sock


class Rig:
    def __init__(self, *, connected: bool = True) -> None:
        self.gone = 0
        self.handler = SocketStream(self._gone)
        self.stream, self.transport = FakeStream(), FakeTransport()
        self.handler.stream = self.stream  # type: ignore[assignment]
        if connected:
            self.connect()

    def _gone(self, handler: SocketStream) -> None:
        assert handler is self.handler
        self.gone += 1

    def connect(self) -> None:
        self.handler.connection_made(self.transport)  # type: ignore[arg-type]

    @property
    def called(self) -> list[object]:
        """What the transport was told, since the last time."""
        calls, self.transport.calls = self.transport.calls, []
        return [c for c in calls if c not in (("set_write_buffer_limits", SOCKET_HIGH, SOCKET_LOW),)]


def test_the_sockets_buffer_is_bounded() -> None:
    rig = Rig()
    assert rig.transport.calls == [("set_write_buffer_limits", 512 * 1024, 128 * 1024)]


def test_a_full_stream_stops_reading_until_it_is_writable() -> None:
    rig = Rig()
    rig.handler.data_received(b"a")
    assert rig.called == []
    rig.stream.room = False
    rig.handler.data_received(b"b")
    assert rig.called == ["pause_reading"]
    rig.handler.writable()
    assert rig.called == ["resume_reading"]
    assert rig.handler.bytes_in == 2


def test_a_full_socket_stops_credit() -> None:
    rig = Rig()
    rig.handler.pause_writing()
    rig.handler.resume_writing()
    assert rig.stream.calls == [("take", False), ("take", True)]


def test_bytes_go_out_in_one_write() -> None:
    rig = Rig()
    rig.handler.data([b"a", b"bc"])
    rig.handler.data([b"d"])
    assert rig.called == [("write", b"abc"), ("write", b"d")]
    assert rig.handler.bytes_out == 4


def test_what_comes_before_the_connection_waits_without_credit() -> None:
    rig = Rig(connected=False)
    rig.handler.data([b"a"])
    rig.handler.data([b"b"])
    rig.handler.finished()
    assert rig.stream.calls == [("take", False), ("take", False)]
    rig.connect()
    assert rig.called == [("write", b"ab"), "write_eof"]
    assert rig.stream.calls[-1] == ("take", True)


def test_credit_is_given_before_early_bytes_are_written_so_that_a_full_socket_stops_it_again() -> None:
    rig = Rig(connected=False)
    rig.handler.data([b"a"])
    rig.transport.write = lambda _: rig.handler.pause_writing()  # type: ignore[attr-defined, method-assign]
    rig.connect()
    assert rig.stream.calls == [("take", False), ("take", True), ("take", False)]


def test_half_closes_pass_both_ways() -> None:
    rig = Rig()
    assert rig.handler.eof_received() is True
    assert rig.stream.calls == [("finish", None)]
    rig.handler.finished()
    assert rig.called == ["write_eof"]
    assert rig.gone == 0


@pytest.mark.parametrize(("error", "reason"), [(None, EndReason.DONE), (ConnectionResetError(), EndReason.RESET)])
def test_the_sockets_end_ends_the_stream(error: Exception | None, reason: EndReason) -> None:
    rig = Rig()
    rig.handler.connection_lost(error)
    assert rig.stream.calls == [("end", reason)]
    assert rig.gone == 1
    for late in (lambda: rig.handler.data([b"x"]), rig.handler.finished, rig.handler.writable):
        late()
    assert rig.called == []


def test_an_orderly_end_of_the_stream_flushes_the_socket() -> None:
    rig = Rig()
    rig.handler.ended(EndReason.DONE)
    assert rig.called == ["close"]
    assert rig.gone == 0
    rig.handler.connection_lost(None)
    assert rig.stream.calls == []
    assert rig.gone == 1


@pytest.mark.parametrize("reason", [r for r in EndReason if r is not EndReason.DONE])
def test_any_other_end_resets_the_socket(reason: EndReason) -> None:
    rig = Rig()
    with socket.socket() as sock:
        rig.transport.sock = sock
        rig.handler.ended(reason)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == b"\1\0\0\0\0\0\0\0"
    assert rig.called == ["abort"]


def test_a_stream_that_ends_before_the_connection_is_gone_at_once() -> None:
    rig = Rig(connected=False)
    rig.handler.ended(EndReason.REFUSED)
    assert rig.gone == 1
    rig.handler.reset()
    assert rig.called == []


def test_a_connection_that_comes_after_the_streams_end_is_closed_behind_what_had_come() -> None:
    rig = Rig(connected=False)
    rig.handler.data([b"all of it"])
    rig.handler.ended(EndReason.DONE)
    rig.connect()
    assert rig.called == [("write", b"all of it"), "close"]


def test_a_connection_that_comes_after_the_circuit_broke_is_reset_and_does_not_hang() -> None:
    rig = Rig(connected=False)
    rig.handler.ended(EndReason.CIRCUIT_GONE)
    rig.connect()
    assert rig.called == ["abort"]
    rig.handler.connection_lost(None)
    assert rig.gone == 1


def test_ending_from_here_ends_both_and_tells_once() -> None:
    rig = Rig()
    rig.handler.end(EndReason.TIMEOUT)
    rig.handler.end(EndReason.TIMEOUT)
    assert rig.stream.calls == [("end", EndReason.TIMEOUT)]
    assert rig.called == ["abort", "abort"]
    rig.handler.connection_lost(None)
    rig.handler.ended(EndReason.DONE)
    assert rig.gone == 1


def test_a_transport_that_closes_is_told_nothing_more() -> None:
    rig = Rig()
    rig.transport.closing = True
    rig.handler.writable()
    rig.handler.finished()
    assert not {"resume_reading", "write_eof"}.intersection(map(str, rig.called))


def test_a_socket_that_the_system_closed_already_is_reset_without_a_fault() -> None:
    rig = Rig()
    closed = socket.socket()
    closed.close()
    rig.transport.sock = closed
    rig.handler.ended(EndReason.RESET)
    assert "abort" in rig.called
