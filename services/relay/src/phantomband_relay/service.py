"""The relay: drives the circuit machine between the gateway's lane and the mixer's, with its worker and its exit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from phantomband.core.cell import CELL_BYTES
from phantomband.core.circuit.batch import decode_untrusted, encode
from phantomband.core.circuit.relay import KEEPALIVE_SECONDS, RelayMachine
from phantomband.core.circuit.relay_types import HandshakeJob
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Bug, Malformed, UserError
from phantomband.core.handshake.ntor import CircuitKeys, Responder
from phantomband.core.ids import LinkId, NodeId
from phantomband.core.netdir.exit_policy import ExitPolicy
from phantomband.proto import relay_pb2, relay_pb2_grpc
from phantomband.runtime import frames
from phantomband.runtime.contained import Contained
from phantomband.runtime.contained_edges import handler, watch_callbacks
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import HIGH_WATER, Driver, LanePeer, LaneReceiver
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.outgoing import MAX_BUFFERED
from phantomband.runtime.lane.server import SERVICE_NAME, LaneServer
from phantomband.runtime.memory_budget import MemoryBudget
from phantomband.runtime.memory_limit import held_bytes
from phantomband.runtime.replay_file import ReplayFile
from phantomband.runtime.service import PartLost, Service, new_incarnation, quiet

from phantomband_relay.capacity import Capacity
from phantomband_relay.exit import Exit, ExitRules
from phantomband_relay.loops import Loops
from phantomband_relay.names import Cares, Names
from phantomband_relay.neighbours import Neighbours
from phantomband_relay.onion_keys import KeyRing
from phantomband_relay.worker import Handshakes

EXIT_HOP = 3
"""Outside test networks streams are served on circuits of three hops or more, whoever asks."""

USUAL_HOPS = 3
"""Where our circuits' ends are, as far as we can know; their mixing is taken to be like ours."""

LOOK_SECONDS = 5.0
"""Longest time between looks at the clock for a turn of the onion keys: system clocks are set."""

SLOTS_AGAIN_SECONDS = 0.1
"""After a fault of ours in a slot, the next is looked for then."""

OUTBOX_CELLS = MAX_BUFFERED // CELL_BYTES
"""What waits here while the mixer takes nothing: 64 MiB, as much as makes a lane break off. Windows bound each circuit
only, and a mixer that is stuck would make us hold those of all."""

LINK_WAIT_SECONDS = 2.0
"""The gateway's word that a link is up may come on the lane a little after its answer."""


@dataclass(frozen=True, slots=True)
class RelayParts:
    """What the relay is made of; collaborators arrive here."""

    sockets: Path
    gateway: str
    mixer: str
    directory: str
    driver: Driver
    ring: KeyRing
    responder: Responder
    capacity: Capacity
    worker: socket.socket
    rules: ExitRules
    random: RandomSource
    node_id: NodeId
    network_id: bytes
    loop_seconds: float = 0.0
    """Mean time between the relay's own loops; 0: none."""
    mixing: float = 0.0
    """Seconds that a cell waits on average in this node's mixer."""
    exit_hop: int = 1
    """The first hop of a circuit that streams are served at: `EXIT_HOP`, and 1 in a test network."""
    replay: ReplayFile | None = None
    """Where the responder's replay memory is kept."""
    memory_bytes: int = 0
    """What the whole process may take; 0: as much as its control group lets it."""


class RelayService(Service):
    """One relay."""

    name = "relay"

    def __init__(self, parts: RelayParts) -> None:
        self.incarnation = new_incarnation()
        self.contained = Contained()
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._neighbours = Neighbours(parts.gateway, parts.directory)
        self.budget = MemoryBudget(held_bytes(parts.memory_bytes), bug=self.contained.bug)
        self.exit = Exit(
            parts.rules, self.contained.spawn, Names(Cares()), self.budget, is_link=self._neighbours.is_link
        )
        acceptor = self.exit.circuit if parts.rules.policy.is_exit else None
        self.machine = RelayMachine(self, acceptor, mixing=2 * USUAL_HOPS * parts.mixing, exit_hop=parts.exit_hop)
        self._handshakes = Handshakes(
            parts.worker, self._handshake_done, self._worker_died, parts.ring.keys.accepted, self.contained,
            wanted=self.machine.handshake_wanted,
        )  # fmt: skip
        self._lanes = LaneServer(self.name, self.incarnation, self._accept_lane, parts.sockets, parts.random)
        me = LanePeer(self.name, self.incarnation)
        self._mixer = LaneClient(parts.mixer, me, parts.driver, lambda _: self.wake(), self._mixer_down)
        self._loops = Loops(
            parts.node_id, parts.network_id, self.machine, self._neighbours, parts.random, parts.loop_seconds,
            self.contained,
        )  # fmt: skip
        self._links_awaited: dict[LinkId, asyncio.Event] = {}
        self._slots: asyncio.TimerHandle | None = None
        self._flushing = False
        self._draining = False
        self._frames = self._frames_out = 0
        self.key_turns = self.key_turns_failed = self._handshakes_refused = 0
        self._dead = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> list[str]:
        self._lanes.add_to(server)
        relay_pb2_grpc.add_RelayServicer_to_server(_Rpc(self._parts, self.contained), server)
        return [SERVICE_NAME, relay_pb2.DESCRIPTOR.services_by_name["Relay"].full_name]

    async def run(self, ready: Callable[[], None]) -> None:
        watch_callbacks(self.contained)
        keep = self.contained.keep
        try:
            async with asyncio.TaskGroup() as tasks:
                self.contained.start(tasks)
                tasks.create_task(keep(self._mixer.run))
                tasks.create_task(keep(self._neighbours.watch_view))
                tasks.create_task(keep(self._keepalive))
                tasks.create_task(keep(self._turn_keys))
                tasks.create_task(keep(self._parts.capacity.run))
                if self._parts.replay is not None:
                    tasks.create_task(keep(self._parts.replay.run))
                if self._parts.loop_seconds:
                    tasks.create_task(keep(lambda: self._loops.run(self._link_known)))
                await self._mixer.wait_up()
                ready()
                await self._dead.wait()
                raise PartLost("the handshake worker died")
        finally:
            self._parts.capacity.save()
            if self._parts.replay is not None:
                self._parts.replay.save()
            self.exit.close()
            self._handshakes.close()
            await self._lanes.close()

    async def _keepalive(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_SECONDS)
            self.machine.keepalive()

    async def _turn_keys(self) -> None:
        """Turns the onion keys whenever a period begins, until cancelled; the worker learns of it in order."""
        ring = self._parts.ring
        while True:
            try:
                view = self._neighbours.view
                if ring.turn(None if view is None else view.epoch):
                    self.key_turns += 1
                    self._parts.responder.accept(ring.keys.accepted)
                    self._handshakes.accept(ring.keys.accepted)
            except UserError:
                self.key_turns_failed += 1  # the disk may be full: the keys serve on, and it is tried again
            await asyncio.sleep(min(LOOK_SECONDS, ring.until_turn() + 0.001))

    async def drain(self) -> None:
        """Takes no new circuits; goes on while those that are there carry cells."""
        self._draining = True
        await quiet(lambda: self._frames + self._frames_out)

    def status(self) -> Mapping[str, float]:
        counters, out = self.machine.counters, self.exit.counters
        return {
            "circuits": self.machine.circuit_count,
            "circuits_made": counters.circuits_made,
            "circuits_destroyed": counters.circuits_destroyed,
            "circuits_refused": counters.circuits_refused,
            "malformed": counters.malformed,
            "bugs": counters.bugs + self.contained.bugs,
            "stray_cells": counters.stray,
            "handshakes_waiting": self._handshakes.waiting,
            "handshakes_refused": self._handshakes_refused,
            "key_turns": self.key_turns,
            "key_turns_failed": self.key_turns_failed,
            "capacity": self._parts.capacity.most,
            "exit_streams": len(self.exit.open),
            "exit_opened": out.opened,
            "exit_refused": out.refused,
            "exit_failed": out.failed,
            "exit_shed": out.shed,
            "exit_lookups": self.exit.names.under_way,
            "exit_lookups_waiting": self.exit.names.waiting,
            "held_bytes": self.budget.used,
            "exit_bytes_in": out.bytes_in,
            "exit_bytes_out": out.bytes_out,
            "frames": self._frames,
            "frames_out": self._frames_out,
            "loops_returned": self._loops.measures.returned,
            "loops_lost": self._loops.measures.lost,
            "view_nodes": self._neighbours.known,
            "lane_up": float(self._mixer.up),
            "lane_buffered_bytes": self._mixer.buffered,
        }

    # ---- cells -------------------------------------------------------------------------------------------------

    def _accept_lane(self, peer: LanePeer) -> LaneReceiver:
        return _FromGateway(self)

    def cells(self, payload: memoryview) -> None:
        """One CELLS frame of the gateway."""
        self._frames += 1
        self._parts.capacity.came(len(payload))
        data = bytes(payload)
        now = self._loop.time()
        for link, at, count in decode_untrusted(data):
            self.machine.cells(link, data, at, count, now)

    def wake(self) -> None:
        """Flushes once the frames that are ready now have been handled: so batches form under load, none when idle."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self.contained.call(self._flush_now)

    def _flush_now(self) -> None:
        machine = self.machine
        if not self._mixer.up:
            if machine.outbox.cells > OUTBOX_CELLS:
                self._mixer_down()
            return  # what new circuits answer meanwhile goes out when the mixer is back: see _mixer_down
        if self._mixer.buffered > HIGH_WATER:
            if machine.outbox.cells > OUTBOX_CELLS:
                self._mixer.break_off()
                return
            self._flushing = True
            self._loop.call_later(0.002, self._flush)
            return
        machine.flush(self._loop.time())
        for parts in encode(machine.outbox.drain()):
            self._frames_out += 1
            self._parts.capacity.went(sum(map(len, parts)))
            self._mixer.send(Frame.CELLS, parts)

    # ---- links -------------------------------------------------------------------------------------------------

    def link_up(self, payload: bytes) -> None:
        link, dialed, key, network = frames.read_link_up(payload)
        first_id = int.from_bytes(self._parts.random(4), "big") >> 2
        self.machine.link_up(link, dialed, first_id, self._source(dialed, key, network))
        awaited = self._links_awaited.pop(link, None)
        if awaited is not None:
            awaited.set()

    def _source(self, dialed: bool, key: bytes | None, network: int) -> Hashable:
        """Where a link comes from, which shares go by: each relay is one, others share that of their network. Keys that
        no view names do not count: anyone makes as many as they like."""
        if key is not None and (dialed or self._neighbours.is_relay(key)):
            return key
        return ("network", network) if network else None

    def gateway_down(self) -> None:
        """The gateway's lane broke: links and circuits are gone."""
        self.machine.reset(keep_links=False)

    def _mixer_down(self) -> None:
        self.contained.call(lambda: self.machine.reset(keep_links=True))

    def open_link(self, node: NodeId) -> None:
        self.contained.spawn(self._open_link(node), lambda: self.machine.link_ready(node, None))

    async def _open_link(self, node: NodeId) -> None:
        link = await self._neighbours.open_link(node)
        if link is not None:
            await self._link_known(link)
        self.machine.link_ready(node, link)

    async def _link_known(self, link: LinkId) -> None:
        """Waits until the gateway's lane has told of a link, for a while."""
        if self.machine.has_link(link):
            return
        event = self._links_awaited.setdefault(link, asyncio.Event())
        try:
            async with asyncio.timeout(LINK_WAIT_SECONDS):
                await event.wait()
        except TimeoutError:
            self._links_awaited.pop(link, None)

    def slots_at(self, when: float) -> None:
        if self._slots is not None:
            self._slots.cancel()
        self._slots = self._loop.call_at(when, self._run_slots)

    def _run_slots(self) -> None:
        self._slots = None
        now = self._loop.time()
        self.contained.call(lambda: self.machine.slots(now), lambda: self.slots_at(now + SLOTS_AGAIN_SECONDS))

    def close_link(self, link: LinkId) -> None:
        self.contained.spawn(self._neighbours.close_link(link))

    # ---- handshakes ----------------------------------------------------------------------------------------------

    def handshake(self, job: HandshakeJob) -> None:
        if self._draining:
            self._handshake_done(job, None, None)
            return
        try:
            self._parts.responder.admit(job.onion_skin, job.hop)
        except Malformed:
            self._handshakes_refused += 1
            self._handshake_done(job, None, None)
            return
        self._handshakes.submit(job)

    def _handshake_done(self, job: HandshakeJob, reply: bytes | None, keys: CircuitKeys | None) -> None:
        if reply is not None:
            try:
                self._parts.responder.remember(job.onion_skin)
            except Malformed:
                self._handshakes_refused += 1
                reply = keys = None
        self.machine.handshake_done(job, reply, keys)

    def _worker_died(self) -> None:
        self._dead.set()


class _FromGateway:
    """Receives the gateway's frames."""

    def __init__(self, service: RelayService) -> None:
        self._service = service

    def frame(self, kind: int, payload: memoryview) -> None:
        try:
            self._frame(kind, payload)
        except Exception as e:  # noqa: BLE001 - out of here it would end the lane, and with it every circuit
            self._service.contained.bug(e)

    def _frame(self, kind: int, payload: memoryview) -> None:
        service = self._service
        match kind:
            case Frame.CELLS:
                service.cells(payload)
            case Frame.LINK_UP:
                service.link_up(bytes(payload))
            case Frame.LINK_DOWN:
                service.machine.link_down(frames.read_link_down(bytes(payload)))
            case Frame.RESET:
                service.machine.reset(keep_links=True)
            case Frame.OVERFLOW:
                service.machine.overflow(*frames.read_overflow(bytes(payload)))
            case _:
                raise Bug(f"unknown frame {kind}")

    def down(self) -> None:
        self._service.contained.call(self._service.gateway_down)


class _Rpc(relay_pb2_grpc.RelayServicer):  # type: ignore[misc]
    def __init__(self, parts: RelayParts, contained: Contained) -> None:
        self._parts = parts
        self.contained = contained

    @handler
    async def Describe(self, request: Any, context: Any) -> Any:
        parts = self._parts
        policy: ExitPolicy = parts.rules.policy
        following = parts.ring.following
        return relay_pb2.RelayDescription(
            onion_key=parts.ring.named.public,
            exit_policy=policy.text(),
            next_onion_key=following.public if following is not None else b"",
            capacity=parts.capacity.most,
        )
