"""The gateway: transports and links of a node, between the network and the node's relay, mixer and directory.

Cells go network -> relay over one lane and mixer -> network over another. When either lane breaks, cells are lost: the
gateway tells every peer at once that all circuits of its links are dead (PROTOCOL.md section 6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc.aio
from phantomband.core.cell import CELL_BYTES, CIRCUIT_ID_BYTES, Command, split
from phantomband.core.circuit.batch import MAX_CELLS, decode_untrusted, encode_run
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.dircall import DirectoryMessage
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.link import LinkKey
from phantomband.core.shaping import Mode, Policy
from phantomband.proto import gateway_pb2, gateway_pb2_grpc
from phantomband.runtime import frames
from phantomband.runtime.contained import Contained
from phantomband.runtime.contained_edges import watch_callbacks
from phantomband.runtime.egress import UNCHARGED_BYTES
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import HIGH_WATER, Buffer, Driver, LanePeer, LaneReceiver
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.server import SERVICE_NAME, LaneServer
from phantomband.runtime.link_driver import DESTROY_ALL, UNPACED, LinkDriver
from phantomband.runtime.memory_budget import MemoryBudget
from phantomband.runtime.memory_limit import held_bytes
from phantomband.runtime.replay_file import ReplayFile
from phantomband.runtime.service import Service, new_incarnation, quiet
from phantomband.transports.base import Address, Transport

from phantomband_gateway.directory_calls import DirectoryCalls
from phantomband_gateway.links import Links
from phantomband_gateway.paddings import Paddings
from phantomband_gateway.rpc import GatewayRpc

PAUSE_ALL_BYTES = 4 * HIGH_WATER
"""Bytes that wait for the relay above which no link is read any more: each link is paused when it brings more than
the relay takes, but thousands of them could together reach the bound at which the lane breaks off (64 MiB)."""

SILENT = bytes((Command.PAD, Command.DESTROY))
"""Commands that ask for no answer: two gateways whose relays are away must not answer each other for ever."""


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What the gateway is made of; collaborators arrive here."""

    sockets: Path
    relay: str
    directory: str
    driver: Driver
    network_id: bytes
    node_id: NodeId
    key: LinkKey
    transports: Mapping[str, Transport]
    listen: tuple[Address, ...]
    advertise: tuple[Address, ...]
    max_links: int
    max_pending: int
    random: RandomSource
    pacing: Policy = UNPACED
    listed: bool = True
    padding_total: int = 8192
    """Cells a second of padding for all dialers that ask."""
    replay: Path | None = None
    """File of the replay memory."""
    memory_bytes: int = 0
    """What the whole process may take; 0: as much as its control group lets it."""


class GatewayService(Service):
    """One gateway."""

    name = "gateway"

    def __init__(self, parts: GatewayParts) -> None:
        self.incarnation = new_incarnation()
        self.contained = Contained()
        self.budget = MemoryBudget(held_bytes(parts.memory_bytes), bug=self.contained.bug)
        self.paddings = Paddings(parts.padding_total)
        self._parts = parts
        self.links = Links(
            parts.network_id, parts.node_id, parts.key, parts.transports, parts.random, self,
            min(parts.max_links, self.budget.limit // UNCHARGED_BYTES), parts.max_pending, parts.pacing, parts.listed,
            contained=self.contained, budget=self.budget, paddings=self.paddings,
        )  # fmt: skip
        self.calls = DirectoryCalls(parts.directory, self.links, self.contained)
        self.addresses: tuple[Address, ...] = ()
        self._lanes = LaneServer(self.name, self.incarnation, self._accept_lane, parts.sockets, parts.random)
        me = LanePeer(self.name, self.incarnation)
        self._relay = LaneClient(parts.relay, me, parts.driver, self._relay_up, self._lane_down, self._relay_writable)
        self._mixer_up = False
        self._paused: set[LinkDriver] = set()
        self._in = self._moved = self._out = self._dropped = self._overflows = self._resets = self._padding = 0

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        self._lanes.add_to(server)
        gateway_pb2_grpc.add_GatewayServicer_to_server(GatewayRpc(self, self._parts.key.public), server)
        return [SERVICE_NAME, gateway_pb2.DESCRIPTOR.services_by_name["Gateway"].full_name]

    async def run(self, ready: Callable[[], None]) -> None:
        watch_callbacks(self.contained)
        async with AsyncExitStack() as stack:
            kept = ReplayFile(self._parts.replay, self.links.replay) if self._parts.replay is not None else None
            if kept is not None:
                stack.callback(kept.save)
            stack.push_async_callback(self._lanes.close)
            stack.callback(self.links.abort_all)
            bound = []
            for address in self._parts.listen:
                listener = await self._parts.transports[address.transport].listen(
                    address.host, address.port, partial(self.links.accept, transport=address.transport)
                )
                stack.push_async_callback(listener.close)
                bound.append((address, listener.port))
            self.addresses = advertised(self._parts.advertise, bound, self._parts.transports)
            async with asyncio.TaskGroup() as tasks:
                self.contained.start(tasks)
                self.calls.start()
                self.links.dialing.spawn = self.contained.spawn
                tasks.create_task(self.contained.keep(self._relay.run))
                if kept is not None:
                    tasks.create_task(self.contained.keep(kept.run))
                await self._relay.wait_up()
                ready()

    async def drain(self) -> None:
        """Takes no new links; goes on while those that are there carry cells."""
        self.links.max_pending = 0
        await quiet(lambda: self._moved + self._out)

    def status(self) -> Mapping[str, float]:
        return {
            "links": len(self.links.by_id),
            "links_pending": len(self.links.pending),
            "links_refused": self.links.refused,
            "links_evicted": self.links.evicted,
            "links_paced": sum(d.shaped.mode is not Mode.OFF for d in self.links.by_id.values()),
            "padding_given": self.paddings.rate,
            "cells_in": self._in,
            "cells_out": self._out,
            "cells_padding": self._padding + sum(d.padding_sent for d in self.links.by_id.values()),
            "cells_dropped": self._dropped,
            "cells_waiting": sum(d.waiting for d in self.links.by_id.values()),
            "circuits_given_up": self._overflows,
            "resets": self._resets,
            "lane_up": float(self._relay.up and self._mixer_up),
            "lane_buffered_bytes": self._relay.buffered,
            "held_bytes": self.budget.used,
            "held_limit_bytes": self.budget.limit,
            "shed": self.budget.shed,
            "bugs": self.contained.bugs,
        }

    # ---- network -> relay ----------------------------------------------------------------------------------------

    def link_established(self, driver: LinkDriver, peer_key: bytes | None) -> None:
        self._tell_up(self.links.established(driver, peer_key), driver)

    def _tell_up(self, link: LinkId, driver: LinkDriver) -> None:
        named = frames.link_up(link, not driver.incoming, self.links.peer_of(driver), self.links.source(driver))
        self._relay.send(Frame.LINK_UP, (named,))

    def link_cells(self, driver: LinkDriver, cells: bytearray | bytes) -> None:
        link = self.links.ids.get(driver)
        if link is None:
            return
        count = len(cells) // CELL_BYTES
        self._in += count
        self._moved += bool(cells[CIRCUIT_ID_BYTES::CELL_BYTES].strip(SILENT))
        if not self._relay.up or not self._mixer_up:
            self._dropped += count
            if cells[CIRCUIT_ID_BYTES::CELL_BYTES].strip(SILENT):
                driver.send(DESTROY_ALL)
            return
        for at in range(0, count, MAX_CELLS):
            part = cells if count <= MAX_CELLS else cells[at * CELL_BYTES : (at + MAX_CELLS) * CELL_BYTES]
            self._relay.send(Frame.CELLS, encode_run(link, part))
        if self._relay.buffered > HIGH_WATER:
            everyone = self._relay.buffered > PAUSE_ALL_BYTES
            for one in self.links.by_id.values() if everyone else (driver,):
                if one not in self._paused:
                    self._paused.add(one)
                    one.pause_reading()

    def _relay_writable(self) -> None:
        paused, self._paused = self._paused, set()
        for driver in paused:
            self._each(driver, driver.resume_reading)

    def _each(self, driver: LinkDriver, work: Callable[[], None]) -> None:
        """An error with one link ends that one, and keeps nothing from the others."""
        self.contained.call(work, driver.abort)

    def link_directory(self, driver: LinkDriver, message: DirectoryMessage) -> None:
        self.calls.message(driver, message)

    def link_overflow(self, driver: LinkDriver, circuit: bytes) -> None:
        self._overflows += 1
        link = self.links.ids.get(driver)
        if link is not None:
            self._relay.send(Frame.OVERFLOW, (frames.overflow(link, circuit),))

    def link_closed(self, driver: LinkDriver) -> None:
        link = self.links.closed(driver)
        self._padding += driver.padding_sent if link is not None else 0
        self._paused.discard(driver)
        self.calls.closed(driver)
        if link is not None:
            self._relay.send(Frame.LINK_DOWN, (frames.link_down(link),))

    def link_released(self, driver: LinkDriver) -> None:
        self.links.released(driver)

    # ---- mixer -> network ----------------------------------------------------------------------------------------

    def _accept_lane(self, peer: LanePeer) -> LaneReceiver:
        self._mixer_up = True
        return _FromMixer(self)

    def outgoing(self, payload: memoryview) -> None:
        """One CELLS frame of the mixer."""
        for link, at, count in decode_untrusted(payload):
            driver = self.links.by_id.get(link)
            if driver is None:
                self._dropped += count
            else:
                self._out += count
                cells: Buffer = payload[at : at + count * CELL_BYTES]
                if driver.waiting:
                    cells, _ = split(bytes(cells))  # a mixer's dummies are for links that have nothing else to send
                self._each(driver, partial(driver.send, cells))

    # ---- lanes ---------------------------------------------------------------------------------------------------

    def _relay_up(self, peer: LanePeer) -> None:
        for link, driver in self.links.by_id.items():
            self._tell_up(link, driver)

    def _lane_down(self) -> None:
        """The relay or the mixer is gone: every circuit of this node is dead, and every peer is told at once."""
        self._resets += 1
        self._relay_writable()
        for driver in list(self.links.by_id.values()):
            self._each(driver, driver.destroy_all)

    def mixer_down(self) -> None:
        """Our relay may not have seen it, when it is this lane alone that broke."""
        self._mixer_up = False
        self._relay.send(Frame.RESET, ())
        self._lane_down()

    def link_to_close(self, link: LinkId) -> None:
        driver = self.links.by_id.get(link)
        if driver is not None:
            driver.abort()


def advertised(
    configured: Sequence[Address], bound: Sequence[tuple[Address, int]], transports: Mapping[str, Transport]
) -> tuple[Address, ...]:
    """What others dial: what was configured, else what was bound, with the transports' parameters.

    Those of a configured address are stronger: a reverse proxy in front may have another name.
    """
    chosen = configured or [Address(a.transport, a.host, port) for a, port in bound]
    return tuple(replace(a, parameters={**transports[a.transport].parameters(), **a.parameters}) for a in chosen)


class _FromMixer:
    """Receives the mixer's frames."""

    def __init__(self, service: GatewayService) -> None:
        self._service = service

    def frame(self, kind: int, payload: memoryview) -> None:
        try:
            self._frame(kind, payload)
        except Exception as e:  # noqa: BLE001 - out of here it would end the lane, and with it every circuit
            self._service.contained.bug(e)

    def _frame(self, kind: int, payload: memoryview) -> None:
        match kind:
            case Frame.CELLS:
                self._service.outgoing(payload)
            case Frame.OVERFLOW:
                link, circuit = frames.read_overflow(bytes(payload))
                driver = self._service.links.by_id.get(link)
                if driver is not None:
                    self._service.link_overflow(driver, circuit)

    def down(self) -> None:
        self._service.contained.call(self._service.mixer_down)
