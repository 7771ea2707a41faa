"""An external program as a transport: dialled through its SOCKS port, listened with by its server."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Refused, UserError
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport, one_setting
from phantomband.transports.managed.client import ClientProgram
from phantomband.transports.managed.extended_port import new_cookie
from phantomband.transports.managed.program import Command
from phantomband.transports.managed.server import ManagedListener

SLOWNESS = 35.0
"""Seconds. snowflake's client takes a connection at once and looks for a proxy then: 5 for its own addresses, 10 at the
broker, 10 for the proxy, and a second try after as much (`DataChannelTimeout`, `ReconnectTimeout`)."""

COOKIE_FILE = "extended_orport_auth_cookie"


class ManagedTransport(Transport):
    """One transport of a program.

    Args:
        client: the program in the client's role, which other transports may share.
        folder: for what its servers keep.
    """

    slowness = SLOWNESS

    def __init__(
        self, name: str, command: Command, client: ClientProgram, folder: Path, random: RandomSource = os.urandom
    ) -> None:
        self.name = name
        self._command, self._client, self._folder, self._random = command, client, folder, random
        self._options: Mapping[str, str] | None = None
        self._cookie: tuple[Path, bytes] | None = None
        self.listeners: list[ManagedListener] = []

    @property
    def client(self) -> ClientProgram:
        return self._client

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        return await self._client.dial(self.name, address, accept, timeout)

    def explained(self, problem: Refused) -> Refused:
        return self._client.explained(problem)

    def configure(self, folder: Path, options: Mapping[str, str]) -> None:
        """What stands behind the `?` goes to the program. Its keys are where the constructor said."""
        one_setting(self.name, self._options, dict(options))
        self._options = dict(options)

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        if self._cookie is None:  # one for all listeners: they share the folder
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / COOKIE_FILE
            self._cookie = path, new_cookie(path, self._random)
        listener = ManagedListener(
            self._command, self.name, self._options or {}, self._folder, self._cookie, accept, self._random
        )
        await listener.start(host, port)
        self.listeners.append(listener)
        return listener

    def parameters(self) -> Mapping[str, str]:
        """What the program said that its clients need."""
        return self.listeners[-1].parameters if self.listeners else {}

    async def close(self) -> None:
        await self._client.close()
        for listener in self.listeners:
            await listener.end()


class Programs:
    """All programs of one client or node, on one event loop.

    Args:
        folder: private; each program has one below it for its state.
        proxy: URI of the proxy that client programs must use (TOR_PT_PROXY); nothing: none.

    Raises:
        UserError: two programs for one transport.
    """

    def __init__(self, commands: Sequence[Command], folder: Path, proxy: str = "") -> None:
        self._folder = folder.absolute()
        self._commands: dict[str, Command] = {}
        self._clients: dict[Command, ClientProgram] = {}
        for command in commands:
            client = ClientProgram(command, self._folder / f"{command.transports[0]}-client", proxy)
            self._clients[command] = client
            for name in command.transports:
                if name in self._commands:
                    raise UserError(f"pluggable: {name} has two programs. Leave one away")
                self._commands[name] = command

    def of(self, name: str) -> ManagedTransport | None:
        """The transport `name`, if a program is configured for it; also for a name that is built in."""
        command = self._commands.get(name)
        if command is None:
            return None
        return ManagedTransport(name, command, self._clients[command], self._folder / f"{name}-server")
