"""`testnet up`: starts the supervisor, shows how far the client is, and holds or lets go of the network."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import UserError

from phantomband_cli.process import ProcessId
from phantomband_cli.testnet.down import stop
from phantomband_cli.testnet.events import DETACH, EventReader, EventWriter
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.run import already_running, main_in_child
from phantomband_cli.testnet.state import State, read_state, supervisor_of

POLL_SECONDS = 0.03
TIMEOUT_SECONDS = 60.0
"""A network that is not up after so long will not be."""

LOG_LINES = 8

Report = Callable[[int, str], None]
"""Told percent and phase of the bootstrap."""


@dataclass(slots=True)
class Network:
    """A running network that ends with us, unless let go."""

    layout: Layout
    supervisor: ProcessId
    events: EventReader
    lifeline: int

    def state(self) -> State:
        state = read_state(self.layout)
        if state is None:
            raise UserError(f"the test network has ended. See {self.layout.log('supervisor')}")
        return state

    def let_go(self) -> None:
        """From now on it outlives us."""
        os.write(self.lifeline, DETACH)
        os.close(self.lifeline)
        self.lifeline = -1

    def wait(self) -> None:
        """Returns when the supervisor has ended."""
        try:
            os.waitpid(self.supervisor.pid, 0)
        except ChildProcessError:
            pass

    def check(self) -> None:
        """Reads what the supervisor says.

        Raises:
            UserError: the network cannot work.
        """
        for event in self.events.read():
            if event["event"] == "failed":
                raise UserError(event["error"])
            if event["event"] == "failing":
                raise UserError(_failing(event["name"], Path(event["log"])))
        if self.events.ended:
            raise UserError(f"the test network's supervisor has ended. See {self.layout.log('supervisor')}")


def _failing(name: str, log: Path) -> str:
    lines = "\n".join(f"  {line}" for line in last_lines(log))
    return f"{name} dies again and again. The last lines of {log}:\n{lines}"


def last_lines(log: Path, count: int = LOG_LINES) -> list[str]:
    """The end of a log file."""
    try:
        return log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return ["(no log)"]


@contextmanager
def network(layout: Layout, options: Options, report: Report) -> Iterator[Network]:
    """A network that is up; on leaving, it is stopped, unless it was let go.

    Raises:
        UserError: it cannot start; says why.
    """
    if supervisor_of(layout) is not None:
        raise UserError(already_running(layout))
    up = launch(layout, options)
    try:
        wait_up(up, report)
        yield up
    finally:
        if up.lifeline >= 0:
            stop(layout, up.supervisor)
            os.close(up.lifeline)


def launch(layout: Layout, options: Options) -> Network:
    """Forks the supervisor, before this process has imported or started anything that a fork would break."""
    event_reader, event_writer = os.pipe()
    lifeline_reader, lifeline_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(event_reader)
        os.close(lifeline_writer)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        main_in_child(layout, options, EventWriter(event_writer), lifeline_reader)
    os.close(event_writer)
    os.close(lifeline_reader)
    return Network(layout, ProcessId.of(pid), EventReader(event_reader), lifeline_writer)


def wait_up(up: Network, report: Report) -> None:
    """Returns when the client is bootstrapped.

    Raises:
        UserError: it cannot be.
    """
    from phantomband_cli.control import ClientControl, NoAnswer

    end = time.monotonic() + TIMEOUT_SECONDS
    last: tuple[int, str] = (-1, "starting")
    with ClientControl(up.layout.client_socket) as client:
        while last[0] < 100:
            up.check()
            if time.monotonic() > end:
                raise UserError(f"not up after {TIMEOUT_SECONDS:.0f} s: {last[1]}. Look into {up.layout.logs}")
            try:
                status = client.status(timeout=1.0)
            except NoAnswer:
                now = (0, "starting processes")
            else:
                now = (status.bootstrap.percent, status.bootstrap.phase)
            if now != last:
                last = now
                report(*now)
            if now[0] < 100:
                time.sleep(POLL_SECONDS)
