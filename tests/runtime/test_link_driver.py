"""A link's driver: what it answers, when it closes, and that a failed handshake looks like nothing at all."""

from __future__ import annotations

import asyncio

import pytest
from fakes import FakeOwner
from link_rig import CELL, DIALER, LISTENER, NETWORK, NODE, End, pair, pump, virtual
from phantomband.core.link import LinkKey, dial, sealed_bytes
from phantomband.runtime.link_driver import (
    HANDSHAKE_SECONDS,
    IDLE_SECONDS,
    KEEPALIVE_SECONDS,
    LINGER_SECONDS,
    STALL_SECONDS,
    LinkDriver,
)
from virtual import run_virtual
from world import Seeded

# ---- the handshake -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, DIALER])
def test_both_ends_come_up_and_the_listener_knows_a_named_dialer(key: LinkKey | None) -> None:
    def test() -> None:
        dialer, listener = pair(key)
        assert listener.owner.up == [key and key.public]
        assert listener.driver.peer_key == (key and key.public)
        assert len(dialer.owner.up) == 1

    virtual(test)


def test_a_listener_says_nothing_before_it_is_spoken_to() -> None:
    def test() -> None:
        assert not End(incoming=True).connection.written

    virtual(test)


JUNK = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(2000),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(1400),
    "random": Seeded(3)(4096),
    "exactly one message": Seeded(4)(1312),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_junk_is_swallowed_unanswered_and_the_end_comes_at_a_random_time(junk: bytes) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        waits = []
        for seed in range(40):
            end = End(incoming=True, seed=seed)
            start = loop.time()
            end.driver.received(junk)
            while end.connection.ended is None:
                assert end.connection.reading
                end.driver.received(b"more of it")
                await asyncio.sleep(0.05)
            waits.append(loop.time() - start)
            assert end.connection.ended == "abort"
            assert not end.connection.written
            assert end.owner.released == 0
            end.driver.closed(None)
            assert (end.owner.closed, end.owner.released) == (1, 1)
            assert not end.owner.up
        low, high = LINGER_SECONDS
        assert low <= min(waits) <= max(waits) <= high + 0.05
        assert min(waits) < low + (high - low) / 4
        assert max(waits) > high - (high - low) / 4

    run_virtual(main())


def test_a_prober_that_says_nothing_or_too_little_is_treated_like_one_that_says_junk() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for part in (b"", b"x", Seeded(1)(1311)):
            end = End(incoming=True)
            start = loop.time()
            end.driver.received(part)
            while end.connection.ended is None:  # noqa: ASYNC110 - the clock is virtual
                await asyncio.sleep(0.05)
            low, high = LINGER_SECONDS
            assert HANDSHAKE_SECONDS + low <= loop.time() - start <= HANDSHAKE_SECONDS + high + 0.1
            assert not end.connection.written

    run_virtual(main())


def test_a_replayed_valid_first_message_of_another_network_gets_no_answer() -> None:
    def test() -> None:
        machine = dial(b"\1" * 32, NODE, LISTENER.public, None, Seeded(5))
        end = End(incoming=True)
        end.driver.received(bytes(machine.start()))
        assert not end.connection.written

    virtual(test)


def test_a_dialer_that_gets_junk_closes_at_once() -> None:
    def test() -> None:
        end = End(incoming=False)
        end.driver.received(Seeded(1)(4000))
        assert end.connection.ended == "abort"

    virtual(test)


def test_a_dialer_gives_up_after_the_handshake_time() -> None:
    async def main() -> None:
        end = End(incoming=False)
        await asyncio.sleep(HANDSHAKE_SECONDS - 0.1)
        assert end.connection.ended is None
        await asyncio.sleep(0.2)
        assert end.connection.ended == "abort"

    run_virtual(main())


def test_the_handshake_timer_does_not_hit_an_established_link() -> None:
    async def main() -> None:
        dialer, listener = pair()
        for _ in range(10):
            await asyncio.sleep(HANDSHAKE_SECONDS / 4)
            pump(dialer, listener)
        assert listener.connection.ended is None
        assert dialer.connection.ended is None

    run_virtual(main())


# ---- time --------------------------------------------------------------------------------------------------


def test_an_idle_link_is_kept_alive_by_pads_of_both() -> None:
    async def main() -> None:
        dialer, listener = pair()
        pads = 0
        for _ in range(600):
            await asyncio.sleep(1.0)
            written = sum(map(len, dialer.connection.written))
            assert written in (0, sealed_bytes(1))
            pads += written // sealed_bytes(1)
            pump(dialer, listener)
            assert not listener.owner.cells, "nobody is told of a PAD"
        assert dialer.connection.ended is None
        assert listener.connection.ended is None
        assert 600 / KEEPALIVE_SECONDS <= pads <= 2 * 600 / KEEPALIVE_SECONDS

    run_virtual(main())


def test_a_busy_link_sends_no_pads() -> None:
    async def main() -> None:
        dialer, listener = pair()
        for _ in range(100):
            await asyncio.sleep(1.0)
            dialer.driver.send(CELL)
            pump(dialer, listener)
        assert bytes(listener.owner.cells) == CELL * 100

    run_virtual(main())


def test_a_silent_peer_is_gone() -> None:
    async def main() -> None:
        _, listener = pair()
        await asyncio.sleep(IDLE_SECONDS - 1)
        assert listener.connection.ended is None
        await asyncio.sleep(KEEPALIVE_SECONDS)
        assert listener.connection.ended == "abort"

    run_virtual(main())


def test_a_peer_that_takes_no_byte_is_gone() -> None:
    async def main() -> None:
        dialer, listener = pair()
        listener.connection.congest()
        listener.driver.send(CELL)
        seconds = 0
        while listener.connection.ended is None and seconds < 200:
            await asyncio.sleep(1.0)
            dialer.driver.send(CELL)
            listener.driver.received(dialer.connection.take())
            seconds += 1
        assert STALL_SECONDS <= seconds <= STALL_SECONDS + 2 * KEEPALIVE_SECONDS

    run_virtual(main())


def test_a_slow_peer_is_not_a_dead_one() -> None:
    async def main() -> None:
        dialer, listener = pair()
        listener.connection.congest()
        listener.driver.send(CELL * 256)
        for _ in range(30):
            await asyncio.sleep(5.0)
            dialer.driver.send(CELL)
            listener.driver.received(dialer.connection.take())
            listener.connection.congest(False)
            listener.driver.writable()
            listener.connection.congest()
            listener.driver.send(CELL * 120)
        assert listener.connection.ended is None

    run_virtual(main())


# ---- ending ------------------------------------------------------------------------------------------------


def test_the_owner_hears_of_the_end_once() -> None:
    def test() -> None:
        for ends in (["close"], ["abort"], ["close", "abort"], []):
            dialer, _ = pair()
            for how in ends:
                getattr(dialer.driver, how)()
            dialer.driver.closed(None)
            dialer.driver.closed(ConnectionResetError())
            assert (dialer.owner.closed, dialer.owner.released) == (1, 1)
            dialer.driver.send(CELL)
            assert not dialer.connection.written

    virtual(test)


def test_a_driver_that_never_got_a_connection_can_be_ended() -> None:
    def test() -> None:
        owner = FakeOwner()
        driver = LinkDriver(dial(NETWORK, NODE, LISTENER.public, None, Seeded(1)), owner, Seeded(1), incoming=False)
        driver.abort()
        assert (owner.closed, owner.released) == (1, 1)

    virtual(test)


def test_a_link_whose_connection_ends_while_it_lingers_is_released_then() -> None:
    async def main() -> None:
        _, listener = pair()
        listener.driver.received(Seeded(1)(4000))
        assert (listener.owner.closed, listener.owner.released) == (1, 0)
        listener.driver.closed(ConnectionResetError())
        assert (listener.owner.closed, listener.owner.released) == (1, 1)
        await asyncio.sleep(LINGER_SECONDS[1])
        assert listener.connection.ended is None  # nothing is left of its timer

    run_virtual(main())


def test_reading_is_paused_and_resumed() -> None:
    def test() -> None:
        dialer, _ = pair()
        dialer.driver.pause_reading()
        assert not dialer.connection.reading
        dialer.driver.resume_reading()
        assert dialer.connection.reading

    virtual(test)
