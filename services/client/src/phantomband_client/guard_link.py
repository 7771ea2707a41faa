"""The client's one link: dials a node by a transport, carries circuits and directory requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from phantomband.core.cell import CELL_BYTES, CIRCUIT_ID_BYTES, HEADER_BYTES, LINK_CIRCUIT, Command
from phantomband.core.circuit.client import CircuitState, ClientCircuit
from phantomband.core.circuit.outbox import Outbox
from phantomband.core.circuit.paced import PacedCircuits
from phantomband.core.circuit.relay import KEEPALIVE_SECONDS
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.dircall import DirectoryMessage
from phantomband.core.errors import Malformed, Refused
from phantomband.core.ids import CircuitId, LinkId, NodeId
from phantomband.core.link import dial
from phantomband.core.profiles import FAST, Profile
from phantomband.core.shaping import Mode, Shape
from phantomband.core.wire import u32
from phantomband.runtime.contained import Contained
from phantomband.runtime.link_driver import LinkDriver
from phantomband.transports.base import Address, Transport

from phantomband_client.cover import Cover

DIAL_SECONDS = 15.0
CALL_SECONDS = 15.0
LARGEST_ANSWER_BYTES = 4 * 1024 * 1024
"""Of a directory; a link with a fixed rate gets the time that it needs for it."""

_LINK = LinkId(1)
DESTROY_LINK = LINK_CIRCUIT + bytes((Command.DESTROY,))
"""Header of the cell that says that every circuit of the link is dead."""


class GuardLink:
    """An established link to one node, anonymous on our side (Noise NK)."""

    def __init__(
        self,
        node_id: NodeId,
        on_closed: Callable[[GuardLink], None],
        random: RandomSource,
        profile: Profile = FAST,
        *,
        cover: bool = False,
        contained: Contained | None = None,
    ) -> None:
        """Args:

        cover: whether dummies and loops go over circuits; else dummies are the link's PAD cells.
        contained: counts faults of ours that end a circuit.
        """
        self.node_id = node_id
        self.profile = profile
        self.circuits: dict[bytes, ClientCircuit] = {}
        self.up = False
        self.resetting = False
        """Whether the node says just now that every circuit of the link is dead."""
        self.transport = ""
        """By which it was dialled."""
        self.link_key = b""
        """Which the node has proved, 32 bytes."""
        self._contained = contained or Contained()
        self._loop = asyncio.get_running_loop()
        self._on_closed = on_closed
        self._outbox = Outbox(self.wake)
        self.out = self._outbox.link(_LINK)
        self._driver: LinkDriver | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ready.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._touched: dict[ClientCircuit, None] = {}
        self._random = random
        self._cover = Cover(self.circuits, random) if cover else None
        self._paced: PacedCircuits[ClientCircuit] = PacedCircuits(profile.pace * profile.max_circuits)
        self._timer: asyncio.TimerHandle | None = None
        self._loop_timer: asyncio.TimerHandle | None = None
        self._slots: asyncio.TimerHandle | None = None
        self._flushing = False
        self._last_circuit = 0
        self._last_call = 0

    async def dial(self, network_id: bytes, link_key: bytes, address: Address, transport: Transport) -> None:
        """Connects.

        Raises:
            Refused: the address does not answer, or the node does not pad as the profile asks.
        """
        machine = dial(network_id, self.node_id, link_key, None, self._random)
        self._driver = LinkDriver(
            machine, self, self._random, incoming=False, fill=self._fill, slowness=transport.slowness
        )
        self.transport, self.link_key = address.transport, link_key
        seconds = DIAL_SECONDS + transport.slowness
        try:
            async with asyncio.timeout(seconds):
                await transport.dial(address, self._driver.attach, seconds)
                await self._ready
        except TimeoutError:
            self._driver.abort()
            raise transport.explained(Refused(f"no link within {seconds:g} seconds")) from None
        except Refused as e:
            established = self._driver.established
            self._driver.abort()
            raise e if established else transport.explained(e) from e.__cause__
        except BaseException:
            self._driver.abort()
            raise

    @property
    def bugs(self) -> int:
        """Faults of ours: anything but zero is to be reported."""
        return self._contained.bugs

    @property
    def padding_sent(self) -> int:
        """Cells that were sent to fill slots."""
        return self._driver.padding_sent if self._driver is not None else 0

    @property
    def streams(self) -> int:
        """Open on its circuits."""
        return sum(len(circuit.endpoint.streams) for circuit in self.circuits.values())

    @property
    def building(self) -> int:
        """Circuits that are not open yet."""
        return sum(circuit.state is CircuitState.BUILDING for circuit in self.circuits.values())

    @property
    def unanswered(self) -> float:
        """Seconds since something came, if something was sent since; else 0."""
        return self._driver.unanswered if self._driver is not None else 0.0

    async def answer_time(self, request: bytes, patience: float) -> float | None:
        """Seconds until the directory behind this link answers; None: not within `patience`, or the link went down."""
        begun = self._loop.time()
        try:
            async with asyncio.timeout(patience):
                await self.directory_call(request)
        except (Refused, TimeoutError):
            return None
        return self._loop.time() - begun

    def close(self) -> None:
        if self._driver is not None:
            self._driver.abort()

    # ---- circuits ------------------------------------------------------------------------------------------------

    def new_circuit_id(self) -> CircuitId:
        """A dialer's ids have the top bit clear; none is used twice on one link."""
        self._last_circuit += 1
        return CircuitId(u32(self._last_circuit))

    def pace(self, circuit: ClientCircuit, rate: int) -> None:
        """From now on this circuit sends `rate` cells a second, whatever it has to say."""
        self._paced.set(circuit, rate, self._loop.time())
        circuit.endpoint.pace(True)
        self._await_slots()

    def forget(self, circuit: ClientCircuit) -> None:
        """The circuit is gone."""
        self.circuits.pop(circuit.id, None)
        self._paced.remove(circuit)

    def wake(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def touch(self, circuit: ClientCircuit) -> None:
        """This circuit has something to pump."""
        self._touched[circuit] = None
        self.wake()

    def _flush(self) -> None:
        self._flushing = False
        self._pump()
        if cells := self._drained():
            self._send(cells)

    def _pump(self) -> None:
        """Hands on what came, and seals what windows allow."""
        touched, self._touched = self._touched, {}
        now = self._loop.time()
        for circuit in touched:
            try:
                circuit.endpoint.deliver()
                circuit.endpoint.pump(now)
            except Exception as e:  # noqa: BLE001 - a fault of ours in one circuit must not stall the others of this batch
                self._contained.bug(e)
                circuit.destroy()

    def _send(self, cells: bytes) -> None:
        if self._driver is not None:
            self._driver.send(cells)

    def _drained(self) -> bytes:
        """The cells that wait, taken."""
        return b"".join(b"".join(parts) for _, _, parts in self._outbox.drain())

    # ---- cover ---------------------------------------------------------------------------------------------------

    def _fill(self, count: int) -> bytes:
        """Cells for a slot in which nothing waits. Paced circuits have their own dummies; this end then sends PAD."""
        self._pump()
        cells, room = self._drained(), count * CELL_BYTES
        if len(cells) > room:
            self._send(cells[room:])
        elif self._cover is not None and not self.profile.pace:
            self._cover.add(count - len(cells) // CELL_BYTES, self._loop.time())
            cells += self._drained()
        return cells[:room]

    def _loop_now(self) -> None:
        """A loop now and then on a link that sends no dummies."""
        if not self.up or self._cover is None:
            return
        self._loop_timer = self._loop.call_later(self._cover.until_loop(), self._loop_now)
        circuit = self._cover.loop(self._loop.time())
        if circuit is not None:
            self.touch(circuit)

    def _await_slots(self) -> None:
        if self._slots is not None:
            self._slots.cancel()
        deadline = self._paced.deadline
        self._slots = self._loop.call_at(deadline, self._send_slots) if deadline is not None else None

    def _send_slots(self) -> None:
        now = self._loop.time()
        for circuit, cells in self._paced.due(now):
            try:
                circuit.slot(now, cells, loop=self._cover is not None and self._cover.is_loop())
            except Malformed:
                circuit.destroy()
            except Exception as e:  # noqa: BLE001 - as in _pump: the slots of the other circuits must go on
                self._contained.bug(e)
                circuit.destroy()
        self._await_slots()

    # ---- directory -----------------------------------------------------------------------------------------------

    async def directory_call(self, request: bytes) -> bytes:
        """The answer of the directory service behind this link.

        Raises:
            Refused: the link went down, or no answer in time.
        """
        if self._driver is None or not self.up:
            raise Refused("the link is down")
        self._last_call += 1
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._calls[self._last_call] = future
        number = self._last_call
        self._driver.send_directory(number, request, answer=False)
        try:
            slowest = self.profile.most_bytes_a_second if self.profile.pace else None
            async with asyncio.timeout(CALL_SECONDS + (LARGEST_ANSWER_BYTES / slowest if slowest else 0.0)):
                return await future
        except TimeoutError:
            raise Refused("the node's directory does not answer") from None
        finally:
            del self._calls[number]

    # ---- LinkOwner -----------------------------------------------------------------------------------------------

    def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None:
        self.up = True
        self._timer = self._loop.call_later(KEEPALIVE_SECONDS, self._keepalive)
        if self.profile.link.mode is not Mode.OFF:
            driver.shape(self.profile.link, self.profile.link, self._shaped)
            return
        if self._cover is not None:
            self._loop_timer = self._loop.call_later(self._cover.until_loop(), self._loop_now)
        if not self._ready.done():
            self._ready.set_result(None)

    def _shaped(self, answer: Shape) -> None:
        """The guard said how it paces what it sends us: nothing weaker than the profile is used."""
        if self._ready.done():
            return
        wanted = self.profile.link
        if answer.mode < wanted.mode or answer.rate < wanted.rate:
            self._ready.set_exception(Refused(f"the guard does not pad as the profile {self.profile.name} asks"))
        else:
            self._ready.set_result(None)

    def _keepalive(self) -> None:
        """A DROP on every circuit that carries streams: a cell lost on the way is noticed by the next one.

        On a padded link every circuit gets one, so that it does not tell which carry streams. Paced ones send anyway.
        """
        if not self.up:
            return
        self._timer = self._loop.call_later(KEEPALIVE_SECONDS, self._keepalive)
        padded = self.profile.link.mode is not Mode.OFF
        for circuit in list(self.circuits.values()):
            carries = padded or circuit.endpoint.streams
            if circuit.state is CircuitState.OPEN and carries and not circuit.endpoint.paced:
                self._contained.call(partial(circuit.send_drop, len(circuit.path)), circuit.destroy)
                self.touch(circuit)

    def link_cells(self, driver: LinkDriver, cells: bytearray | bytes) -> None:
        data = bytes(cells)
        now = self._loop.time()
        circuits = self.circuits
        at, end = 0, len(data)
        while at < end:
            header, first = data[at : at + HEADER_BYTES], at
            at += CELL_BYTES
            while at < end and data[at : at + HEADER_BYTES] == header:
                at += CELL_BYTES
            circuit = circuits.get(header[:CIRCUIT_ID_BYTES])
            if circuit is not None:
                self._touched[circuit] = None
                try:
                    circuit.cells(header[CIRCUIT_ID_BYTES], data, first, (at - first) // CELL_BYTES, now)
                except Exception as e:  # noqa: BLE001 - what one hop sends must not end the link with all circuits
                    self._contained.bug(e)
                    circuit.destroy()
            elif header == DESTROY_LINK:
                self._reset()
        self.wake()

    def _reset(self) -> None:
        self.resetting = True
        try:
            for lost in list(self.circuits.values()):
                lost.destroy()
        finally:
            self.resetting = False

    def link_directory(self, driver: LinkDriver, message: DirectoryMessage) -> None:
        future = self._calls.get(message.request)
        if message.answer and future is not None and not future.done():
            future.set_result(message.data)

    def link_overflow(self, driver: LinkDriver, circuit: bytes) -> None:
        if (owner := self.circuits.get(circuit)) is not None:
            owner.destroy()

    def link_closed(self, driver: LinkDriver) -> None:
        if driver is not self._driver:
            return
        was_up, self.up = self.up, False
        for timer in (self._timer, self._loop_timer, self._slots):
            if timer is not None:
                timer.cancel()
        if not self._ready.done():
            self._ready.set_exception(Refused("the link's handshake failed"))
        for future in self._calls.values():
            if not future.done():
                future.set_exception(Refused("the link went down"))
        self._lose_circuits()
        if was_up:
            self._on_closed(self)

    def link_released(self, driver: LinkDriver) -> None:
        """Nothing is counted here."""

    def _lose_circuits(self) -> None:
        for circuit in list(self.circuits.values()):
            circuit.lost()
        self.circuits.clear()
