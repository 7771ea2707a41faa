"""`testnet down`: ends a network, and makes sure of it."""

from __future__ import annotations

import os
import signal
import time

from phantomband.core.errors import UserError

from phantomband_cli.process import ProcessId
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.run import GRACE_SECONDS
from phantomband_cli.testnet.state import read_state, supervisor_of, take_lock

PATIENCE_SECONDS = GRACE_SECONDS + 3.0
"""The supervisor kills what does not end within its grace; if it does not end itself, we kill it."""

POLL_SECONDS = 0.02


def down(layout: Layout) -> bool:
    """Ends the network that runs in `layout`; leaves nothing running. Returns: False if there was none."""
    supervisor = supervisor_of(layout)
    if supervisor is None:
        _kill_rest(layout)
        return False
    while not supervisor.pid:  # it has only just taken the lock
        time.sleep(POLL_SECONDS)
        supervisor = supervisor_of(layout) or ProcessId(-1, -1)
    stop(layout, supervisor)
    return True


def stop(layout: Layout, supervisor: ProcessId) -> None:
    """Ends the supervisor, which ends its services."""
    supervisor.kill(signal.SIGTERM)
    end = time.monotonic() + PATIENCE_SECONDS
    while not _gone(supervisor):
        if time.monotonic() > end:
            supervisor.kill(signal.SIGKILL)  # the kernel kills its children then
        time.sleep(POLL_SECONDS)
    _kill_rest(layout)


def _gone(process: ProcessId) -> bool:
    """Whether it has ended; reaps it if it was our child."""
    try:
        os.waitpid(process.pid, os.WNOHANG)
    except (ChildProcessError, OSError):
        pass
    return not process.alive


def _kill_rest(layout: Layout) -> None:
    """What a supervisor that was killed may have left; its state file knows the services.

    The lock is held meanwhile: nothing of a network that somebody else has just started is touched.
    """
    if not layout.claimed or (lock := take_lock(layout)) is None:
        return
    with lock:
        try:
            state = read_state(layout)
        except UserError:  # a damaged file must not keep anybody from cleaning up
            state = None
        for service in state.services if state else ():
            if service.pid:
                ProcessId(service.pid, service.started).kill(signal.SIGKILL)
        layout.remove_secrets()
