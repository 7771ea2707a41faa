"""Two ends of a splice, with connections that a test moves by hand."""

from __future__ import annotations

import asyncio

import pytest
from phantomband.transports.base import WRITE_HIGH_WATER, Buffer, Connection
from phantomband_cli.pt import splice
from phantomband_cli.pt.splice import MAX_EARLY, Half
from virtual import run_virtual


class Fake(Connection):
    """Keeps what is written until `send`."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.sent = bytearray()
        self.reading = True
        self.ended = ""

    def write(self, data: Buffer) -> None:
        assert not self.ended
        self.waiting += data

    def send(self) -> None:
        self.sent += self.waiting
        self.waiting.clear()

    @property
    def buffered(self) -> int:
        return len(self.waiting)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


def ends() -> tuple[Half, Fake, Half, Fake, list[Half]]:
    gone: list[Half] = []
    a, b = Fake(), Fake()
    return Half(a, gone.append), a, Half(b, gone.append), b, gone


def test_nothing_is_read_before_there_are_two_and_early_bytes_come_first() -> None:
    one, a, two, b, _ = ends()
    assert not a.reading
    one.received(memoryview(b"early "))
    one.join(two)
    assert a.reading
    assert b.reading
    one.received(b"late")
    two.received(b"back")
    assert (b.waiting, a.waiting) == (b"early late", b"back")


def test_early_bytes_are_bounded() -> None:
    one, a, *_ = ends()
    one.received(bytes(MAX_EARLY))
    assert not a.ended
    one.received(b"x")
    assert a.ended == "aborted"


def test_a_slow_end_stops_the_other() -> None:
    one, a, two, b, _ = ends()
    one.join(two)
    one.received(bytes(WRITE_HIGH_WATER + 1))
    assert not a.reading
    b.send()
    two.writable()
    assert a.reading


def test_an_end_is_handed_on_when_all_is_sent() -> None:
    async def main() -> None:
        one, _, two, b, gone = ends()
        one.join(two)
        one.received(b"the last words")
        one.closed(None)
        assert gone == [one]
        await asyncio.sleep(60)
        assert not b.ended, "a slow peer takes its time"
        b.send()
        await asyncio.sleep(1)
        assert b.ended == "closed"
        assert b.sent == b"the last words"

    run_virtual(main())


def test_a_peer_that_takes_nothing_is_not_waited_for_for_ever() -> None:
    async def main() -> None:
        one, _, two, b, _ = ends()
        one.join(two)
        one.received(b"x")
        one.closed(None)
        await asyncio.sleep(splice.CLOSE_PAUSE * splice.CLOSE_LOOKS + 1)
        assert b.ended == "closed"

    run_virtual(main())


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_how_an_end_ended_is_handed_on(error: Exception | None) -> None:
    async def main() -> None:
        one, _, two, b, _ = ends()
        one.join(two)
        b.reading = False
        one.closed(error)
        assert b.ended == ("closed" if error is None else "aborted")
        assert b.reading, "or it would never notice that its own peer goes"

    run_virtual(main())


def test_one_that_is_over_before_it_is_joined() -> None:
    async def main() -> None:
        one, _, two, b, _ = ends()
        one.received(b"all")
        one.closed(None)
        one.join(two)
        b.send()
        await asyncio.sleep(1)
        assert (b.sent, b.ended) == (b"all", "closed")

    run_virtual(main())
