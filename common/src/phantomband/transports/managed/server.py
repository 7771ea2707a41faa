"""The server's role: one program for each listening address, which forwards its clients to a port of ours.

    client -- obfuscated --> program --> extended ORPort (says the client's address) or ORPort, both on loopback

Programs that know the extended ORPort use it. The plain one is for those that do not; who connects there is not
known, so it says no address, and like every link a node's own handshake must follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed, UserError
from phantomband.transports.base import Accept, Connection, Listener, Receiver
from phantomband.transports.managed.arguments import from_program_untrusted, join_options, to_program
from phantomband.transports.managed.extended_port import Serving
from phantomband.transports.managed.program import Command, Pauses, ProgramFailed, Run
from phantomband.transports.managed.stream import NegotiatedConnection, Refusing
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.transport import BACKLOG, reason

LOOPBACK = "127.0.0.1"

NEGOTIATION_SECONDS = 10.0
"""That a program has to say where a connection came from."""

MAX_NEGOTIATIONS = 256
"""Connections of one listener in that; one more is closed unanswered."""

DRAIN_SECONDS = 5.0
"""After the last connection of a closed listener, until its program is told to go."""

REFUSED_SECONDS, REFUSED_PAUSE, AGAIN_SECONDS = 5.0, 0.05, 0.5
"""That a program has to close its port, and between two looks at it."""


class ManagedListener(Listener):
    """A program that listens for `name`. Start it with `start`.

    Args:
        options: of the transport, by our names.
        folder: for the program's state; made with mode 0700.
        cookie: of the extended ORPort: its file, and the secret in it.
    """

    def __init__(
        self,
        command: Command,
        name: str,
        options: Mapping[str, str],
        folder: Path,
        cookie: tuple[Path, bytes],
        accept: Accept,
        random: RandomSource,
    ) -> None:
        self._command, self._name, self._folder = command, name, folder
        self._options = join_options(name, to_program(options))
        self._cookie = cookie
        self._accept, self._random = accept, random
        self._buffer = read_buffer()
        self._run: Run | None = None
        self._pauses = Pauses()
        self._restart: asyncio.TimerHandle | None = None
        self._negotiating: set[asyncio.TimerHandle] = set()
        self._live: set[Connection] = set()
        self._closing = False
        self._servers: list[asyncio.Server] = []
        self._log = structlog.get_logger().bind(program=command.label, transport=name)
        self.parameters: Mapping[str, str] = {}
        """What the program says that its clients need."""

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int | None:
        """Of the program that runs."""
        return self._run.pid if self._run is not None else None

    async def start(self, host: str, port: int) -> None:
        """Binds our ports and has the program listen on `host`:`port`. Raises: UserError."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        try:
            for protocol in (self._extended, self._plain):
                self._servers.append(await loop.create_server(protocol, LOOPBACK, 0, backlog=BACKLOG))
        except OSError as e:
            self._close_ports()
            raise UserError(f"no free port on the loopback interface ({reason(e)})") from None
        extended, plain = self._servers
        self._asked = {
            "TOR_PT_SERVER_TRANSPORTS": self._name,
            "TOR_PT_EXTENDED_SERVER_PORT": _endpoint(extended),
            "TOR_PT_AUTH_COOKIE_FILE": str(self._cookie[0]),
            "TOR_PT_ORPORT": _endpoint(plain),
        }
        if self._options:
            self._asked["TOR_PT_SERVER_TRANSPORT_OPTIONS"] = self._options
        self._host, self._port = host, port
        try:
            await self._first()
        except BaseException:
            await self.end()
            raise

    async def _first(self) -> None:
        run = self._begin()
        try:
            await asyncio.shield(run.ready)
            method = run.method(self._name)
            self._port = method.port
            self.parameters = from_program_untrusted(method.arguments or {})
        except (ProgramFailed, Malformed) as e:
            raise UserError(
                f"cannot listen for {self._name} on port {self._port}: {e}. Mend that, or take the address away"
            ) from None

    def _begin(self) -> Run:
        host = f"[{self._host}]" if ":" in self._host else self._host
        where = {"TOR_PT_SERVER_BINDADDR": f"{self._name}-{host}:{self._port}"}
        self._run = Run(self._command, self._asked | where, self._folder, self._ended)
        return self._run

    def _ended(self) -> None:
        if self._closing:
            self._close_ports()
        elif self._run is not None and self._run.ready.done():
            lived = self._loop.time() - self._run.started
            self._restart = self._loop.call_later(self._pauses.after(lived), self._again)

    def _again(self) -> None:
        self._restart = None
        run = self._begin()
        if not run.alive:
            self._ended()
            return
        run.ready.add_done_callback(lambda _: self._stands_again(run))

    def _stands_again(self, run: Run) -> None:
        if self._closing or run.ready.cancelled() or run.ready.exception() is not None:
            return
        try:
            parameters = from_program_untrusted(run.method(self._name).arguments or {})
        except (ProgramFailed, Malformed) as e:
            self._log.warning("the program came back without its transport", why=str(e))
            run.stop()
            return
        if parameters != self.parameters:
            self._log.warning("the program came back with other parameters: restart the node to publish them")
        self.parameters = parameters

    # ---- its connections -----------------------------------------------------------------------------------------

    def _extended(self) -> StreamConnection:
        connection: NegotiatedConnection
        negotiation = Serving(self._cookie[1], self._random)
        patience = self._loop.call_later(NEGOTIATION_SECONDS, lambda: connection.abort())
        room = len(self._negotiating) < MAX_NEGOTIATIONS
        self._negotiating.add(patience)

        def settled(error: Exception | None) -> None:
            patience.cancel()
            self._negotiating.discard(patience)

        connection = NegotiatedConnection(negotiation, self._watched, settled, self._buffer)
        if not room:
            settled(None)
            return StreamConnection(Refusing, self._buffer)
        return connection

    def _plain(self) -> StreamConnection:
        return _Unknown(self._watched, self._buffer)

    def _watched(self, connection: Connection) -> Receiver:
        self._live.add(connection)
        return _Watched(self._accept(connection), lambda: self._gone(connection))

    def _gone(self, connection: Connection) -> None:
        self._live.discard(connection)
        if self._closing:
            self._stop_when_quiet()

    # ---- its end -------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Has the program listen no longer (SIGINT: it goes when its connections have ended)."""
        if self._closing:
            return
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        if self._run is None or not self._run.alive:
            self._close_ports()
            return
        await self._refused(self._run)
        self._stop_when_quiet()

    async def _refused(self, run: Run) -> None:
        """Returns when the program's port takes no connections, or after REFUSED_SECONDS.

        obfs4proxy loses one signal in four (its channel for them has no room while it counts connections), so it is
        sent again while the port is open; a second one that arrives would end its connections too.
        """
        run.drain()
        again = self._loop.time() + AGAIN_SECONDS
        host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(self._host, self._host)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(REFUSED_SECONDS):
                while True:
                    transport, _ = await self._loop.create_connection(asyncio.Protocol, host, self._port)
                    transport.abort()
                    await asyncio.sleep(REFUSED_PAUSE)
                    if self._loop.time() >= again:
                        again += AGAIN_SECONDS
                        run.drain()

    def _stop_when_quiet(self) -> None:
        if self._run is not None and not self._live:
            # Later: what it has accepted may be on its way to us.
            self._loop.call_later(DRAIN_SECONDS, self._stop_if_quiet)

    def _stop_if_quiet(self) -> None:
        if self._run is not None and not self._live:
            self._run.stop()

    async def end(self) -> None:
        """`close`, and the program ends now."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        if self._run is not None:
            await self._run.close()
        self._close_ports()

    def _close_ports(self) -> None:
        for server in self._servers:
            server.close()


class _Unknown(StreamConnection):
    """From the plain port: the address is the program's own, and so none."""

    @property
    def peer_ip(self) -> bytes:
        return b""


class _Watched:
    """A receiver that says when its connection is gone."""

    def __init__(self, inner: Receiver, gone: Callable[[], None]) -> None:
        self._inner, self._gone = inner, gone
        self.received = inner.received
        self.writable = inner.writable

    def closed(self, error: Exception | None) -> None:
        self._gone()
        self._inner.closed(error)


def _endpoint(server: asyncio.Server) -> str:
    return f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
