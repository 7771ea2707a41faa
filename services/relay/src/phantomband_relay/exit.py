"""Exit streams: whom this exit connects clients to, how much it carries for each, and what it holds for them.

Names are looked up here and nowhere else on the way (`names`). Private addresses are refused whatever the policy says,
unless the operator of a test network allows them; so are this machine's own addresses, behind which services may trust
it, and relays' link ports, where traffic would go round in the network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

from phantomband.core.netdir.address import IPAddress
from phantomband.core.netdir.exit_policy import ExitPolicy, is_private
from phantomband.core.stream.messages import Answer, EndReason, Kind, Target, is_name
from phantomband.core.stream.special_names import is_loopback_name, is_special_use
from phantomband.core.stream.stream import Stream, StreamHandler
from phantomband.runtime.memory_budget import MemoryBudget
from phantomband.runtime.splice import SocketStream

from phantomband_relay.connecting import MAX_ATTEMPTS, Route, in_order, open_socket, race, reason_of, route_to, shrink
from phantomband_relay.names import Asker, Names

ANSWER_TTL = 60
"""Seconds that clients may keep an answer. The DNS's own would tell when somebody else asked for the name."""

BEGINS_PER_SECOND = 200.0
BEGINS_BURST = 1000.0
"""Streams that one circuit may open; one more is refused with END(RESOURCE)."""

CONNECTION_BYTES = 64 * 1024
"""What a connection is counted as beside its bytes: the objects of its stream, and what the kernel's buffers hold."""

PAUSED_BYTES = 512 * 1024
"""... and while it is not read because too much waits: its target sends on until the kernel's buffer is full."""

HELD_RECEIVE_BYTES = 64 * 1024
"""What the kernel keeps for a connection whose circuit has too much waiting in all its streams; it books twice that."""

READ_RECEIVE_BYTES = 4 * 1024 * 1024
"""... and when it is read again; the system's own limit is often less."""

TARGET_BYTES = 32 * 1024 * 1024
"""Bytes of one circuit that its targets have not taken; over it the stream with most of them ends with RESOURCE."""

LOOPBACK = ("127.0.0.1", "::1")
"""What localhost is, to exits that may reach themselves (RFC 6761, section 6.3): no server is asked."""

Spawn = Callable[[Coroutine[Any, Any, None], Callable[[], None]], None]
"""Starts a task; the second argument ends what it was for, should it fail."""


@dataclass(frozen=True, slots=True)
class ExitRules:
    """What this exit connects to, and how much of it."""

    policy: ExitPolicy
    allow_private: bool
    max_connections: int
    connect_timeout: float
    own: frozenset[IPAddress] = frozenset()
    """Addresses of this node that may be no interface's, such as those advertised for it behind a translator."""

    def allows(self, address: str, port: int) -> bool:
        return self.may_know(address) and self.policy.allows(ipaddress.ip_address(address), port)

    def may_know(self, address: str) -> bool:
        """Whether clients may learn of this address or reach it: our own network is not theirs to explore."""
        ip = ipaddress.ip_address(address)
        return self.allow_private or not (is_private(ip) or ip in self.own)


@dataclass(slots=True)
class ExitCounters:
    opened: int = 0
    refused: int = 0
    failed: int = 0
    shed: int = 0
    """Streams that were ended because too much waited."""
    bytes_in: int = 0
    bytes_out: int = 0


class Exit:
    """All exit connections of a relay."""

    def __init__(
        self,
        rules: ExitRules,
        spawn: Spawn,
        names: Names,
        budget: MemoryBudget,
        is_link: Callable[[str, int], bool] = lambda address, port: False,
    ) -> None:
        """Args:
        spawn: starts a task owned by the service.
        is_link: whether some relay takes links at this address and port.
        """
        self.counters = ExitCounters()
        self.open: set[SocketStream] = set()
        self.rules = rules
        self.names = names
        self.budget = budget
        self._spawn = spawn
        self._is_link = is_link
        self._busy: set[SocketStream] = set()

    def close(self) -> None:
        """Nothing is looked up any more."""
        self.names.close()

    def circuit(self, source: Hashable = None) -> CircuitExit:
        """Who serves the streams of one new circuit. Args: source: the link that it came over."""
        return CircuitExit(self, source)

    def start(self, handler: ExitStream, work: Coroutine[Any, Any, None]) -> None:
        """Begins to connect or resolve for a stream."""
        self.open.add(handler)
        self._busy.add(handler)
        self._spawn(self._work(handler, work), lambda: handler.end(EndReason.INTERNAL))

    async def _work(self, handler: ExitStream, work: Coroutine[Any, Any, None]) -> None:
        """A connection that is being made counts as open, even if its stream has ended meanwhile."""
        try:
            await work
        finally:
            self._busy.discard(handler)
            if handler.gone:
                self._forget(handler)

    def closed(self, handler: ExitStream) -> None:
        """Neither its stream nor its connection is left."""
        if handler not in self._busy:
            self._forget(handler)
        self.counters.bytes_in += handler.bytes_in
        self.counters.bytes_out += handler.bytes_out

    def _forget(self, handler: ExitStream) -> None:
        self.open.discard(handler)
        handler.circuit.forget(handler)

    def room(self, held: int) -> bool:
        """Whether a circuit that has so many connections may have another: it may take half of those that are free,
        and the last eighth of the memory budget is for what connections hold, not for new ones.

        So circuits that take what they can leave room for those that come ("dynamic thresholds", Choudhury and Hahne,
        IEEE/ACM Transactions on Networking 6(2), 1998).
        """
        memory = (self.budget.limit - self.budget.limit // 8 - self.budget.used) // CONNECTION_BYTES
        free = min(self.rules.max_connections - len(self.open), memory)
        return free > 0 and held <= free // 2

    # ---- connecting ----------------------------------------------------------------------------------------------

    async def connect(self, stream: Stream, handler: ExitStream, target: Target) -> None:
        """Connects and answers the stream; whatever goes wrong is an END with its reason."""
        try:
            async with asyncio.timeout(self.rules.connect_timeout):
                reason = await self._connect(stream, handler, target)
        except TimeoutError:
            reason = EndReason.TIMEOUT
        except OSError as e:
            reason = reason_of(e)
        if reason is not None:
            self.counters.failed += 1
            handler.end(reason)

    async def _connect(self, stream: Stream, handler: ExitStream, target: Target) -> EndReason | None:
        addresses = await self._addresses(stream, handler.circuit.asker, target)
        if not addresses:
            return EndReason.RESOLVE_FAILED
        allowed = [a for a in addresses if self.rules.allows(a, target.port) and not self._is_link(a, target.port)]
        routes = {a: self._route(a) for a in in_order(allowed)[: 2 * MAX_ATTEMPTS]} if allowed else {}
        ways = [a for a, route in routes.items() if route is Route.OUT][:MAX_ATTEMPTS]
        if not ways:
            # What another exit may have, such as IPv6, is no fault of the target.
            return EndReason.RESOURCE if Route.NONE in routes.values() else EndReason.POLICY
        if not stream.open:
            return EndReason.DONE
        number, sock = await race([partial(self._open, address, target.port) for address in ways])
        if not stream.open:
            sock.close()
            return EndReason.DONE
        await self._attach(handler, sock)
        self.counters.opened += 1
        address = ways[number]
        stream.connected([Answer(_kind(address), address, ANSWER_TTL)])
        return None

    def _route(self, address: str) -> Route:
        """In a test network the whole network may be this machine."""
        route = route_to(address)
        return Route.OUT if route is Route.OWN and self.rules.allow_private else route

    @staticmethod
    async def _open(address: str, port: int) -> socket.socket:
        return await open_socket(address, port)

    @staticmethod
    async def _attach(handler: ExitStream, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: handler, sock=sock)
        except BaseException:
            sock.close()
            raise

    async def _addresses(self, stream: Stream, asker: Asker, target: Target) -> list[str]:
        if not target.is_name:
            return [target.host]
        return await self._look_up(stream, asker, target.host)

    async def _look_up(self, stream: Stream, asker: Asker, name: str) -> list[str]:
        """Addresses of a name; none if it has none, or is of special use: that is nobody's business but the asker's."""
        if is_loopback_name(name):
            return list(LOOPBACK)
        if is_special_use(name):
            return []
        return await self.names.addresses(asker, name, lambda: stream.open)

    # ---- resolving -----------------------------------------------------------------------------------------------

    async def resolve(self, stream: Stream, handler: ExitStream, target: Target) -> None:
        """Answers a RESOLVE: addresses of a name, or the name of an address."""
        ask = self._forward if target.is_name else self._reverse
        answers: list[Answer] = []
        try:
            async with asyncio.timeout(self.rules.connect_timeout):
                answers = await ask(stream, handler.circuit.asker, target.host)
        except TimeoutError:
            pass
        if answers:
            stream.resolved(answers)
        else:
            stream.end(EndReason.RESOLVE_FAILED)
        handler.ended(EndReason.DONE)

    async def _forward(self, stream: Stream, asker: Asker, name: str) -> list[Answer]:
        """IPv4 first: some programs take the first and can use no other."""
        addresses = [a for a in await self._look_up(stream, asker, name) if self.rules.may_know(a)]
        return [Answer(_kind(a), a, ANSWER_TTL) for a in sorted(addresses, key=lambda a: ":" in a)[:MAX_ATTEMPTS]]

    async def _reverse(self, stream: Stream, asker: Asker, address: str) -> list[Answer]:
        if not self.rules.may_know(address):
            return []
        if ipaddress.ip_address(address).is_loopback:
            return [Answer(Kind.NAME, "localhost", ANSWER_TTL)]
        names = await self.names.name_of(asker, address, lambda: stream.open)
        # Whoever owns the address writes what this name is: it must not break our encoder nor the client's decoder.
        return [Answer(Kind.NAME, n, ANSWER_TTL) for n in names if n.isascii() and is_name(n.encode())][:1]


class ExitStream(SocketStream):
    """One stream, its connection, and what they hold."""

    def __init__(self, circuit: CircuitExit, stream: Stream, on_gone: Callable[[Any], None]) -> None:
        super().__init__(on_gone)
        self.circuit = circuit
        self.stream = stream
        self._shrunk = False
        """Whether the kernel keeps little for it."""
        self.weight = 0
        """Bytes that the circuit counts for it."""
        self.unsent = 0
        """... of which its target has not taken."""

    def data(self, pieces: list[bytes]) -> None:
        super().data(pieces)
        self.circuit.weigh(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.circuit.weigh(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.circuit.weigh(self)

    def hold(self) -> None:
        super().hold()
        self._buffer(HELD_RECEIVE_BYTES)
        self._shrunk = True
        self.circuit.weigh(self)

    def writable(self) -> None:
        super().writable()
        if self._shrunk:
            self._shrunk = False
            self._buffer(READ_RECEIVE_BYTES)
        self.circuit.weigh(self)

    def _buffer(self, size: int) -> None:
        sock = self.transport.get_extra_info("socket") if self.transport is not None else None
        if sock is not None:
            shrink(sock, size)

    @property
    def held_bytes(self) -> int:
        """What is counted for it: itself, what waits for its stream and its target, and in the kernel."""
        waiting = self.stream.outbox_bytes if self.stream is not None else 0
        kernel = 0 if self.reading else HELD_RECEIVE_BYTES if self._shrunk else PAUSED_BYTES
        return CONNECTION_BYTES + self.unsent_bytes + waiting + kernel


class CircuitExit:
    """Serves the streams of one circuit: its rate of new ones, its share of connections, what it holds."""

    __slots__ = ("_begins", "_exit", "_handlers", "_since", "_unsent", "asker", "source")

    def __init__(self, exit_: Exit, source: Hashable) -> None:
        self.source = source
        self.asker = Asker(source)
        self._exit = exit_
        self._begins = BEGINS_BURST
        self._since = asyncio.get_running_loop().time()
        self._handlers: dict[ExitStream, None] = {}
        self._unsent = 0

    def _spend(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._begins = min(BEGINS_BURST, self._begins + (now - self._since) * BEGINS_PER_SECOND)
        self._since = now
        if self._begins < 1:
            return False
        self._begins -= 1
        return True

    def begin(self, stream: Stream, target: Target) -> StreamHandler:
        return self._start(stream, lambda s, h: self._exit.connect(s, h, target))

    def resolve(self, stream: Stream, target: Target) -> StreamHandler:
        return self._start(stream, lambda s, h: self._exit.resolve(s, h, target))

    def _start(self, stream: Stream, work: Callable[[Stream, ExitStream], Coroutine[Any, Any, None]]) -> StreamHandler:
        handler = ExitStream(self, stream, self._exit.closed)
        if not self._spend() or not self._exit.room(len(self._handlers)):
            self._exit.counters.refused += 1
            stream.end(EndReason.RESOURCE)
            return handler
        self._handlers[handler] = None
        self.weigh(handler)
        self._exit.start(handler, work(stream, handler))
        return handler

    # ---- what it holds -------------------------------------------------------------------------------------------

    def weigh(self, handler: ExitStream) -> None:
        """Counts anew what a stream holds; over the circuit's bound for its targets the heaviest stream ends."""
        self._weigh(handler)
        if self._unsent > TARGET_BYTES:
            self._end(max(self._handlers, key=lambda h: h.unsent))

    def _weigh(self, handler: ExitStream) -> None:
        if handler not in self._handlers:
            return
        unsent, weight = handler.unsent_bytes, handler.held_bytes
        change = weight - handler.weight
        self._unsent += unsent - handler.unsent
        handler.weight, handler.unsent = weight, unsent
        if change:
            self._exit.budget.hold(self, change)

    def forget(self, handler: ExitStream) -> None:
        """Its connection is gone."""
        if self._handlers.pop(handler, handler) is None:
            self._unsent -= handler.unsent
            self._exit.budget.hold(self, -handler.weight)

    def shed(self) -> None:
        """The process holds too much, and we most of all: all our streams end, unless much was sent meanwhile."""
        before = self._exit.budget.held(self)
        for handler in list(self._handlers):
            self._weigh(handler)
        if self._exit.budget.held(self) > before // 2:
            for handler in list(self._handlers):
                self._end(handler)

    def _end(self, handler: ExitStream) -> None:
        self._exit.counters.shed += 1
        handler.end(EndReason.RESOURCE)
        self._weigh(handler)


def _kind(address: str) -> Kind:
    return Kind.IPV6 if ":" in address else Kind.IPV4
