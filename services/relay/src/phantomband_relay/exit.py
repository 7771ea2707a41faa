"""Exit streams: resolves names, connects to targets that the policy allows, splices bytes.

Names are looked up here and nowhere else on the way. Private addresses are refused whatever the policy says, unless the
operator of a test network allows them.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from phantomband.core.netdir.exit_policy import ExitPolicy, is_private
from phantomband.core.stream.messages import Answer, EndReason, Kind, Target, is_name
from phantomband.core.stream.stream import Stream, StreamHandler
from phantomband.runtime.splice import SocketStream

ANSWER_TTL = 60
"""Seconds that an answer may be kept: the system's resolver does not say how long."""

MAX_ATTEMPTS = 4
"""Addresses of one name that are tried in turn."""

MAX_LOOKUPS = 16
"""Names looked up at once; others wait within their connect timeout."""

BEGINS_PER_SECOND = 200.0
BEGINS_BURST = 1000.0
"""Streams that one circuit may open; one more is refused with END(RESOURCE)."""


@dataclass(frozen=True, slots=True)
class ExitRules:
    """What this exit connects to, and how much of it."""

    policy: ExitPolicy
    allow_private: bool
    max_connections: int
    connect_timeout: float

    def allows(self, address: str, port: int) -> bool:
        return self.may_know(address) and self.policy.allows(ipaddress.ip_address(address), port)

    def may_know(self, address: str) -> bool:
        """Whether clients may learn of this address or reach it: our own network is not theirs to explore."""
        return self.allow_private or not is_private(ipaddress.ip_address(address))


@dataclass(slots=True)
class ExitCounters:
    opened: int = 0
    refused: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Exit:
    """All exit connections of a relay."""

    def __init__(self, rules: ExitRules, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """Args: spawn: starts a task owned by the service."""
        self.counters = ExitCounters()
        self.open: set[SocketStream] = set()
        self.rules = rules
        self._spawn = spawn
        self._resolver = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="resolver")
        self._busy: set[SocketStream] = set()

    def close(self) -> None:
        """Lookups that wait are dropped; one that hangs does not hold up the end of the process."""
        self._resolver.shutdown(wait=False, cancel_futures=True)

    def circuit(self) -> CircuitExit:
        """Who serves the streams of one new circuit."""
        return CircuitExit(self)

    def start(self, stream: Stream, work: Callable[[Stream, SocketStream], Coroutine[Any, Any, None]]) -> StreamHandler:
        handler = SocketStream(self._closed)
        handler.stream = stream
        if len(self.open) >= self.rules.max_connections:
            self.refuse(stream)
            return handler
        self.open.add(handler)
        self._busy.add(handler)
        self._spawn(self._work(handler, work(stream, handler)))
        return handler

    async def _work(self, handler: SocketStream, work: Coroutine[Any, Any, None]) -> None:
        """A connection that is being made counts as open, even if its stream has ended meanwhile."""
        try:
            await work
        finally:
            self._busy.discard(handler)
            if handler.gone:
                self.open.discard(handler)

    def refuse(self, stream: Stream) -> None:
        self.counters.refused += 1
        stream.end(EndReason.RESOURCE)

    def _closed(self, handler: SocketStream) -> None:
        if handler not in self._busy:
            self.open.discard(handler)
        self.counters.bytes_in += handler.bytes_in
        self.counters.bytes_out += handler.bytes_out

    # ---- connecting ----------------------------------------------------------------------------------------------

    async def connect(self, stream: Stream, handler: SocketStream, target: Target) -> None:
        """Connects and answers the stream; whatever goes wrong is an END with its reason."""
        try:
            async with asyncio.timeout(self.rules.connect_timeout):
                reason = await self._connect(stream, handler, target)
        except TimeoutError:
            reason = EndReason.TIMEOUT
        if reason is not None:
            self.counters.failed += 1
            handler.end(reason)

    async def _connect(self, stream: Stream, handler: SocketStream, target: Target) -> EndReason | None:
        addresses = await self._addresses(target)
        if not addresses:
            return EndReason.RESOLVE_FAILED
        allowed = [a for a in addresses if self.rules.allows(a, target.port)]
        if not allowed:
            return EndReason.POLICY
        reason = EndReason.UNREACHABLE
        for address in allowed[:MAX_ATTEMPTS]:
            if not stream.open:
                return EndReason.DONE
            try:
                await self._open(handler, address, target.port)
            except OSError as e:
                reason = _reason(e)
                continue
            if not stream.open:
                return EndReason.DONE
            self.counters.opened += 1
            stream.connected([Answer(_kind(address), address, ANSWER_TTL)])
            return None
        return reason

    @staticmethod
    async def _open(handler: SocketStream, address: str, port: int) -> None:
        await asyncio.get_running_loop().create_connection(lambda: handler, address, port)

    async def _addresses(self, target: Target) -> list[str]:
        if not target.is_name:
            return [target.host]
        return await self._look_up(target.host)

    async def _look_up(self, name: str) -> list[str]:
        """Addresses of a name, from the exit's own resolver; none if it has none."""
        look_up = partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._resolver, look_up)
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))

    # ---- resolving -----------------------------------------------------------------------------------------------

    async def resolve(self, stream: Stream, handler: SocketStream, target: Target) -> None:
        """Answers a RESOLVE: addresses of a name, or the name of an address."""
        try:
            async with asyncio.timeout(self.rules.connect_timeout):
                answers = await (self._forward(target) if target.is_name else self._reverse(target))
        except TimeoutError:
            answers = []
        if answers:
            stream.resolved(answers)
        else:
            stream.end(EndReason.RESOLVE_FAILED)
        handler.ended(EndReason.DONE)

    async def _forward(self, target: Target) -> list[Answer]:
        addresses = [a for a in await self._look_up(target.host) if self.rules.may_know(a)]
        return [Answer(_kind(a), a, ANSWER_TTL) for a in addresses[:MAX_ATTEMPTS]]

    async def _reverse(self, target: Target) -> list[Answer]:
        if not self.rules.may_know(target.host):
            return []
        look_up = partial(socket.getnameinfo, (target.host, 0), socket.NI_NAMEREQD)
        try:
            name, _ = await asyncio.get_running_loop().run_in_executor(self._resolver, look_up)
        except (OSError, UnicodeError):
            return []
        # Whoever owns the address writes what this name is: it must not break our encoder nor the client's decoder.
        return [Answer(Kind.NAME, name, ANSWER_TTL)] if name.isascii() and is_name(name.encode()) else []


class CircuitExit:
    """Serves the streams of one circuit, with that circuit's rate of new ones."""

    __slots__ = ("_budget", "_exit", "_since")

    def __init__(self, exit_: Exit) -> None:
        self._exit = exit_
        self._budget = BEGINS_BURST
        self._since = asyncio.get_running_loop().time()

    def _spend(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._budget = min(BEGINS_BURST, self._budget + (now - self._since) * BEGINS_PER_SECOND)
        self._since = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    def begin(self, stream: Stream, target: Target) -> StreamHandler:
        return self._start(stream, lambda s, h: self._exit.connect(s, h, target))

    def resolve(self, stream: Stream, target: Target) -> StreamHandler:
        return self._start(stream, lambda s, h: self._exit.resolve(s, h, target))

    def _start(
        self, stream: Stream, work: Callable[[Stream, SocketStream], Coroutine[Any, Any, None]]
    ) -> StreamHandler:
        if not self._spend():
            self._exit.refuse(stream)
            return SocketStream(lambda _: None)
        return self._exit.start(stream, work)


def _kind(address: str) -> Kind:
    return Kind.IPV6 if ":" in address else Kind.IPV4


def _reason(error: OSError) -> EndReason:
    if isinstance(error, ConnectionRefusedError):
        return EndReason.REFUSED
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return EndReason.TIMEOUT
    return EndReason.UNREACHABLE
