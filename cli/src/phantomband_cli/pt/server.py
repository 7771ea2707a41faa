"""The server's role: transports that listen, and forward what they carry to one port of the parent's."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from phantomband.core.errors import Malformed, UserError
from phantomband.runtime.keystore import write_whole
from phantomband.transports.base import Connection, Listener, Receiver, Transport
from phantomband.transports.managed.arguments import to_program
from phantomband.transports.managed.extended_port import Calling
from phantomband.transports.managed.stream import NegotiatedConnection
from phantomband.transports.obfs4.transport import Obfs4Transport
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.transport import reason

from phantomband_cli.pt import obfs4_state
from phantomband_cli.pt.role import DIAL_SECONDS, Role
from phantomband_cli.pt.splice import Half
from phantomband_cli.pt.talk import Talk, endpoint

UNKNOWN_PORT = 1
"""Said for a client's port in USERADDR, where transports know its IP address only; 0 would not be taken."""


class ServerRole(Role):
    """Args: forward, cookie: of `ServerSetup`."""

    def __init__(self, talk: Talk, tasks: asyncio.TaskGroup, forward: tuple[str, int], cookie: bytes | None) -> None:
        super().__init__(talk, tasks)
        self._forward, self._cookie = forward, cookie
        self._buffer = read_buffer()

    async def listen(
        self, transport: Transport, where: tuple[str, int], options: Mapping[str, str], state: Path
    ) -> tuple[int, Mapping[str, str]]:
        """Returns: the port, and the arguments that clients need. Raises: UserError."""
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if isinstance(transport, Obfs4Transport):
            who, mode = obfs4_state.load(state, options, os.urandom)
            transport.use(who, mode)
        else:
            transport.configure(state, {name.replace("-", "_"): value for name, value in options.items()})

        def accept(connection: Connection) -> Receiver:
            if self.full:
                return self.refuse(connection)
            half = self.half(connection)
            self.spawn(half, self._connect(half, transport.name))
            return half

        listener: Listener = await transport.listen(*where, accept)
        self.listens(listener)
        arguments = to_program(transport.parameters())
        if not isinstance(transport, Obfs4Transport):  # whose line stands beside its identity
            _write_line(state / f"{transport.name}_bridgeline.txt", transport.name, arguments)
        return listener.port, arguments

    async def _connect(self, half: Half, name: str) -> None:
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[Exception | None] = loop.create_future()
        made: list[Half] = []

        def settle(error: Exception | None) -> None:
            if not settled.done():
                settled.set_result(error)

        def accept(connection: Connection) -> Half:
            made.append(self.half(connection))
            settle(None)
            return made[0]

        def protocol() -> StreamConnection:
            if self._cookie is None:
                return StreamConnection(accept, self._buffer)
            calling = Calling(self._cookie, name, _peer(half.connection), os.urandom)
            return NegotiatedConnection(calling, accept, settle, self._buffer)

        lower: StreamConnection | None = None
        joined = False
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                _, lower = await loop.create_connection(protocol, *self._forward)
                failure = await settled
            if failure is None:
                half.join(made[0])
                joined = True
                return
        except (OSError, TimeoutError) as e:
            failure = e
        finally:
            if lower is not None and not joined:
                lower.abort()
        why = str(failure) if isinstance(failure, Malformed) else reason_of(failure)
        self.talk.log("warning", f"no connection to the parent's port: {why}")
        half.connection.abort()


def reason_of(error: Exception) -> str:
    """Without an address."""
    return reason(error) if isinstance(error, OSError) else type(error).__name__


def _peer(connection: Connection) -> str:
    """As USERADDR has it; nothing if the transport does not know."""
    packed = connection.peer_ip
    return endpoint(str(ipaddress.ip_address(packed)), UNKNOWN_PORT) if packed else ""


def _write_line(path: Path, name: str, arguments: Mapping[str, str]) -> None:
    """The bridge line, for the operator, as obfs4proxy has it. Raises: UserError."""
    words = " ".join((f"Bridge {name} <IP ADDRESS>:<PORT> <FINGERPRINT>", *(f"{k}={v}" for k, v in arguments.items())))
    text = f"# The bridge line of this transport: fill in address, port and fingerprint.\n{words}\n"
    try:
        write_whole(path, text.encode())
    except OSError as e:
        raise UserError(f"the state directory cannot be written ({e.strerror})") from None
