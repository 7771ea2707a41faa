"""The gateway's table of links: shared attempts, the cheapest transport, links that end."""

from __future__ import annotations

import asyncio

import pytest
from links_rig import ME, MY_KEY, PEER_KEY, Rig, dialled, run
from phantomband.core.errors import Refused
from phantomband.core.link import LinkKey
from phantomband_gateway.links import DIAL_SECONDS
from world import Seeded


def test_callers_for_one_peer_share_one_attempt_and_later_ones_the_link() -> None:
    async def test(rig: Rig) -> None:
        contact = rig.contact("tcp")
        tasks = [asyncio.ensure_future(rig.links.to(contact)) for _ in range(5)]
        await asyncio.sleep(0.01)
        await rig.answer(rig.transports["tcp"].wires[0])
        drivers = await asyncio.gather(*tasks)
        assert len(set(map(id, drivers))) == 1
        assert await rig.links.to(contact) is drivers[0]
        assert len(rig.transports["tcp"].dialed) == 1
        assert rig.links.peer_of(drivers[0]) == PEER_KEY.public

    run(test)


def test_a_caller_that_gives_up_does_not_take_the_attempt_from_the_others() -> None:
    async def test(rig: Rig) -> None:
        one, two = (asyncio.ensure_future(rig.links.to(rig.contact("tcp"))) for _ in range(2))
        await asyncio.sleep(0.01)
        one.cancel()
        await rig.answer(rig.transports["tcp"].wires[0])
        assert (await two).established

    run(test)


def test_a_link_that_the_peer_dialled_is_used_too() -> None:
    async def test(rig: Rig) -> None:
        rig.incoming(PEER_KEY)
        (driver,) = rig.links.by_id.values()
        assert await rig.links.to(rig.contact("tcp")) is driver
        assert not rig.transports["tcp"].dialed

    run(test)


@pytest.mark.parametrize(("offered", "used"), [
    (("quic", "tls", "tcp"), "tcp"), (("quic", "tls"), "tls"), (("quic", "obfs4"), "obfs4"), (("quic",), "quic"),
    (("obfs4", "websocket"), "websocket"),
    (("quic", "doh"), "doh"), (("doh", "obfs4"), "obfs4"),
])  # fmt: skip
def test_the_cheapest_common_transport_is_used(offered: tuple[str, ...], used: str) -> None:
    async def test(rig: Rig) -> None:
        await dialled(rig, rig.contact(*offered), used)
        assert [name for name, t in rig.transports.items() if t.dialed] == [used]

    run(test)


def test_no_other_transport_is_tried_when_the_cheapest_fails() -> None:
    async def test(rig: Rig) -> None:
        rig.transports["tcp"].outcome = "refused"
        with pytest.raises(Refused):
            await rig.links.to(rig.contact("tcp", "tcp", "quic"))
        assert len(rig.transports["tcp"].dialed) == 2
        assert not rig.transports["quic"].dialed
        assert not rig.links.pending

    run(test)


@pytest.mark.parametrize("offered", [(), ("smoke",)])
def test_a_peer_without_a_common_transport_is_refused(offered: tuple[str, ...]) -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(Refused):
            await rig.links.to(rig.contact(*offered))

    run(test)


def test_a_node_has_no_link_to_itself() -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(Refused, match="itself"):
            await rig.links.to(rig.contact("tcp", node=ME, key=MY_KEY))
        assert not rig.transports["tcp"].dialed

    run(test)


def test_a_dial_that_hangs_is_given_up_and_the_next_caller_tries_again() -> None:
    async def test(rig: Rig) -> None:
        tcp = rig.transports["tcp"]
        for outcome in ("hangs", "silent"):
            tcp.outcome = outcome
            start = asyncio.get_running_loop().time()
            with pytest.raises(Refused):
                await rig.links.to(rig.contact("tcp"))
            assert asyncio.get_running_loop().time() - start == pytest.approx(DIAL_SECONDS)
            assert not rig.links.pending
        assert tcp.wires[0].ended == "abort"
        tcp.wires.clear()
        assert (await dialled(rig, rig.contact("tcp"))).established

    run(test)


def test_a_peer_with_another_key_is_refused_at_once() -> None:
    async def test(rig: Rig) -> None:
        task = asyncio.ensure_future(rig.links.to(rig.contact("tcp", key=LinkKey(b"x" * 32))))
        await asyncio.sleep(0.01)
        (wire,) = rig.transports["tcp"].wires
        wire.receiver.received(Seeded(1)(1216))
        assert wire.ended == "abort"
        wire.receiver.closed(None)
        with pytest.raises(Refused):
            await task
        assert not rig.links.by_id

    run(test)


def test_a_closed_link_is_forgotten_and_dialled_anew() -> None:
    async def test(rig: Rig) -> None:
        driver = await dialled(rig, rig.contact("tcp"))
        driver.closed(ConnectionResetError())
        assert not rig.links.by_id
        assert not rig.links.by_key
        rig.transports["tcp"].wires.clear()
        assert await dialled(rig, rig.contact("tcp")) is not driver

    run(test)


def test_the_end_of_an_older_link_leaves_the_newer_one_known() -> None:
    async def test(rig: Rig) -> None:
        _, old = rig.incoming(PEER_KEY, seed=1)
        _, new = rig.incoming(PEER_KEY, seed=2)
        old.closed(None)
        assert rig.links.by_key == {PEER_KEY.public: new}

    run(test)


def test_abort_all_ends_established_and_pending_links_and_those_that_linger() -> None:
    async def test(rig: Rig) -> None:
        failed, receiver = rig.incoming(seed=3)
        receiver.received(Seeded(1)(3000))
        connections = [rig.incoming(seed=1)[0], rig.incoming(seed=2, finish=False)[0], failed]
        rig.links.abort_all()
        assert [c.ended for c in connections] == ["abort", "abort", "abort"]

    run(test)
