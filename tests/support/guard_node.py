"""A guard with the network behind it, in one process on a virtual clock: it writes down all that a client sends it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from fakes import FakeConnection
from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.relay_types import RelayLimits
from phantomband.core.crypto.kem import encapsulate_untrusted
from phantomband.core.dircall import DirectoryMessage
from phantomband.core.link import LinkKey, listen
from phantomband.core.shaping import Policy
from phantomband.runtime.link_driver import LinkDriver
from phantomband.transports.base import Accept, Address, Buffer, Connection, Listener, Transport
from world import CLIENT, NETWORK_ID, World

ONE_WAY_SECONDS = 0.01

KEY = LinkKey(b"g" * 32)


class BySize:
    """A random source with a stream for each size: what keys draw moves no waiting time."""

    def __init__(self, seed: int) -> None:
        self._seed, self._counts = seed, dict[int, int]()

    def __call__(self, size: int) -> bytes:
        count = self._counts[size] = self._counts.get(size, 0) + 1
        return hashlib.shake_256(f"{self._seed}/{size}/{count}".encode()).digest(size)


class _End(FakeConnection):
    """One end of a connection: what is written arrives at the other a little later."""

    def __init__(self, wrote: Callable[[int], None] = lambda size: None) -> None:
        super().__init__()
        self.peer: Any = None
        self._wrote = wrote

    def write(self, data: Buffer) -> None:
        self._wrote(len(data))
        asyncio.get_running_loop().call_later(ONE_WAY_SECONDS, self._arrive, bytes(data))

    def _arrive(self, data: bytes) -> None:
        if self.peer is not None and self.ended is None:
            self.peer.received(data)


class _Back:
    """The circuits of the world's client, all of them: what the relays send back goes over the link."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def get(self, circuit: bytes) -> _Back:
        return self

    def values(self) -> tuple[()]:
        return ()

    def cells(self, command: int, cell: bytes, at: int, count: int, now: float) -> None:
        self._send(cell)


class GuardNode(Transport):
    """The node r1 of a world of relays, and the transport that leads to it."""

    name = "pipe"

    def __init__(self, seed: int = 1, limits: RelayLimits | None = None) -> None:
        self.world = World(seed=seed, limits=limits)
        self.world.circuits = _Back(self._back)  # type: ignore[assignment]
        self.node_id = self.world.relays["r1"].node_id
        self.writes: list[tuple[float, int]] = []
        """(seconds, bytes) of every write of the client's links."""
        self.cells: list[tuple[float, bytes, int]] = []
        """(seconds, circuit, command) of every cell that came for a circuit."""
        self.asked: list[tuple[float, int]] = []
        """(seconds, bytes) of every question to the directory."""
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._driver: LinkDriver | None = None

    # ---- the transport -------------------------------------------------------------------------------------------

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        machine = listen(NETWORK_ID, self.node_id, KEY, self.world.random, encapsulate_untrusted)
        ours, theirs = _End(), _End(lambda size: self.writes.append((self._now(), size)))
        self._driver = LinkDriver(machine, self, self.world.random, incoming=True, policy=Policy(max_rate=512))
        theirs.peer = self._driver.attach(ours)
        ours.peer = accept(theirs)
        return theirs

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        raise NotImplementedError

    def parameters(self) -> dict[str, str]:
        return {}

    def path(self) -> tuple[Any, ...]:
        """Through all relays, as a view has them."""
        return tuple(
            SimpleNamespace(
                node_id=r.node_id, onion_key=r.key.public, mix="none", padding="off",
                policy=SimpleNamespace(is_exit=True, allows=lambda *_: True, might_allow_port=lambda *_: True),
            )
            for r in self.world.relays.values()
        )  # fmt: skip

    # ---- the owner of the link -----------------------------------------------------------------------------------

    def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None: ...

    def link_cells(self, driver: LinkDriver, cells: bytearray | bytes) -> None:
        for at in range(0, len(cells), CELL_BYTES):
            cell = bytes(cells[at : at + CELL_BYTES])
            self.cells.append((self._now(), cell[:4], cell[4]))
            self.world.inject(CLIENT, "r1", cell)
        self._turn()

    def link_directory(self, driver: LinkDriver, message: DirectoryMessage) -> None:
        self.asked.append((self._now(), len(message.data)))
        driver.send_directory(message.request, b"nothing newer", answer=True)

    def link_overflow(self, driver: LinkDriver, circuit: bytes) -> None: ...

    def link_closed(self, driver: LinkDriver) -> None: ...

    def link_released(self, driver: LinkDriver) -> None: ...

    # ---- the world behind it -------------------------------------------------------------------------------------

    def _back(self, cell: bytes) -> None:
        if self._driver is not None:
            self._driver.send(cell)

    def _now(self) -> float:
        return round(self._loop.time() - self._begun, 6)

    def _turn(self) -> None:
        self.world.now = self._loop.time()
        self.world.run()
        for relay in self.world.relays.values():
            if relay.slots_due is not None:
                due, relay.slots_due = relay.slots_due, None
                self._loop.call_at(due, self._slots, relay)

    def _slots(self, relay: Any) -> None:
        relay.machine.slots(self._loop.time())
        self._turn()
