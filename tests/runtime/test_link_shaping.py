"""How the two ends of a link agree on its shape, and what SHAPE cells may do to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fakes import FakeConnection
from link_rig import CELL, DIALER, LISTENER, NETWORK, NODE, End, pump, shake
from phantomband.core.cell import LINK_CIRCUIT, Command, encode
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.dircall import DirectoryMessage
from phantomband.core.errors import Bug, Refused
from phantomband.core.link import dial, listen, sealed_bytes
from phantomband.core.shaping import OFF, Mode, Policy, Schedule, Shape
from phantomband.runtime.link_driver import (
    ASKS_A_MINUTE,
    ASKS_TAKEN_A_MINUTE,
    IDLE_SECONDS,
    UNPACED,
    LinkDriver,
)
from phantomband.runtime.paced_egress import Fill, no_fill
from virtual import run_virtual
from world import Seeded

CONSTANT = Shape(Mode.CONSTANT, Schedule.FIXED, 128)
ADAPTIVE = Shape(Mode.ADAPTIVE, Schedule.FIXED, 512)
SLOT = 1 / 32
SLOT_BYTES = sealed_bytes(4)


class Shaped(End):
    """An end of a link with a policy and a filler."""

    def __init__(self, *, incoming: bool, policy: Policy = UNPACED, fill: Fill = no_fill, key: Any = None) -> None:
        super().__init__(incoming=incoming)
        random = Seeded(1 + incoming)
        machine = (
            listen(NETWORK, NODE, LISTENER, random, encapsulate_untrusted)
            if incoming
            else dial(NETWORK, NODE, LISTENER.public, key, random)
        )
        self.driver.abort()
        self.connection = FakeConnection()
        self.driver = LinkDriver(machine, self.owner, random, incoming=incoming, policy=policy, fill=fill)
        self.driver.attach(self.connection)


class Pair:
    def __init__(self, dialer: Policy = UNPACED, listener: Policy = UNPACED, fill: Fill = no_fill) -> None:
        self.dialer = Shaped(incoming=False, policy=dialer, fill=fill, key=DIALER)
        self.listener = Shaped(incoming=True, policy=listener)
        shake(self.dialer, self.listener)

    async def run(self, seconds: float, step: float = SLOT / 2) -> None:
        """Carries what is written, both ways, each `step`."""
        for _ in range(round(seconds / step)):
            await asyncio.sleep(step)
            pump(self.dialer, self.listener)

    def end(self) -> None:
        self.dialer.driver.abort()
        self.listener.driver.abort()


def run(test: Callable[[Pair], Coroutine[Any, Any, None]], *policies: Policy, fill: Fill = no_fill) -> None:
    async def main() -> None:
        pair = Pair(*policies, fill=fill)
        await test(pair)
        pair.end()

    run_virtual(main())


# ---- agreement ---------------------------------------------------------------------------------------------


def test_two_nodes_that_pad_do_so_from_their_first_record_on() -> None:
    async def test(pair: Pair) -> None:
        sizes: dict[bool, list[int]] = {True: [], False: []}
        for end in (pair.dialer, pair.listener):
            end.connection.written.clear()
        for _ in range(64):
            await asyncio.sleep(SLOT / 2)
            for end in (pair.dialer, pair.listener):
                sizes[end.driver.incoming] += map(len, end.connection.written)
            pump(pair.dialer, pair.listener)
        assert sizes[True] == sizes[False] == [SLOT_BYTES] * len(sizes[True])
        assert len(sizes[True]) in (31, 32)
        assert (pair.dialer.driver.shaped, pair.dialer.driver.peer_shaped) == (CONSTANT, CONSTANT)
        assert (pair.listener.driver.shaped, pair.listener.driver.peer_shaped) == (CONSTANT, None)

    run(test, Policy(CONSTANT), Policy(CONSTANT))


def test_links_of_nodes_that_do_not_pad_are_as_ever() -> None:
    async def test(pair: Pair) -> None:
        await pair.run(5)
        pair.dialer.driver.send(CELL)
        assert [len(data) for data in pair.dialer.connection.written] == [sealed_bytes(1)], (
            "at once, and nothing before"
        )
        assert pair.dialer.driver.peer_shaped is None

    run(test)


def test_a_node_that_pads_asks_one_that_does_not_for_the_same_and_gets_it_up_to_its_limit() -> None:
    async def test(pair: Pair) -> None:
        await pair.run(1)
        agreed = Shape(Mode.CONSTANT, Schedule.FIXED, 64)
        assert pair.listener.driver.shaped == pair.dialer.driver.peer_shaped == agreed
        assert pair.dialer.driver.shaped == CONSTANT

    run(test, Policy(CONSTANT), Policy(OFF, 64))


def test_a_listener_that_pads_does_so_to_whoever_asks_for_nothing() -> None:
    async def test(pair: Pair) -> None:
        await asyncio.sleep(10 * SLOT)
        assert {len(data) for data in pair.listener.connection.written} == {SLOT_BYTES}
        assert not pair.dialer.connection.written

    run(test, UNPACED, Policy(CONSTANT))


def test_a_dialer_may_ask_for_one_thing_and_do_another_and_is_told_the_answer() -> None:
    async def test(pair: Pair) -> None:
        told: list[Shape] = []
        wish = Shape(Mode.CONSTANT, Schedule.POISSON, 32)
        pair.dialer.driver.shape(ADAPTIVE, wish, told.append)
        await pair.run(1)
        assert told == [wish]
        assert (pair.dialer.driver.shaped, pair.listener.driver.shaped) == (ADAPTIVE, wish)

    run(test, UNPACED, Policy(OFF, 512))


def test_answers_come_in_the_order_of_asking_and_a_link_may_change_its_shape_and_go_back() -> None:
    async def test(pair: Pair) -> None:
        told: list[tuple[int, Shape]] = []
        for i, wish in enumerate((CONSTANT, ADAPTIVE, OFF)):
            pair.dialer.driver.shape(wish, wish, lambda shape, i=i: told.append((i, shape)))  # type: ignore[misc]
        await pair.run(2)
        assert told == [(0, CONSTANT), (1, ADAPTIVE), (2, OFF)]
        for end in (pair.dialer, pair.listener):
            end.connection.written.clear()
        await asyncio.sleep(5)
        assert not pair.dialer.connection.written
        assert not pair.listener.connection.written

    run(test, UNPACED, Policy(OFF, 512))


def test_what_waits_when_the_shape_changes_keeps_its_order() -> None:
    async def test(pair: Pair) -> None:
        numbered = [encode(b"\0\0\0\1", Command.RELAY, bytes((i,))) for i in range(90)]
        for at, shape in enumerate((CONSTANT, Shape(Mode.CONSTANT, Schedule.POISSON, 64), OFF)):
            pair.dialer.driver.shape(shape)
            pair.dialer.driver.send(b"".join(numbered[30 * at : 30 * at + 30]))
            await pair.run(2 * SLOT)
        await pair.run(1)
        assert bytes(pair.listener.owner.cells) == b"".join(numbered)

    run(test)


# ---- what a paced link carries -----------------------------------------------------------------------------


def test_circuits_and_directory_calls_cross_a_paced_link_and_nobody_sees_the_padding() -> None:
    async def test(pair: Pair) -> None:
        pair.dialer.driver.send(CELL * 100)
        pair.dialer.driver.send_directory(5, b"q" * 9000, answer=False)
        await pair.run(2)
        assert bytes(pair.listener.owner.cells) == CELL * 100
        assert pair.listener.owner.messages == [DirectoryMessage(5, False, b"q" * 9000)]
        assert pair.dialer.driver.padding_sent > 50

    run(test, Policy(CONSTANT), Policy(CONSTANT))


def test_the_owners_filler_fills_slots() -> None:
    async def test(pair: Pair) -> None:
        await pair.run(10.5 * SLOT)
        assert bytes(pair.listener.owner.cells) == CELL * 39  # one of forty was SHAPE

    run(test, Policy(CONSTANT), UNPACED, fill=lambda count: CELL * count)


def test_the_peers_circuits_begin_the_slots_of_an_adaptive_link() -> None:
    async def test(pair: Pair) -> None:
        await pair.run(1)
        pair.dialer.driver.send(CELL)
        await pair.run(1)
        before = pair.listener.driver.padding_sent
        assert before
        await pair.run(1)
        assert pair.listener.driver.padding_sent == before + 8

    run(test, Policy(ADAPTIVE), Policy(ADAPTIVE))


@pytest.mark.parametrize("shape", [CONSTANT, ADAPTIVE])
def test_a_paced_link_that_nobody_uses_lives_on(shape: Shape) -> None:
    async def test(pair: Pair) -> None:
        for _ in range(40):
            await pair.run(IDLE_SECONDS / 10, 1.0)
        assert pair.dialer.connection.ended is None
        assert pair.listener.connection.ended is None

    run(test, Policy(shape), Policy(shape))


def test_keepalive_adds_nothing_to_a_constant_link() -> None:
    async def test(pair: Pair) -> None:
        for end in (pair.dialer, pair.listener):
            end.connection.written.clear()
        for _ in range(60):
            await asyncio.sleep(1)
            pair.listener.driver.received(pair.dialer.connection.take())
            pair.dialer.driver.received(pair.listener.connection.take())
        assert pair.dialer.driver.waiting == 0
        shape_cells = 1
        assert pair.dialer.driver.padding_sent == 4 * 32 * 60 - shape_cells

    run(test, Policy(CONSTANT), Policy(CONSTANT))


def test_a_link_that_ends_has_no_timer_left() -> None:
    async def test(pair: Pair) -> None:
        pair.listener.driver.fail()
        pair.dialer.driver.close()
        for end in (pair.dialer, pair.listener):
            end.connection.written.clear()
        await asyncio.sleep(20)
        for end in (pair.dialer, pair.listener):
            assert not end.connection.written
            end.driver.closed(None)
            end.driver.shape(ADAPTIVE)
            end.driver.send(CELL)
        await asyncio.sleep(20)
        assert not pair.dialer.connection.written
        assert not pair.listener.connection.written

    run(test, Policy(CONSTANT), Policy(CONSTANT))


# ---- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"\3", b"\2\0\0\0\0\0", b"\1\0\0\0\0\x09", b"\2\0\0\0\0\1\1"])
def test_a_malformed_shape_cell_ends_the_link(body: bytes) -> None:
    async def test(pair: Pair) -> None:
        pair.dialer.driver.send(encode(LINK_CIRCUIT, Command.SHAPE, body))
        pump(pair.dialer, pair.listener)
        assert pair.listener.owner.closed == 1
        pair.listener.driver.abort()

    run(test, UNPACED, Policy(OFF, 512))


def test_an_answer_that_was_not_asked_for_ends_the_link() -> None:
    async def test(pair: Pair) -> None:
        pair.listener.driver.send(CONSTANT.cell())
        pump(pair.dialer, pair.listener)
        assert pair.dialer.connection.ended == "abort"
        assert pair.dialer.driver.peer_shaped is None

    run(test)


def test_a_second_answer_ends_the_link() -> None:
    async def test(pair: Pair) -> None:
        pair.dialer.driver.shape(OFF, OFF)
        await pair.run(SLOT)
        assert pair.dialer.connection.ended is None
        pair.listener.driver.send(OFF.cell())
        await pair.run(SLOT)
        assert pair.dialer.connection.ended == "abort"

    run(test)


def test_a_shape_cell_on_a_circuit_is_left_to_the_circuits_owner() -> None:
    async def test(pair: Pair) -> None:
        stray = b"\0\0\0\1" + CONSTANT.cell()[4:]
        pair.dialer.driver.send(stray)
        await pair.run(SLOT)
        assert bytes(pair.listener.owner.cells) == stray
        assert pair.listener.driver.shaped == OFF

    run(test, UNPACED, Policy(OFF, 512))


def test_a_listener_takes_so_many_asks_a_minute_and_a_dialer_sends_half_as_many() -> None:
    async def test(pair: Pair) -> None:
        for _ in range(ASKS_A_MINUTE):
            pair.dialer.driver.shape(OFF, CONSTANT)
        with pytest.raises(Refused, match="minute"):
            pair.dialer.driver.shape(CONSTANT, CONSTANT)
        assert pair.dialer.driver.shaped == OFF, "nothing was changed"
        await pair.run(61, 1.0)
        pair.dialer.driver.shape(OFF, CONSTANT)
        await pair.run(61, 1.0)
        for _ in range(ASKS_TAKEN_A_MINUTE):
            pair.dialer.driver.send(CONSTANT.cell())
        pair.listener.driver.received(pair.dialer.connection.take())
        assert pair.listener.owner.closed == 0
        pair.dialer.driver.send(CONSTANT.cell())
        pair.listener.driver.received(pair.dialer.connection.take())
        assert pair.listener.owner.closed == 1

    run(test, UNPACED, Policy(OFF, 512))


def test_a_listener_does_not_ask_and_no_link_is_shaped_before_it_is_up() -> None:
    async def main() -> None:
        pair = Pair()
        with pytest.raises(Bug):
            pair.listener.driver.shape(OFF, CONSTANT)
        early = End(incoming=False)
        with pytest.raises(Bug):
            early.driver.shape(CONSTANT)
        for end in (pair.dialer, pair.listener, early):
            end.driver.abort()

    run_virtual(main())
