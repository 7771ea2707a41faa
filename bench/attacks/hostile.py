"""Attacks, each by one hostile client made of the project's own core: `python hostile.py NAME ...` until it is killed.

All come from one source, an address of this machine that no honest client has. Targets are addresses of this machine
alone, and each attack has a bound on what it sends a second.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from phantomband.core.cell import Command
from phantomband.core.cell import encode as encode_cell
from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.circuit.messages import encode_create
from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Malformed, Refused
from phantomband.core.handshake.ntor import RelayKeys, client_start
from phantomband.core.ids import HopNumber
from phantomband.core.link import LinkKey, dial
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.certified import CertifiedView
from phantomband.core.netdir.descriptor import Descriptor, sign_descriptor
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband.core.netdir.replies import ViewReply, decode_reply_untrusted
from phantomband.core.netdir.requests import GetView, Publish, encode_request
from phantomband.core.netdir.view import View, ViewEntry
from phantomband.core.shaping import Shape
from phantomband.core.stream.messages import target
from phantomband.runtime.link_driver import LinkDriver
from phantomband.transports.base import Address
from phantomband.transports.registry import make
from phantomband_client.guard_link import GuardLink

SOURCE = "127.66.0.1"
"""Where the attack comes from."""

Attack = Callable[["Attacker"], Coroutine[Any, Any, None]]


class Watcher:
    """Tells when a circuit is built, or gone."""

    def __init__(self) -> None:
        self.built: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def circuit_open(self, circuit: ClientCircuit) -> None:
        if not self.built.done():
            self.built.set_result(True)

    def circuit_gone(self, circuit: ClientCircuit) -> None:
        if not self.built.done():
            self.built.set_result(False)

    def circuit_looped(self, circuit: ClientCircuit, hop: int, seconds: float) -> None: ...

    def circuit_paced(self, circuit: ClientCircuit) -> None: ...


class Silent:
    """A stream's handler that reads nothing."""

    def connected(self, answers: object) -> None: ...

    def data(self, pieces: object) -> None: ...

    def finished(self) -> None: ...

    def ended(self, reason: object) -> None: ...

    def hold(self) -> None: ...

    def writable(self) -> None: ...


class Attacker:
    """What all attacks have."""

    def __init__(self, genesis: Genesis, guard: str, web: int) -> None:
        """Args: guard: nickname of the honest client's; web: port of a server that sends without end."""
        self.genesis, self.web = genesis, web
        self._guard = guard
        self.view: View | None = None

    async def begin(self) -> None:
        """Learns the network."""
        card = self.genesis.directories[0]
        link = await self.link(card)
        reply = decode_reply_untrusted(await link.directory_call(encode_request(GetView(0))))
        assert isinstance(reply, ViewReply)
        self.view = CertifiedView.decode_untrusted(reply.certified).view
        link.close()

    async def link(self, node: Any, transport: str = "tcp") -> GuardLink:
        """A new anonymous link to a node."""
        link = GuardLink(node.node_id, lambda _: None, os.urandom)
        await link.dial(self.genesis.network_id, node.link_key, self.address(node, transport), make(transport))
        return link

    @staticmethod
    def address(node: Any, transport: str = "tcp") -> Address:
        found = next(a for a in node.addresses if a.transport == transport)
        return Address(found.transport, found.host, found.port, dict(found.parameters))

    @property
    def entries(self) -> tuple[ViewEntry, ...]:
        assert self.view is not None
        return self.view.entries

    @property
    def guard(self) -> ViewEntry:
        """The honest client's."""
        return next(e for e in self.entries if e.nickname == self._guard)

    @property
    def exits(self) -> list[ViewEntry]:
        return [e for e in self.entries if e.exit_policy]

    def path(self, exit_: ViewEntry) -> list[ViewEntry]:
        """Through the honest client's guard, so that both share it."""
        middle = next(e for e in self.entries if e.node_id not in (exit_.node_id, self.guard.node_id))
        return [self.guard if self.guard.node_id != exit_.node_id else middle, middle, exit_]

    async def circuit(self, link: GuardLink, path: list[ViewEntry]) -> ClientCircuit | None:
        watcher = Watcher()
        keys = [RelayKeys(e.node_id, e.onion_key) for e in path]
        circuit = ClientCircuit(link.out, link.new_circuit_id(), keys, self.genesis.network_id, os.urandom, watcher)
        circuit.endpoint.wake = lambda: link.touch(circuit)
        link.circuits[circuit.id] = circuit
        circuit.start()
        try:
            async with asyncio.timeout(10):
                return circuit if await watcher.built else None
        except TimeoutError:
            return None

    async def circuits(self, link: GuardLink, path: list[ViewEntry], count: int) -> list[ClientCircuit]:
        made = [await self.circuit(link, path) for _ in range(count)]
        return [c for c in made if c is not None]


async def forever() -> None:
    await asyncio.Event().wait()


async def streams_without_credit(a: Attacker) -> None:
    """Streams to a server that sends without end; the client gives no credit."""
    link = None
    while True:
        if link is None or not link.up:
            link = await a.link(a.path(a.exits[0])[0])
            opened = 0
        if opened < 3000:
            for circuit in await a.circuits(link, a.path(a.exits[opened // 250 % len(a.exits)]), 1):
                for _ in range(250):
                    stream = circuit.endpoint.open(target("127.0.0.1", a.web), Silent())
                    stream.write(b"GET /endless HTTP/1.1\r\n\r\n")
                    stream.take(False)
                opened += 250
                link.touch(circuit)
        await asyncio.sleep(0.5)


async def downloads_unread(a: Attacker) -> None:
    """Links whose TCP connection is not read any more while downloads come: the guard's gateway queues them."""
    while True:
        links = []
        for _ in range(8):
            link = await a.link(a.guard)
            links.append(link)
            for circuit in await a.circuits(link, a.path(a.exits[0]), 4):
                for _ in range(8):
                    stream = circuit.endpoint.open(target("127.0.0.1", a.web), Silent())
                    stream.write(b"GET /endless HTTP/1.1\r\n\r\n")
                link.touch(circuit)
            await asyncio.sleep(0.05)
            if link._driver is not None:
                link._driver.pause_reading()
        await asyncio.sleep(20)
        for link in links:
            link.close()


def descriptor(a: Attacker, key: IdentityKey, port: int) -> bytes:
    """A well-formed descriptor of a node that nobody reaches."""
    now = int(time.time())
    onion, link = LinkKey.generate(os.urandom).public, LinkKey.generate(os.urandom).public
    made = Descriptor(
        network_id=a.genesis.network_id, identity=key.public.raw, link_key=link, onion_key=onion,
        addresses=(NodeAddress("tcp", "127.0.0.1", port),), exit_policy="", bandwidth=1 << 20, family=(),
        nickname="x", software="x", mix="none", published=now, expires=now + 86_400,
    )  # fmt: skip
    return sign_descriptor(made, key).encoded


async def descriptors(a: Attacker) -> None:
    """New identities whose address takes connections and says nothing, to every directory."""
    server = await asyncio.start_server(lambda r, w: forever(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    links: list[GuardLink | None] = [None for _ in a.genesis.directories]
    while True:
        raw = encode_request(Publish(descriptor(a, IdentityKey.generate(os.urandom), port)))
        for i, card in enumerate(a.genesis.directories):
            link = links[i]
            if link is None or not link.up:
                link = links[i] = await a.link(card)
            try:
                await link.directory_call(raw)
            except Refused:
                links[i] = None
        await asyncio.sleep(0.02)


async def silent_names(a: Attacker) -> None:
    """Forty lookups a second at every exit, of names whose server never answers."""
    link = await a.link(a.path(a.exits[0])[0])
    number = 0
    circuits: dict[int, ClientCircuit | None] = {}
    while True:
        for i, exit_ in enumerate(a.exits):
            if not link.up:
                link, circuits = await a.link(a.path(exit_)[0]), {}
            circuit = circuits.get(i)
            if circuit is None or circuit.state.name != "OPEN":
                circuit = circuits[i] = await a.circuit(link, a.path(exit_))
            if circuit is None:
                continue
            for _ in range(20):
                number += 1
                try:
                    circuit.endpoint.open(target(f"x{number}-{os.getpid()}.silent.test", 0), Silent(), resolve=True)
                except Refused:
                    circuit.destroy()
                    break
            link.touch(circuit)
        await asyncio.sleep(0.5)


class _Held(asyncio.Protocol):
    def __init__(self) -> None:
        self.gone = asyncio.get_running_loop().create_future()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


async def silent_connections(a: Attacker) -> None:
    """Three hundred connections to the guard's port that say nothing, each opened again when it is closed."""
    where = a.address(a.guard)

    async def hold() -> None:
        while True:
            try:
                _, held = await asyncio.get_running_loop().create_connection(_Held, where.host, where.port)
                await held.gone
            except OSError:
                pass
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(300):
            tasks.create_task(hold())


async def creates(a: Attacker) -> None:
    """CREATEs with a wrong MAC from eight links to the guard: 4,000 a second in all."""
    keys = RelayKeys(a.guard.node_id, a.guard.onion_key)
    _, skin = client_start(keys, a.genesis.network_id, HopNumber(1), b"", os.urandom)

    async def flood() -> None:
        link = await a.link(a.guard)
        while True:
            if not link.up:
                link = await a.link(a.guard)
            out = [
                encode_cell(
                    link.new_circuit_id(), Command.CREATE, encode_create(1, skin[:64] + os.urandom(32) + skin[96:])
                )
                for _ in range(25)
            ]
            link._send(b"".join(out))
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(flood())


async def requests(a: Attacker) -> None:
    """Whole views asked for by links with made-up keys, a new key for each: as often as they are answered."""
    card = a.genesis.directories[0]
    ask = encode_request(GetView(0))

    class Owner:
        def __init__(self) -> None:
            self.ready, self.answered = asyncio.Event(), asyncio.Semaphore(8)

        def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None:
            self.ready.set()

        def link_directory(self, driver: LinkDriver, message: object) -> None:
            self.answered.release()

        def link_cells(self, driver: LinkDriver, cells: object) -> None: ...

        def link_overflow(self, driver: LinkDriver, circuit: bytes) -> None: ...

        def link_closed(self, driver: LinkDriver) -> None:
            self.ready.set()

        def link_released(self, driver: LinkDriver) -> None: ...

    async def one() -> None:
        transport = make("tcp")
        while True:
            owner = Owner()
            key = LinkKey.generate(os.urandom)
            machine = dial(a.genesis.network_id, card.node_id, card.link_key, key, os.urandom)
            driver = LinkDriver(machine, owner, os.urandom, incoming=False)
            try:
                async with asyncio.timeout(10):
                    await transport.dial(a.address(card), driver.attach, 10)
                    await owner.ready.wait()
                    for number in range(1, 40):
                        await owner.answered.acquire()
                        driver.send_directory(number, ask, answer=False)
                        await asyncio.sleep(0.01)
            except (TimeoutError, Refused, Malformed):
                pass
            driver.abort()
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(one())


async def pace(a: Attacker) -> None:
    """Circuits that ask an exit for the most cells a second, and links that ask for padding."""
    links = []
    for _ in range(10):
        link = await a.link(a.guard)
        links.append(link)
        if link._driver is not None:
            shape = Shape.parse_untrusted("constant:fixed:512")
            link._driver.shape(link._driver.shaped, shape)
    link = await a.link(a.path(a.exits[0])[0])
    held: list[ClientCircuit] = []
    while True:
        held = [c for c in held if c.state.name == "OPEN"]
        if len(held) < 16:
            for circuit in await a.circuits(link, a.path(a.exits[len(held) % len(a.exits)]), 1):
                circuit.ask_pace(1024)
                held.append(circuit)
                link.touch(circuit)
        if not link.up:
            link = await a.link(a.path(a.exits[0])[0])
        await asyncio.sleep(0.2)


async def initials(a: Attacker) -> None:
    """QUIC handshakes that are never finished: 200 a second to the guard's port, each from another local port."""
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

    where = a.address(a.guard, "quic")
    loop = asyncio.get_running_loop()
    while True:
        for _ in range(10):
            quic = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=["h3"]))
            quic.connect((where.host, where.port), now=loop.time())
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=(SOURCE, 0), remote_addr=(where.host, where.port)
            )
            for data, _ in quic.datagrams_to_send(now=loop.time()):
                transport.sendto(data)
            transport.close()
        await asyncio.sleep(0.05)


ATTACKS: dict[str, Attack] = {
    "streams-without-credit": streams_without_credit,
    "downloads-unread": downloads_unread,
    "descriptors": descriptors,
    "silent-names": silent_names,
    "silent-connections": silent_connections,
    "creates": creates,
    "requests": requests,
    "pace": pace,
    "initials": initials,
}


def from_source(loop: asyncio.AbstractEventLoop) -> None:
    """Every TCP connection of this process leaves from `SOURCE`."""
    real = loop.create_connection

    def bound(*args: Any, **kwargs: Any) -> Any:
        if "sock" not in kwargs:
            kwargs.setdefault("local_addr", (SOURCE, 0))
        return real(*args, **kwargs)

    loop.create_connection = bound  # type: ignore[method-assign]


async def run(name: str, attacker: Attacker) -> None:
    from_source(asyncio.get_running_loop())
    await attacker.begin()
    while True:
        try:
            await ATTACKS[name](attacker)
        except* (Refused, OSError, TimeoutError) as group:
            print(f"{name}: begins again after {group.exceptions[0]!r}", file=sys.stderr)
        await asyncio.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("--genesis", type=Path, required=True)
    parser.add_argument("--guard", required=True)
    parser.add_argument("--web", type=int, required=True)
    given = parser.parse_args()
    os.nice(10)  # it shares two processors with all of the network
    asyncio.run(run(given.name, Attacker(load_genesis(given.genesis), given.guard, given.web)))


if __name__ == "__main__":
    main()
