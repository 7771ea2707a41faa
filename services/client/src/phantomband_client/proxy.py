"""The proxy ports: an application's connection becomes a stream of a circuit.

The negotiation (SOCKS5 or HTTP CONNECT) is sans-io; this drives it, opens the stream, retries on another circuit as
long as no byte was lost, answers the application, and splices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from phantomband.core.circuit.client import ClientCircuit
from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.path import NoExitAllows
from phantomband.core.profiles import PROFILE_NAMES, ProfileName
from phantomband.core.stream.messages import Answer, EndReason, Target, target
from phantomband.runtime.splice import SocketStream

from phantomband_client import http_connect, socks
from phantomband_client.circuits import BUILD_RETRIES, CircuitPool, ExitsBusy
from phantomband_client.socks import Command, Request

NEGOTIATION_SECONDS = 30.0
"""An application that has not said what it wants by then is disconnected."""

RETRY = frozenset(
    {EndReason.CIRCUIT_GONE, EndReason.RESOURCE, EndReason.INTERNAL, EndReason.POLICY, EndReason.RESOLVE_FAILED}
)
"""Failures that another circuit, with another exit, may not have."""

RETRY_LIMIT = {EndReason.RESOLVE_FAILED: 2, EndReason.POLICY: 3}
"""Attempts for failures that are probably the target's own."""


class Negotiating(Protocol):
    """A sans-io negotiation of one proxy protocol."""

    def receive_untrusted(self, data: bytes) -> tuple[Request, bytes] | None: ...

    def take_reply(self) -> bytes: ...


class StreamFailed(Exception):
    """The stream ended before it was connected."""

    def __init__(self, reason: EndReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class StaysHere(StreamFailed):
    """A name that is never told to an exit: as if it did not resolve."""

    def __init__(self) -> None:
        super().__init__(EndReason.RESOLVE_FAILED)


class ClientStream(SocketStream):
    """A stream whose opening is awaited."""

    def __init__(self, on_gone: Callable[[SocketStream], None]) -> None:
        super().__init__(on_gone)
        self.answers: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self.answers.add_done_callback(lambda f: f.cancelled() or f.exception())

    def connected(self, answers: list[Answer]) -> None:
        if not self.answers.done():
            self.answers.set_result(answers)

    def ended(self, reason: EndReason) -> None:
        if not self.answers.done():
            self.answers.set_exception(StreamFailed(reason))
        super().ended(reason)


class Choose:
    """Which circuits an application's stream goes to: the proxy's, or those that the SOCKS user names.

    A user `name+profile` chooses a profile for this stream; the user's name, whole, isolates as always.
    """

    def __init__(self, profile: ProfileName, pool: Callable[[ProfileName], CircuitPool]) -> None:
        self._profile = profile
        self._pool = pool

    def pool(self, user: bytes) -> CircuitPool:
        """The circuits for this user."""
        _, plus, name = user.decode("utf-8", "replace").rpartition("+")
        return self._pool(next((known for known in PROFILE_NAMES if plus and name == known), self._profile))


class Proxy:
    """One proxy port."""

    def __init__(
        self,
        name: str,
        negotiation: Callable[[], Negotiating],
        choose: Choose,
        spawn: Callable[[Application], None],
        max_streams: int,
        connect_timeout: float,
        stays_here: Callable[[Target], bool],
    ) -> None:
        """Args:

        name: goes into the isolation.
        spawn: runs `Application.serve` in a task of the service.
        stays_here: whether a target is never told to an exit.
        """
        self.name = name
        self.negotiation = negotiation
        self.choose = choose
        self.spawn = spawn
        self.max_streams = max_streams
        self.stays_here = stays_here
        self.connect_timeout = connect_timeout
        self.open: set[object] = set()
        self.bytes_in = self.bytes_out = 0

    def protocol(self) -> asyncio.Protocol:
        return Application(self)

    def gone(self, stream: SocketStream) -> None:
        self.open.discard(stream)
        self.bytes_out += stream.bytes_in
        self.bytes_in += stream.bytes_out


class Application(asyncio.Protocol):
    """One application's connection until its stream stands."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._negotiation = proxy.negotiation()
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._rest = b""
        self._timer: asyncio.TimerHandle | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._proxy.open) >= self._proxy.max_streams:
            self._transport.abort()
            return
        self._proxy.open.add(self)
        self._timer = asyncio.get_running_loop().call_later(NEGOTIATION_SECONDS, self._transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._proxy.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._request is not None:
            self._rest += data
            return
        try:
            done = self._negotiation.receive_untrusted(data)
        except Malformed:
            self._transport.write(self._negotiation.take_reply())
            self._transport.close()
            return
        if reply := self._negotiation.take_reply():
            self._transport.write(reply)
        if done is not None:
            self._request, self._rest = done
            self._transport.pause_reading()
            if self._timer is not None:
                self._timer.cancel()
            self._proxy.spawn(self)

    def abort(self) -> None:
        """An error of ours: the application is disconnected."""
        if self._transport is not None:
            self._transport.abort()

    # ---- the stream ----------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Opens the stream and hands the connection over to it."""
        transport, request = self._transport, self._request
        if transport is None or request is None:
            return
        where = request.target
        if self._proxy.stays_here(where):
            self._fail(transport, StaysHere() if where.is_name else StreamFailed(EndReason.POLICY))
            return
        if request.command is Command.RESOLVE and not where.is_name:
            transport.write(socks.success(Answer(where.kind, where.host, 0)))
            transport.close()
            return
        try:
            async with asyncio.timeout(self._proxy.connect_timeout):
                stream, answers = await self._open(request)
        except (StreamFailed, Refused, TimeoutError) as e:
            self._fail(transport, e)
            return
        if self.lost or transport.is_closing():
            stream.end(EndReason.DONE)
        elif request.command is Command.CONNECT:
            self._splice(transport, stream)
        elif answers:
            transport.write(socks.success(_preferred(answers)))
            transport.close()
        else:
            self._fail(transport, StreamFailed(EndReason.RESOLVE_FAILED))

    async def _open(self, request: Request) -> tuple[ClientStream, list[Answer]]:
        """A connected stream; another circuit is tried where that may help."""
        failures: dict[EndReason, int] = {}
        for attempt in range(1, BUILD_RETRIES + 1):
            try:
                return await self._attempt(request)
            except StreamFailed as e:
                failures[e.reason] = failures.get(e.reason, 0) + 1
                if e.reason not in RETRY or failures[e.reason] >= RETRY_LIMIT.get(e.reason, BUILD_RETRIES):
                    raise
                if attempt == BUILD_RETRIES:
                    raise
            except NoExitAllows:
                raise StreamFailed(EndReason.POLICY) from None
            except ExitsBusy:
                raise StreamFailed(EndReason.RESOURCE) from None
            except Refused:
                if attempt == BUILD_RETRIES:
                    raise
                await asyncio.sleep(0.2 * attempt)
        raise Refused("no circuit could carry the stream")

    async def _attempt(self, request: Request) -> tuple[ClientStream, list[Answer]]:
        where = request.target
        if request.command is Command.RESOLVE_PTR and where.is_name:
            raise StreamFailed(EndReason.RESOLVE_FAILED)
        if request.command is not Command.CONNECT:
            where = target(where.host, 0)
        isolation = (self._proxy.name, request.user, request.password, where.host, where.port)
        pool = self._proxy.choose.pool(request.user)
        managed = await pool.get(isolation, where)
        circuit = cast(ClientCircuit, managed.circuit)
        handler = ClientStream(self._proxy.gone)
        handler.stream = circuit.endpoint.open(where, handler, resolve=request.command is not Command.CONNECT)
        managed.guard.touch(circuit)
        self._proxy.open.add(handler)
        try:
            return handler, await handler.answers
        except StreamFailed as e:
            if e.reason in (EndReason.RESOURCE, EndReason.POLICY, EndReason.RESOLVE_FAILED):
                pool.exit_failed(managed, e.reason)
            raise
        except asyncio.CancelledError:
            handler.end(EndReason.DONE)
            raise

    def _splice(self, transport: asyncio.Transport, handler: ClientStream) -> None:
        transport.write(http_connect.ESTABLISHED if self._is_http else socks.success())
        self._proxy.open.discard(self)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        if self._rest:
            handler.data_received(self._rest)
        transport.resume_reading()

    @property
    def _is_http(self) -> bool:
        return isinstance(self._negotiation, http_connect.HttpNegotiation)

    def _fail(self, transport: asyncio.Transport, error: Exception) -> None:
        if isinstance(error, StaysHere) and self._is_http:
            transport.write(http_connect.STAYS_HERE)
            transport.close()
            return
        if isinstance(error, StreamFailed):
            reason = error.reason
        else:
            reason = EndReason.TIMEOUT if isinstance(error, TimeoutError) else EndReason.INTERNAL
        if self._is_http:
            transport.write(http_connect.failure(reason))
        else:
            transport.write(socks.failure(socks.REPLY_FOR.get(reason, socks.Reply.FAILURE)))
        transport.close()


def _preferred(answers: list[Answer]) -> Answer:
    """IPv4 before IPv6: what most programs that ask RESOLVE can use."""
    return min(answers, key=lambda a: a.kind)
