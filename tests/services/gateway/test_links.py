"""The gateway's table of links: bounds, shared attempts, the cheapest transport, ids never used twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest
from fakes import FakeConnection, FakeOwner
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import NodeId
from phantomband.core.link import Cells, Established, LinkKey, Send, dial, listen, sealed_bytes
from phantomband.core.shaping import OFF, Mode, Policy, Schedule, Shape
from phantomband.runtime.link_driver import UNPACED, LinkDriver
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport, packed_ip
from phantomband_gateway.links import DIAL_SECONDS, Links, PeerContact
from virtual import run_virtual
from world import Seeded

NETWORK = bytes(32)
ME, PEER = NodeId(b"m" * 32), NodeId(b"p" * 32)
MY_KEY, PEER_KEY = LinkKey(b"m" * 32), LinkKey(b"p" * 32)


class Wire(FakeConnection):
    """A connection to a fake peer, who answers when `pump` is called."""

    receiver: Any = None


class FakeTransport(Transport):
    def __init__(self, name: str, outcome: str = "up") -> None:
        self.name, self.outcome = name, outcome
        self.dialed: list[Address] = []
        self.wires: list[Wire] = []

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        self.dialed.append(address)
        if self.outcome == "refused":
            raise Refused("nobody listens")
        if self.outcome == "hangs":
            await asyncio.Event().wait()
        wire = Wire()
        wire.receiver = accept(wire)
        self.wires.append(wire)
        return wire

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        raise NotImplementedError

    def parameters(self) -> Mapping[str, str]:
        return {}


class Owner(FakeOwner):
    links: Links

    def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None:
        super().link_established(driver, peer_key)
        self.links.established(driver, peer_key)

    def link_closed(self, driver: LinkDriver) -> None:
        super().link_closed(driver)
        self.links.closed(driver)

    def link_released(self, driver: LinkDriver) -> None:
        super().link_released(driver)
        self.links.connections.discard(driver)


class Rig:
    def __init__(self, *, max_links: int = 4, max_pending: int = 3, pacing: Policy = UNPACED) -> None:
        self.owner = Owner()
        self.transports = {name: FakeTransport(name) for name in ("tcp", "tls", "websocket", "obfs4", "doh", "quic")}
        self.links = self.owner.links = Links(
            NETWORK, ME, MY_KEY, self.transports, Seeded(1), self.owner, max_links, max_pending, pacing
        )

    def contact(self, *transports: str, node: NodeId = PEER, key: LinkKey = PEER_KEY) -> PeerContact:
        return PeerContact(
            node, key.public, tuple(Address(name, "192.0.2.1", 9001 + i) for i, name in enumerate(transports))
        )

    async def answer(self, wire: Wire) -> None:
        """The peer at the other end of a dialled wire does its part of the handshake."""
        machine = listen(NETWORK, PEER, PEER_KEY, Seeded(7), encapsulate_untrusted)
        (send,) = machine.receive(wire.take())
        wire.receiver.received(send.data)  # type: ignore[union-attr]
        machine.receive(wire.take())
        assert machine.established
        await asyncio.sleep(0)

    def incoming(self, key: LinkKey | None = None, seed: int = 3, *, finish: bool = True) -> tuple[FakeConnection, Any]:
        connection = FakeConnection()
        receiver = self.links.accept(connection)
        machine = dial(NETWORK, ME, MY_KEY.public, key, Seeded(seed))
        if finish and connection.ended is None:
            receiver.received(machine.start())
            for event in machine.receive(connection.take()):
                if hasattr(event, "data"):
                    receiver.received(event.data)
        return connection, receiver


def run(test: Callable[[Rig], Coroutine[Any, Any, None]], **limits: Any) -> None:
    async def main() -> None:
        await test(Rig(**limits))

    run_virtual(main())


async def dialled(rig: Rig, contact: PeerContact, transport: str = "tcp") -> LinkDriver:
    task = asyncio.ensure_future(rig.links.to(contact))
    while not rig.transports[transport].wires:  # noqa: ASYNC110 - turns of the loop
        await asyncio.sleep(0)
    await rig.answer(rig.transports[transport].wires[-1])
    return await task


# ---- incoming ----------------------------------------------------------------------------------------------


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


def test_connections_without_a_handshake_are_bounded_and_closed_unanswered() -> None:
    async def test(rig: Rig) -> None:
        for _ in range(3):
            assert rig.incoming(finish=False)[0].ended is None
        connection, receiver = rig.incoming(finish=False)
        assert connection.ended == "abort"
        assert not connection.written
        receiver.received(b"x")
        receiver.closed(None)
        assert (rig.links.refused, len(rig.links.pending)) == (1, 3)

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


# ---- outgoing ----------------------------------------------------------------------------------------------


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


# ---- padding -----------------------------------------------------------------------------------------------

CONSTANT = Shape(Mode.CONSTANT, Schedule.FIXED, 32)


def test_a_node_that_pads_pads_all_its_links_and_asks_those_it_dials() -> None:
    async def test(rig: Rig) -> None:
        driver = await dialled(rig, rig.contact("tcp"))
        wire = rig.transports["tcp"].wires[0]
        assert not wire.written, "it waits for the first slot"
        await asyncio.sleep(1 / 32)
        (ask,) = wire.written
        assert len(ask) == sealed_bytes(1)
        connection, client = rig.incoming(None)
        await asyncio.sleep(1 / 32)
        assert [len(data) for data in connection.written] == [sealed_bytes(1)]
        assert (driver.shaped, client.shaped) == (CONSTANT, CONSTANT)
        rig.links.abort_all()

    run(test, pacing=Policy(CONSTANT, 512))


@pytest.mark.parametrize(("limit", "done"), [(512, CONSTANT), (8, Shape(Mode.CONSTANT, Schedule.FIXED, 8)), (0, OFF)])
def test_a_client_gets_the_padding_that_it_asks_for_up_to_the_limit(limit: int, done: Shape) -> None:
    async def test(rig: Rig) -> None:
        connection = FakeConnection()
        receiver: Any = rig.links.accept(connection)
        machine = dial(NETWORK, ME, MY_KEY.public, None, Seeded(3))
        receiver.received(machine.start())
        machine.receive(connection.take())
        receiver.received(machine.seal(CONSTANT.cell()))
        await asyncio.sleep(0.2)
        (cells,) = [bytes(event.data) for event in machine.receive(connection.take()) if isinstance(event, Cells)]
        assert cells.startswith(done.cell())
        assert receiver.shaped == done
        rig.links.abort_all()

    run(test, pacing=Policy(OFF, limit))


# ---- addresses, and whether somebody is there ----------------------------------------------------------------


def test_the_address_of_a_links_other_end() -> None:
    async def test(rig: Rig) -> None:
        driver = await dialled(rig, rig.contact("tcp"))
        assert rig.links.ip_of(driver) == b"\xc0\0\2\1"
        connection, receiver = rig.incoming(finish=False)
        assert rig.links.ip_of(receiver) == connection.peer_ip == b""
        connection = FromSomewhere()
        assert rig.links.ip_of(rig.links.accept(connection)) == b"\x09\1\2\3"  # type: ignore[arg-type]

    run(test)


class FromSomewhere(FakeConnection):
    peer_ip = b"\x09\1\2\3"


@pytest.mark.parametrize(
    ("host", "packed"),
    [
        ("192.0.2.1", b"\xc0\0\2\1"),
        ("::ffff:192.0.2.1", b"\xc0\0\2\1"),
        ("2001:db8::1", bytes.fromhex("20010db8") + bytes(11) + b"\1"),
        ("fe80::1%eth0", bytes.fromhex("fe80") + bytes(13) + b"\1"),
        ("/run/socket", b""),
        ("", b""),
    ],
)
def test_packed_addresses(host: str, packed: bytes) -> None:
    assert packed_ip(host) == packed


def test_reaching_a_node_dials_it_though_there_is_a_link_and_leaves_none_behind() -> None:
    async def test(rig: Rig) -> None:
        rig.incoming(PEER_KEY)
        before = dict(rig.links.by_key)
        assert set(before) == {PEER_KEY.public}
        task = asyncio.ensure_future(rig.links.reach(rig.contact("tcp", "quic")))
        while not rig.transports["tcp"].wires:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        wire = rig.transports["tcp"].wires[-1]
        machine = listen(NETWORK, PEER, PEER_KEY, Seeded(7), encapsulate_untrusted)
        for event in machine.receive(wire.take()):
            match event:
                case Send(data):
                    wire.receiver.received(data)
                case Established(key):
                    assert key is None, "circuits never go over it: it is anonymous"
        await task
        assert machine.established
        assert wire.ended == "close"
        assert rig.links.by_key == before
        assert len(rig.links.by_id) == 1
        assert not rig.links.pending - set(rig.links.connections)

    run(test)


def test_nobody_is_reached_where_another_or_no_node_answers() -> None:
    async def test(rig: Rig) -> None:
        rig.transports["tcp"].outcome = "refused"
        with pytest.raises(Refused):
            await rig.links.reach(rig.contact("tcp"))
        with pytest.raises(Refused):
            await rig.links.reach(rig.contact())
        rig.transports["tcp"].outcome = "up"
        task = asyncio.ensure_future(rig.links.reach(rig.contact("tcp", key=LinkKey(b"x" * 32))))
        while not rig.transports["tcp"].wires:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        wire = rig.transports["tcp"].wires[-1]
        machine = listen(NETWORK, PEER, PEER_KEY, Seeded(7), encapsulate_untrusted)
        with pytest.raises(Malformed):
            machine.receive(wire.take())
        wire.receiver.closed(None)  # that node closes without a word
        with pytest.raises(Refused):
            await task
        rig.transports["tcp"].outcome = "hangs"
        began = asyncio.get_running_loop().time()
        with pytest.raises(Refused):
            await rig.links.reach(rig.contact("tcp"))
        assert asyncio.get_running_loop().time() - began == pytest.approx(DIAL_SECONDS)

    run(test)
