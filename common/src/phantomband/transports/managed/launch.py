"""Becomes the program that stands behind it on the command line, and dies when the process that started it dies.

    python -I -S launch.py PARENT-PID PROGRAM ARGUMENT...

A process of its own, because nothing may run between fork and exec in a process with threads. What goes wrong is said
as a managed program says it (pt-spec, section 3.3.1). Linux; elsewhere the closed standard input must do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2), linux/prctl.h."""


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (AttributeError, OSError):
        pass
    if os.getppid() != parent:
        sys.exit(1)
    try:
        os.execv(command[0], command)  # noqa: S606 - that is what it is for
    except OSError as e:
        print(f"ENV-ERROR cannot be started: {e.strerror}", flush=True)
        sys.exit(127)


if __name__ == "__main__":
    main()
