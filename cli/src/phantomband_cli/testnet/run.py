"""The supervisor of a test network: prepares it, forks its services, keeps the state file."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import BinaryIO

from phantomband.core.errors import UserError

from phantomband_cli.process import ProcessId, redirect, set_name
from phantomband_cli.services import NODE_SERVICES, program, warm_up
from phantomband_cli.supervisor import Program, Running, Supervisor
from phantomband_cli.testnet.events import DETACH, EventWriter
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.ports import LOOPBACK
from phantomband_cli.testnet.prepare import Prepared, prepare
from phantomband_cli.testnet.state import ServiceState, State, take_lock, write_state

GRACE_SECONDS = 3.0
"""From SIGTERM to SIGKILL; nothing of worth is lost in a test network."""

CLIENT = "client"


def run_testnet(layout: Layout, options: Options, events: EventWriter, lifeline: int) -> int:
    """Runs a test network until told to stop. Called in a process of its own, with one thread.

    Returns: the process's exit code.
    """
    os.setsid()
    os.umask(0o077)
    set_name("pb-testnet")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        return _run(layout, options, events, lifeline)
    except UserError as e:
        events.tell("failed", error=str(e))
        return 2
    except Exception as e:  # noqa: BLE001 - the process's root: whoever started us must learn of it
        traceback.print_exc()
        events.tell("failed", error=f"{type(e).__name__}: {e}. See {layout.log('supervisor')}")
        return 1


def _run(layout: Layout, options: Options, events: EventWriter, lifeline: int) -> int:
    layout.claim()
    lock = take_lock(layout)
    if lock is None:
        raise UserError(already_running(layout))
    try:
        layout.clear()
        redirect(layout.log("supervisor"))
        _clean_environment()
        prepared = prepare(layout, options, time.time(), os.urandom)
        warm_up([*NODE_SERVICES, CLIENT])
        events.tell("prepared")
        keeper = _Keeper(layout, options, prepared, events)
        return Supervisor(_programs(layout, options), keeper, GRACE_SECONDS, lifeline).run()
    finally:
        _end(layout, lock)


def _end(layout: Layout, lock: BinaryIO) -> None:
    layout.remove_secrets()
    lock.close()


def already_running(layout: Layout) -> str:
    """What to say to a second `up`."""
    remedy = f"phantomband testnet down{layout.flag}"
    return f"a test network already runs in {layout.root}. Stop it with: {remedy}"


def _clean_environment() -> None:
    """The environment is stronger than the files; only what it says of logs is meant for all services."""
    for name in list(os.environ):
        if name.startswith("PHANTOMBAND_") and not name.startswith("PHANTOMBAND_LOG__"):
            del os.environ[name]


def _programs(layout: Layout, options: Options) -> list[Program]:
    """The client first, because it is waited for; then service by service, directories first."""
    client = program(CLIENT, "client.client", ["--config", str(layout.client_config)], layout.log("client"))
    nodes = [
        program(
            service,
            f"{name}.{service}",
            ["--config", str(layout.node_config(name))],
            layout.log(f"{name}-{service}"),
        )
        for service in NODE_SERVICES
        for name in options.names
    ]
    return [*nodes, client]


class _Keeper:
    """Writes the state file, and tells the command that waits."""

    def __init__(self, layout: Layout, options: Options, prepared: Prepared, events: EventWriter) -> None:
        self._layout = layout
        self._options = options
        self._prepared = prepared
        self._events = events
        self._told: set[str] = set()

    def changed(self, programs: Sequence[Running], stopping: bool) -> None:
        write_state(self._layout, self._state(programs, stopping))
        for running in programs:
            name = running.program.name
            if running.restarts.failing and name not in self._told and not stopping:
                self._told.add(name)
                self._events.tell("failing", name=name, log=str(running.program.log))

    def lifeline(self, handle: int) -> bool:
        detached = os.read(handle, 1) == DETACH
        if detached:
            self._events.close()
        return not detached

    def _state(self, programs: Sequence[Running], stopping: bool) -> State:
        http = self._prepared.http_port
        return State(
            phase="stopping" if stopping else "running",
            run_dir=str(self._layout.run),
            socks=f"{LOOPBACK}:{self._prepared.socks_port}",
            http=None if http is None else f"{LOOPBACK}:{http}",
            options=self._options,
            services=tuple(_service_state(r) for r in programs),
        )


def _service_state(running: Running) -> ServiceState:
    node, _, service = running.program.name.partition(".")
    process = running.process or ProcessId(0, 0)
    return ServiceState(
        name=running.program.name,
        node=node,
        service=service,
        pid=process.pid or None,
        started=process.started,
        state=running.state,
        restarts=running.restarts.count,
        log=str(running.program.log),
    )


def main_in_child(layout: Layout, options: Options, events: EventWriter, lifeline: int) -> None:
    """`run_testnet` as the whole of a forked process; does not return."""
    code = 1
    try:
        code = run_testnet(layout, options, events, lifeline)
    finally:
        sys.stderr.flush()
        os._exit(code)
