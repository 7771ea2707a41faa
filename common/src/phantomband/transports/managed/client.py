"""The client's role: one program for all connections of its transports, started when the first is dialled."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Accept, Address, Connection
from phantomband.transports.managed.arguments import to_program
from phantomband.transports.managed.program import Command, Pauses, ProgramFailed, Run
from phantomband.transports.managed.socks import Dialling
from phantomband.transports.managed.stream import NegotiatedConnection
from phantomband.transports.tcp.connection import read_buffer
from phantomband.transports.tcp.transport import reason, require_literal


class ClientProgram:
    """A program in the client's role, on one event loop.

    One that ended is started again by the next dial, not before a pause that doubles from one second to a minute.

    Args:
        folder: for its state.
        proxy: URI of the proxy that it must use, `TOR_PT_PROXY`; nothing: none.
    """

    def __init__(self, command: Command, folder: Path, proxy: str = "") -> None:
        self._command, self._folder = command, folder
        self._asked = {"TOR_PT_CLIENT_TRANSPORTS": ",".join(command.transports)}
        if proxy:
            self._asked["TOR_PT_PROXY"] = proxy
        self._run: Run | None = None
        self._pauses = Pauses()
        self._not_before = 0.0
        self._closed = False
        self._buffer = read_buffer()

    @property
    def pid(self) -> int | None:
        """Of the program that runs."""
        return self._run.pid if self._run is not None else None

    def explained(self, problem: Refused) -> Refused:
        """`problem` of a dial, with what the program said since the last one began."""
        if isinstance(problem, ProgramFailed) or self._run is None or not self._run.word:
            return problem
        return ProgramFailed(f"{problem}: the program {self._command.label} {self._run.word}")

    async def dial(self, name: str, address: Address, accept: Accept, timeout: float) -> Connection:
        """Raises: Refused."""
        require_literal(address.host)
        try:
            negotiation = Dialling(address.host, address.port, to_program(address.parameters))
        except Malformed as e:
            raise Refused(str(e)) from None
        try:
            async with asyncio.timeout(timeout):
                port = await self._port(name)
                return await self._connect(port, negotiation, accept)
        except TimeoutError:
            raise Refused(f"no connection by the program within {timeout} seconds") from None
        except OSError as error:
            raise Refused(f"the program takes no connection: {reason(error)}") from None

    async def close(self) -> None:
        """Ends the program, and with it its connections."""
        self._closed = True
        if self._run is not None:
            await self._run.close()

    async def _port(self, name: str) -> tuple[str, int]:
        run = self._running()
        run.word = ""
        await asyncio.shield(run.ready)
        method = run.method(name)
        if method.protocol != "socks5":
            raise ProgramFailed(f"the program {self._command.label} speaks {method.protocol}; socks5 is needed")
        if not ipaddress.ip_address(method.host).is_loopback:
            raise ProgramFailed(f"the program {self._command.label} listens elsewhere than on the loopback interface")
        return method.host, method.port

    def _running(self) -> Run:
        now = asyncio.get_running_loop().time()
        run = self._run
        if run is not None and run.alive:
            return run
        if self._closed:
            raise ProgramFailed(f"the program {self._command.label} was ended")
        if run is not None and now < self._not_before:
            why = run.ready.exception() if run.ready.done() else None
            said = str(why) if why is not None else f"the program {self._command.label} ended"
            raise ProgramFailed(f"{said}. It is started again in {self._not_before - now:.0f} s")
        self._run = run = Run(self._command, self._asked, self._folder, self._ended)
        if not run.alive:
            self._ended()
        return run

    def _ended(self) -> None:
        if self._run is not None:
            now = asyncio.get_running_loop().time()
            self._not_before = now + self._pauses.after(now - self._run.started)

    async def _connect(self, port: tuple[str, int], negotiation: Dialling, accept: Accept) -> Connection:
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Exception | None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if not settled.done():
                settled.set_result(error)

        _, connection = await loop.create_connection(
            lambda: NegotiatedConnection(negotiation, accept, settle, self._buffer), *port
        )
        try:
            failure = await settled
        except BaseException:
            connection.abort()
            raise
        if failure is not None:
            raise Refused(str(failure) if isinstance(failure, Malformed) else "the program closed the connection")
        return connection
