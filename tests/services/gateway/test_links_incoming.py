"""The gateway's table of links: bounds of incoming ones, and ids never used twice."""

from __future__ import annotations

import asyncio

import pytest
from fakes import FakeConnection
from links_rig import ME, MY_KEY, NETWORK, PEER_KEY, Rig, dialled, run
from phantomband.core.link import LinkKey, dial
from world import Seeded


@pytest.mark.parametrize("key", [None, PEER_KEY])
def test_an_incoming_link_is_named_and_known_by_its_key(key: LinkKey | None) -> None:
    async def test(rig: Rig) -> None:
        rig.incoming(key)
        ((link, driver),) = rig.links.by_id.items()
        assert rig.links.ids == {driver: link}
        assert rig.links.peer_of(driver) == (key and key.public)
        assert set(rig.links.by_key) == ({key.public} if key else set())
        assert not rig.links.pending

    run(test)


def test_a_gateway_that_takes_nothing_new_closes_connections_unanswered() -> None:
    async def test(rig: Rig) -> None:
        rig.links.max_pending = 0
        connection, receiver = rig.incoming(finish=False)
        assert connection.ended == "abort"
        assert not connection.written
        receiver.received(b"x")
        receiver.closed(None)
        assert (rig.links.refused, len(rig.links.pending)) == (1, 0)

    run(test)


def test_a_failed_handshake_holds_its_place_until_it_is_closed() -> None:
    async def test(rig: Rig) -> None:
        connection, receiver = rig.incoming(finish=False)
        receiver.received(Seeded(1)(3000))
        assert len(rig.links.pending) == 1
        await asyncio.sleep(16)
        assert connection.ended == "abort"
        receiver.closed(None)
        assert not rig.links.pending

    run(test)


def test_links_are_bounded() -> None:
    async def test(rig: Rig) -> None:
        for seed in range(4):
            rig.incoming(seed=seed)
        connection, _ = rig.incoming(seed=9)
        assert connection.ended == "abort"
        assert (len(rig.links.by_id), rig.links.refused) == (4, 1)

    run(test)


def test_a_failed_link_that_lingers_still_counts_as_one() -> None:
    """Else who breaks the protocol at will could hold any number of connections."""

    async def test(rig: Rig) -> None:
        _, established = rig.incoming(seed=1)
        _, never = rig.incoming(seed=2, finish=False)
        for receiver in (established, never):
            receiver.received(Seeded(1)(3000))
        assert not rig.links.by_id
        assert rig.links.connections == {established, never}
        assert rig.incoming(seed=3)[0].ended == "abort"
        assert rig.links.refused == 1
        await asyncio.sleep(16)
        assert rig.incoming(seed=4)[0].ended == "abort"  # no transport has said yet that it is closed
        established.closed(None)
        assert rig.links.connections == {never}
        assert rig.incoming(seed=5)[0].ended is None
        assert rig.incoming(seed=6)[0].ended == "abort"
        never.closed(None)
        assert rig.incoming(seed=7)[0].ended is None

    run(test, max_links=2)


def test_links_that_we_dialled_take_no_place_of_incoming_ones() -> None:
    async def test(rig: Rig) -> None:
        await dialled(rig, rig.contact("tcp"))
        assert not rig.links.connections
        assert rig.incoming(seed=1)[0].ended is None
        assert rig.incoming(seed=2)[0].ended == "abort"

    run(test, max_links=1)


def test_ids_are_never_used_twice() -> None:
    async def test(rig: Rig) -> None:
        seen = set()
        for seed in range(20):
            _, receiver = rig.incoming(seed=seed)
            (link,) = rig.links.by_id
            assert link not in seen
            seen.add(link)
            receiver.closed(None)
            assert not rig.links.by_id
            assert not rig.links.ids
            assert not rig.links.connections

    run(test)


def test_a_recorded_first_message_gets_no_answer_a_second_time() -> None:
    async def test(rig: Rig) -> None:
        first, _ = rig.incoming(seed=3, finish=False)
        message = bytes(dial(NETWORK, ME, MY_KEY.public, None, Seeded(3)).start())
        for driver in list(rig.links.pending):
            driver.received(message)
        assert first.take()
        again = FakeConnection()
        rig.links.accept(again).received(message)
        assert not again.written

    run(test)
