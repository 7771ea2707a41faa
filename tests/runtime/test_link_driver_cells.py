"""What a link's driver does with cells and directory messages, and when its queue overflows."""

from __future__ import annotations

import asyncio

from link_rig import CELL, End, pair, pump, virtual
from phantomband.core.cell import LINK_CIRCUIT, Command, encode
from phantomband.core.dircall import DirectoryMessage
from phantomband.runtime.egress import LINK_QUEUE_CAP
from phantomband.runtime.link_driver import DESTROY_ALL, LINGER_SECONDS, PAD
from virtual import run_virtual


def test_cells_and_directory_messages_are_told_apart() -> None:
    def test() -> None:
        dialer, listener = pair()
        dialer.driver.send(CELL * 40)
        dialer.driver.send_directory(9, b"q" * 5000, answer=False)
        dialer.driver.send(CELL)
        pump(dialer, listener)
        assert bytes(listener.owner.cells) == CELL * 41
        assert listener.owner.messages == [DirectoryMessage(9, False, b"q" * 5000)]

    virtual(test)


def test_any_split_of_the_bytes_gives_the_same() -> None:
    def test() -> None:
        dialer, listener = pair()
        dialer.driver.send(CELL * 40)
        data = dialer.connection.take()
        for at in range(0, len(data), 777):
            listener.driver.received(data[at : at + 777])
        assert bytes(listener.owner.cells) == CELL * 40

    virtual(test)


def test_nothing_is_sent_before_the_link_is_up() -> None:
    def test() -> None:
        end = End(incoming=True)
        end.driver.send(CELL)
        end.driver.destroy_all()
        assert not end.connection.written
        assert end.driver.waiting == 0

    virtual(test)


def test_a_broken_record_ends_an_established_link_silently() -> None:
    async def main() -> None:
        dialer, listener = pair()
        dialer.driver.send(CELL)
        data = bytearray(dialer.connection.take())
        data[-1] ^= 1
        listener.driver.received(data)
        assert listener.owner.closed == 1
        assert not listener.owner.cells
        listener.driver.send(CELL)
        listener.driver.received(bytes(data))
        assert not listener.connection.written
        assert listener.connection.ended is None
        await asyncio.sleep(LINGER_SECONDS[1])
        assert listener.connection.ended == "abort"
        assert listener.owner.released == 0
        listener.driver.closed(None)
        assert (listener.owner.closed, listener.owner.released) == (1, 1)

    run_virtual(main())


def test_a_malformed_directory_cell_ends_the_link() -> None:
    def test() -> None:
        dialer, listener = pair()
        dialer.driver.send(encode(LINK_CIRCUIT, Command.DIRECTORY, b"\0\0\0\1\xff"))
        pump(dialer, listener)
        assert listener.owner.closed == 1
        assert not listener.owner.messages

    virtual(test)


def test_destroy_all_is_one_cell_that_names_the_link() -> None:
    def test() -> None:
        dialer, listener = pair()
        listener.driver.destroy_all()
        pump(dialer, listener)
        assert bytes(dialer.owner.cells) == DESTROY_ALL == encode(LINK_CIRCUIT, Command.DESTROY)

    virtual(test)


def test_destroy_all_takes_the_place_of_what_waits_for_circuits() -> None:
    def test() -> None:
        dialer, listener = pair()
        listener.connection.congest()
        listener.driver.send(CELL * 300)
        listener.driver.send_directory(9, b"question", answer=False)
        listener.driver.destroy_all()
        assert listener.driver.waiting == 2
        listener.connection.congest(False)
        listener.driver.writable()
        pump(dialer, listener)
        assert bytes(dialer.owner.cells) == DESTROY_ALL
        assert dialer.owner.messages == [DirectoryMessage(9, False, b"question")]

    virtual(test)


def test_an_answer_that_was_asked_for_comes_once() -> None:
    def test() -> None:
        dialer, listener = pair()
        dialer.driver.send_directory(9, b"question", answer=False)
        pump(dialer, listener)
        listener.driver.send_directory(9, b"a" * 5000, answer=True)
        pump(dialer, listener)
        assert dialer.owner.messages == [DirectoryMessage(9, True, b"a" * 5000)]
        listener.driver.send_directory(9, b"again", answer=True)
        pump(dialer, listener)
        assert len(dialer.owner.messages) == 1
        assert dialer.connection.ended == "abort"

    virtual(test)


def test_an_answer_that_nobody_asked_for_ends_the_link() -> None:
    def test() -> None:
        dialer, listener = pair()
        listener.driver.send_directory(8, b"question", answer=False)
        pump(dialer, listener)
        assert dialer.connection.ended is None
        dialer.driver.send_directory(9, b"answer", answer=True)
        pump(dialer, listener)
        assert listener.owner.closed == 1
        assert not listener.owner.messages

    virtual(test)


def test_an_overflow_of_the_links_own_queue_ends_the_link() -> None:
    def test() -> None:
        dialer, _ = pair()
        dialer.connection.congest()
        dialer.driver.send(PAD * LINK_QUEUE_CAP)
        assert dialer.connection.ended is None
        dialer.driver.send(PAD)
        assert dialer.connection.ended == "abort"
        assert not dialer.owner.overflows

    virtual(test)


def test_overflow_names_the_circuit() -> None:
    def test() -> None:
        dialer, _ = pair()
        dialer.connection.congest()
        for _ in range(17):
            dialer.driver.send(CELL * 256)
        assert dialer.owner.overflows == [CELL[:4]]
        assert dialer.connection.ended is None

    virtual(test)
