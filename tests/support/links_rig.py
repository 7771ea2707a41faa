"""The gateway's table of links over fake transports, whose peers answer when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fakes import FakeConnection, FakeOwner
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.link import LinkKey, dial, listen
from phantomband.core.shaping import Policy
from phantomband.runtime.link_driver import UNPACED, LinkDriver
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport
from phantomband_gateway.links import Links, PeerContact
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

    async def wired(self) -> Wire:
        """The newest connection that was dialled, once there is one."""
        while not self.wires:  # noqa: ASYNC110 - turns of the loop
            await asyncio.sleep(0)
        return self.wires[-1]

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
        self.links.released(driver)


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
    await rig.answer(await rig.transports[transport].wired())
    return await task
