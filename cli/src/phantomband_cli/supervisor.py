"""Keeps a set of processes running, forked from this warm one: restarts those that die, ends all when told.

One thread, no event loop and no gRPC here: a fork must copy nothing that only half works in the child.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from phantomband_cli.process import ProcessId, adopt_orphans, raise_file_limit, spawn
from phantomband_cli.restarts import Restarts

RunState = Literal["starting", "running", "waiting", "failing", "stopped"]

USER_ERROR = 2
"""Exit code of a service whose configuration cannot work: restarting does not help."""

_WAKING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run."""

    name: str
    run: Callable[[], None]
    """Called in the child; its return ends the process."""
    log: Path | None = None
    """Where its output goes; absent: to ours."""


@dataclass(slots=True)
class Running:
    """One program and what became of it."""

    program: Program
    process: ProcessId | None = None
    started_at: float = 0.0
    due: float = 0.0
    """When it is to be started, while it does not run."""
    restarts: Restarts = field(default_factory=Restarts)

    @property
    def state(self) -> RunState:
        if self.restarts.failing:
            return "failing"
        return "running" if self.process else "waiting"


class Observer(Protocol):
    """Who is told what happens."""

    def changed(self, programs: Sequence[Running], stopping: bool) -> None:
        """Something started, died or was given up."""

    def lifeline(self, handle: int) -> bool:
        """The lifeline became readable; True: stop."""


class Supervisor:
    """Runs programs until SIGTERM, SIGINT or SIGHUP, or until the observer's lifeline says so.

    Args:
        grace: seconds from SIGTERM to SIGKILL.
        lifeline: a file to watch, whose end means that whoever started us is gone.
        stop_on_user_error: end everything when a program exits with code 2 right after its first start.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        observer: Observer,
        grace: float,
        lifeline: int | None = None,
        stop_on_user_error: bool = False,
    ) -> None:
        self._all = [Running(p) for p in programs]
        self._observer = observer
        self._grace = grace
        self._lifeline = lifeline
        self._stop_on_user_error = stop_on_user_error
        self._stopping: float | None = None
        self._exit_code = 0
        self._changed = True

    def run(self) -> int:
        """Works until all has ended. Returns: exit code for this process."""
        raise_file_limit()
        adopt_orphans()
        wake, waker = os.pipe()
        for handle in (wake, waker):
            os.set_blocking(handle, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in _WAKING:
            signal.signal(number, lambda *_: None)
        try:
            self._loop(wake)
        finally:
            self._kill_all()
            signal.set_wakeup_fd(-1)
        return self._exit_code

    def _loop(self, wake: int) -> None:
        while self._stopping is None or any(r.process for r in self._all):
            now = time.monotonic()
            self._start_due(now)
            self._tell()
            handles = [wake] if self._lifeline is None else [wake, self._lifeline]
            ready, _, _ = select.select(handles, [], [], self._timeout(now))
            if wake in ready and set(os.read(wake, 4096)) - {int(signal.SIGCHLD)}:
                self._stop()
            if self._lifeline in ready and self._lifeline is not None:
                self._read_lifeline()
            self._reap()
            if self._stopping is not None and time.monotonic() > self._stopping:
                self._kill_all()
        self._tell()

    def _read_lifeline(self) -> None:
        assert self._lifeline is not None  # noqa: S101 - the caller has just read from it
        if self._observer.lifeline(self._lifeline):
            self._stop()
        self._lifeline = None

    def _timeout(self, now: float) -> float | None:
        due = [r.due for r in self._all if r.process is None] if self._stopping is None else [self._stopping]
        return max(0.0, min(due) - now) if due else None

    def _start_due(self, now: float) -> None:
        if self._stopping is not None:
            return
        for running in self._all:
            if running.process is None and running.due <= now:
                program = running.program
                running.process = ProcessId.of(spawn(program.name, program.run, program.log))
                running.started_at = time.monotonic()
                self._changed = True

    def _reap(self) -> None:
        """Takes note of every child that ended, adopted ones included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for running in self._all:
                if running.process is not None and running.process.pid == pid:
                    self._ended(running, os.waitstatus_to_exitcode(status))

    def _ended(self, running: Running, code: int) -> None:
        now = time.monotonic()
        running.process = None
        self._changed = True
        if self._stopping is not None:
            return
        first = running.restarts.count == 0
        running.due = now + running.restarts.died(now - running.started_at, code)
        if self._stop_on_user_error and code == USER_ERROR and first:
            self._exit_code = USER_ERROR
            self._stop()

    def _stop(self) -> None:
        """First call: SIGTERM to all. Second: SIGKILL."""
        if self._stopping is not None:
            self._kill_all()
            return
        self._stopping = time.monotonic() + self._grace
        self._changed = True
        self._signal(signal.SIGTERM)

    def _kill_all(self) -> None:
        self._signal(signal.SIGKILL)
        if self._stopping is not None:
            self._stopping = time.monotonic() + self._grace

    def _signal(self, number: int) -> None:
        for running in self._all:
            if running.process is not None:
                running.process.kill(number)

    def _tell(self) -> None:
        if self._changed:
            self._changed = False
            self._observer.changed(self._all, self._stopping is not None)
