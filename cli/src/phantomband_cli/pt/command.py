"""The program from its start to its end (pt-spec, sections 3 and 3.4)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from phantomband.core.errors import UserError
from phantomband.runtime.allocator import tune_allocator
from phantomband.transports.registry import TRANSPORTS, make

from phantomband_cli.process import raise_file_limit
from phantomband_cli.pt.client import LOOPBACK, ClientRole
from phantomband_cli.pt.environment import BY_HAND, ClientSetup, Common, ServerSetup, Unusable, asked, read
from phantomband_cli.pt.role import Role
from phantomband_cli.pt.server import ServerRole
from phantomband_cli.pt.talk import Talk

OFFERED = tuple(name for name in TRANSPORTS if name != "tcp")
"""Plain TCP hides nothing."""

ANYWHERE = ("0.0.0.0", 0)
"""Where a transport listens that the parent named no address for."""

PARENT_SECONDS = 1.0
"""Between two looks whether the parent lives, where standard input does not tell."""

BAD_ENVIRONMENT = 2
"""Exit code."""


def run_pt(environment: Mapping[str, str] = os.environ, out: TextIO | None = None) -> int:
    """Runs until the parent process wants us no longer. Returns: exit code."""
    talk = Talk(out or sys.stdout)
    if not asked(environment):
        if not sys.stdout.isatty():
            talk.say("ENV-ERROR TOR_PT_MANAGED_TRANSPORT_VER is not set")
        print(BY_HAND.format(names=",".join(OFFERED), program=os.path.abspath(sys.argv[0])), end="", file=sys.stderr)
        return BAD_ENVIRONMENT
    try:
        setup = read(environment)
        talk.say("VERSION", setup.common.version)
        if isinstance(setup, ClientSetup) and setup.proxy is not None:
            talk.say("PROXY DONE")
    except Unusable as e:
        talk.say(e.keyword, str(e))
        return BAD_ENVIRONMENT
    tune_allocator()
    raise_file_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_main(setup, talk))
    return 0


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


async def _main(setup: ClientSetup | ServerSetup, talk: Talk) -> None:
    ending = Ending(setup.common)
    async with asyncio.TaskGroup() as tasks:
        if isinstance(setup, ClientSetup):
            role: Role = await _client(setup, talk, tasks)
        else:
            role = await _server(setup, talk, tasks)
        await ending.gentle.wait()
        await role.close_listeners()
        idle = asyncio.ensure_future(role.idle.wait())
        now = asyncio.ensure_future(ending.now.wait())
        await asyncio.wait({idle, now}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        now.cancel()
        role.abort()
        ending.close()


async def _client(setup: ClientSetup, talk: Talk, tasks: asyncio.TaskGroup) -> Role:
    role = ClientRole(talk, tasks)
    for name in setup.common.transports:
        if name not in OFFERED:
            continue  # "Unknown transports [...] are ignored entirely, and MUST NOT result in a CMETHOD-ERROR"
        try:
            talk.client_method(name, LOOPBACK, await role.listen(make(name, setup.proxy)))
        except (OSError, UserError) as e:
            talk.say("CMETHOD-ERROR", name, e.strerror or "" if isinstance(e, OSError) else str(e))
    talk.say("CMETHODS DONE")
    return role


async def _server(setup: ServerSetup, talk: Talk, tasks: asyncio.TaskGroup) -> Role:
    role = ServerRole(talk, tasks, setup.forward, setup.cookie)
    for name in setup.common.transports:
        if name not in OFFERED:
            continue
        where = setup.bind.get(name, ANYWHERE)
        try:
            port, arguments = await role.listen(make(name), where, setup.options.get(name, {}), setup.common.state)
            talk.server_method(name, where[0], port, arguments)
        except (OSError, UserError) as e:
            talk.say("SMETHOD-ERROR", name, e.strerror or "" if isinstance(e, OSError) else str(e))
    talk.say("SMETHODS DONE")
    return role


class Ending:
    """When to end: SIGINT once, gently, when no connection is left; twice, SIGTERM, or the parent's end: at once."""

    def __init__(self, common: Common) -> None:
        self.gentle, self.now = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._parent = os.getppid()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_signal_handler(signal.SIGINT, self._interrupted)
        self._loop.add_signal_handler(signal.SIGTERM, self._at_once)
        self._reading = False
        if common.exit_on_stdin_close:
            self._watch_input()
        else:
            self._watch_parent()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._reading:
            self._loop.remove_reader(0)

    def _interrupted(self) -> None:
        if self.gentle.is_set():
            self.now.set()
        self.gentle.set()

    def _at_once(self) -> None:
        self.gentle.set()
        self.now.set()

    def _watch_input(self) -> None:
        try:
            self._loop.add_reader(0, self._input)
            self._reading = True
        except (OSError, ValueError):  # a file, or /dev/null: at its end already
            self._at_once()

    def _input(self) -> None:
        data = b""
        with suppress(OSError):
            data = os.read(0, 4096)
        if not data:
            self._loop.remove_reader(0)
            self._reading = False
            self._at_once()

    def _watch_parent(self) -> None:
        if os.getppid() != self._parent:
            self._at_once()
        else:
            self._timer = self._loop.call_later(PARENT_SECONDS, self._watch_parent)
