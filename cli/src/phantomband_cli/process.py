"""Processes: forking a warm child, knowing one again by its start time, and letting none outlive us. Linux.

A pid alone says little: it may have been given to another process. So state files hold pid and start time,
the 22nd field of /proc/PID/stat (proc(5)), in clock ticks since boot.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
"""Option numbers of prctl(2), linux/prctl.h."""

NAME_BYTES = 15
"""Longest name that PR_SET_NAME keeps."""

OPEN_FILES = 65_536
"""Wanted limit of open files: 10,000 streams have a socket each at client and exit."""

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
"""Signals whose handlers a child must not inherit from a supervisor."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, never mistaken for a later one with the same number."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        return cls(pid, start_time(pid) or 0)

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def kill(self, number: int) -> None:
        """Sends a signal if the process still runs."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`; None if there is none, or only its remains (a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def set_name(name: str) -> None:
    """What ps and top show for this process."""
    _prctl(PR_SET_NAME, name.encode()[:NAME_BYTES])


def adopt_orphans() -> None:
    """Grandchildren whose parent dies become our children, so that they can be ended and waited for."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def raise_file_limit() -> None:
    """Lets this process and its children open as many files as they may, up to 65,536."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def spawn(name: str, run: Callable[[], None], log: Path | None) -> int:
    """Forks a child that runs `run` and ends; it is killed when we die.

    Only for a process with one thread and no gRPC in use. The child has default signal handlers and none of
    our open files but standard output and error, which go to the end of `log` if there is one.

    Returns: its pid.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        pid = os.fork()
        if pid == 0:
            _child(parent, name, run, log, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _child(
    parent: int, name: str, run: Callable[[], None], log: Path | None, mask: set[int | signal.Signals]
) -> NoReturn:
    code = 1
    try:
        _become_child(parent, name, log, mask)
        run()
        code = 0
    except SystemExit as e:
        code = _exit_code(e)
    except BaseException:  # noqa: BLE001 - the child's root
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _exit_code(e: SystemExit) -> int:
    """Text means a user's mistake: it is printed, as Python would do, and the code is 2."""
    if e.code is None or isinstance(e.code, int):
        return e.code or 0
    print(e.code, file=sys.stderr)
    return 2


def _become_child(parent: int, name: str, log: Path | None, mask: set[int | signal.Signals]) -> None:
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    set_name(f"pb-{name}")
    redirect(log)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def redirect(log: Path | None) -> None:
    """Standard input from nowhere; output and errors appended to `log`, if there is one."""
    _replace(0, os.open(os.devnull, os.O_RDONLY))
    if log is not None:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(target, 2)
        _replace(1, target)


def _replace(standard: int, handle: int) -> None:
    os.dup2(handle, standard)
    if handle != standard:
        os.close(handle)


def _prctl(option: int, value: int | bytes) -> None:
    """prctl(2) where there is one."""
    try:
        ctypes.CDLL(None).prctl(option, ctypes.c_char_p(value) if isinstance(value, bytes) else value, 0, 0, 0)
    except (AttributeError, OSError):
        pass
