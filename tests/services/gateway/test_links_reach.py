"""The gateway's table of links: addresses, and whether somebody is there."""

from __future__ import annotations

import asyncio

import pytest
from fakes import FakeConnection
from links_rig import NETWORK, PEER, PEER_KEY, Rig, dialled, run
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Malformed, Refused
from phantomband.core.link import Established, LinkKey, Send, listen
from phantomband.transports.base import packed_ip
from phantomband_gateway.links import DIAL_SECONDS
from world import Seeded


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
        wire = await rig.transports["tcp"].wired()
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
        wire = await rig.transports["tcp"].wired()
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
