"""Nothing that a third party can drive closes, blocks or takes away what others share: links, dials, requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from egress_rig import PlainLink
from fakes import FakeConnection
from link_rig import pair
from links_rig import PEER, PEER_KEY, Rig, dialled, run
from phantomband.core.cell import CELL_BYTES, LINK_CIRCUIT, Command, encode
from phantomband.core.dircall import MAX_OPEN, DirectoryMessage
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.runtime.contained import Contained
from phantomband.runtime.egress import LINK_CAP, LINK_QUEUE_CAP, Egress
from phantomband.transports.base import Address
from phantomband_gateway.directory_calls import CALL_SECONDS, MAX_WAITING, DirectoryCalls
from phantomband_gateway.links import MAX_CALL_DIALS, PeerContact
from virtual import run_virtual

TARPIT = (Address("tcp", "198.51.100.66", 1),)


@pytest.mark.parametrize(
    "other",
    [
        PeerContact(NodeId(b"x" * 32), PEER_KEY.public, TARPIT),
        PeerContact(PEER, PEER_KEY.public, TARPIT),
        PeerContact(NodeId(b"x" * 32), PEER_KEY.public, (Address("tcp", "192.0.2.1", 9001),)),
        PeerContact(PEER, PEER_KEY.public, (Address("tcp", "192.0.2.1", 9001, {"sni": "x"}),)),
    ],
)
def test_a_dial_that_asks_for_something_else_holds_nobody_up(other: PeerContact) -> None:
    async def test(rig: Rig) -> None:
        rig.transports["tcp"].outcome = "hangs"
        evil = asyncio.ensure_future(rig.links.to(other))
        await asyncio.sleep(0.1)
        rig.transports["tcp"].outcome = "up"
        start = asyncio.get_running_loop().time()
        assert (await dialled(rig, rig.contact("tcp"))).established
        assert asyncio.get_running_loop().time() == start
        await asyncio.gather(evil, return_exceptions=True)

    run(test)


def test_dials_that_strangers_cause_leave_room_for_those_of_circuits() -> None:
    async def test(rig: Rig) -> None:
        rig.transports["tcp"].outcome = "hangs"
        calls = [
            asyncio.ensure_future(
                rig.links.to(PeerContact(NodeId(bytes((i,)) * 32), bytes((i,)) * 32, TARPIT), MAX_CALL_DIALS)
            )
            for i in range(MAX_CALL_DIALS + 5)
        ]
        await asyncio.sleep(0.1)
        assert sum(call.done() for call in calls) == 5
        rig.transports["tcp"].outcome = "up"
        assert (await dialled(rig, rig.contact("tcp"))).established
        await asyncio.gather(*calls, return_exceptions=True)

    run(test)


def test_the_end_of_a_newer_link_leaves_the_older_one_known() -> None:
    async def test(rig: Rig) -> None:
        _, old = rig.incoming(PEER_KEY, seed=1)
        _, new = rig.incoming(PEER_KEY, seed=2)
        new.closed(None)
        assert rig.links.by_key == {PEER_KEY.public: old}
        old.closed(None)
        assert not rig.links.by_key

    run(test)


def test_more_requests_than_are_served_at_once_are_answered_with_nothing_and_the_link_stays() -> None:
    async def test(rig: Rig) -> None:
        _, driver = rig.incoming(PEER_KEY)
        answers: list[tuple[int, bytes]] = []
        driver.send_directory = lambda request, data, *, answer: answers.append((request, data))
        contained = Contained()
        calls = DirectoryCalls("unix:x", rig.links, contained)
        calls._channel = object()
        busy: Any = asyncio.Event()
        calls._serve = lambda driver, message: busy.wait()  # type: ignore[method-assign, assignment]
        async with asyncio.TaskGroup() as tasks:
            contained.start(tasks)
            for number in range(MAX_OPEN + 3):
                calls.message(driver, DirectoryMessage(number, False, b"?"))
            assert answers == [(MAX_OPEN + i, b"") for i in range(3)]
            assert driver.established
            busy.set()

    run(test)


def test_no_more_requests_are_on_the_way_than_the_peer_takes() -> None:
    async def test(rig: Rig) -> None:
        _, driver = rig.incoming(PEER_KEY)
        asked: list[int] = []
        driver.send_directory = lambda request, data, *, answer: asked.append(request)
        calls = DirectoryCalls("unix:x", rig.links, Contained())
        contact = rig.contact("tcp")
        tasks = [asyncio.ensure_future(calls.call(contact, b"?")) for _ in range(MAX_WAITING + 1)]
        await asyncio.sleep(1)
        assert len(asked) == MAX_OPEN
        with pytest.raises(Refused, match="too many"):
            await tasks[-1]
        calls.message(driver, DirectoryMessage(asked[0], True, b"!"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asked) == MAX_OPEN + 1
        await asyncio.sleep(CALL_SECONDS)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [o[0] for o in outcomes if isinstance(o, tuple)] == [b"!"]
        assert not calls._turns
        assert not calls._waiting

    run(test)


def test_a_client_that_fills_a_shared_link_never_takes_the_links_own_queue() -> None:
    """That would end the link: 32,768 cells of many circuits, each shorter than a directory's answer."""
    given_up: list[bytes] = []
    connection = FakeConnection()
    egress = Egress(PlainLink(), connection, given_up.append)  # type: ignore[arg-type]
    connection.congest()
    egress.add(encode(LINK_CIRCUIT, Command.DIRECTORY) * 2000)
    for circuit in range(1, 20):
        egress.add((circuit.to_bytes(4, "big") + b"\1").ljust(CELL_BYTES, b"\0") * 1900)
    assert egress.waiting <= LINK_CAP
    assert given_up
    assert LINK_CIRCUIT not in given_up


def test_answers_that_the_peer_does_not_take_are_empty_before_they_end_the_link() -> None:
    async def main() -> None:
        _, listener = pair()
        listener.connection.congest()
        for number in range(40):
            listener.driver.send_directory(number, bytes(2 * 1024 * 1024), answer=True)
        assert listener.connection.ended is None
        assert LINK_QUEUE_CAP // 2 < listener.driver.waiting < LINK_QUEUE_CAP
        listener.driver.abort()

    run_virtual(main())
