"""A running program: its lines, its end, and nothing of it left behind.

It has a session of its own, and is killed by the system when we die. Its standard input says by its end that it shall
go. **Limits**: `MAX_LINE` bytes of a line, `RATE` bytes a second; a program that says more waits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from phantomband.transports.managed.messages import MAX_LINE

READ_BYTES = 32 * 1024
RATE = 256 * 1024
"""Bytes a second that are read of one program's output."""

TERM_SECONDS, KILL_SECONDS = 2.0, 4.0
"""After its standard input was closed: SIGTERM, then SIGKILL."""

LAUNCH = Path(__file__).with_name("launch.py")


class Process:
    """Started by the constructor, on the thread of the event loop.

    Args:
        command: absolute path of the program, and its arguments.
        environment: all that it gets.
        folder: its working directory.
        said: called with each line of its standard output (True) and standard error (False).
        ended: called once, with its exit code (negative: a signal).

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        said: Callable[[bytes, bool], None],
        ended: Callable[[int], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        launcher = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid())]
        self._popen = subprocess.Popen(
            [*launcher, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=dict(environment), cwd=folder, start_new_session=True,
        )  # fmt: skip
        assert self._popen.stdout is not None  # noqa: S101  (asked for)
        assert self._popen.stderr is not None  # noqa: S101
        self._ended = ended
        self._timers: list[asyncio.TimerHandle] = []
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._outputs = [
            _Output(self._loop, self._popen.stdout.fileno(), lambda line: said(line, True)),
            _Output(self._loop, self._popen.stderr.fileno(), lambda line: said(line, False)),
        ]
        self._exit = os.pidfd_open(self._popen.pid)
        self._loop.add_reader(self._exit, self._exited)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return not self.gone.done()

    def stop(self) -> None:
        """Asks it to end, ever more firmly; `ended` is called when it has."""
        if self._timers or not self.alive:
            return
        self._close_input()
        self._timers = [
            self._loop.call_later(TERM_SECONDS, self.signal, signal.SIGTERM),
            self._loop.call_later(KILL_SECONDS, self.signal, signal.SIGKILL),
        ]

    def signal(self, number: int) -> None:
        """To it and all its children that are in its session's group."""
        if self.alive:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)

    async def close(self) -> None:
        """`stop`, and waits for the end."""
        self.stop()
        await asyncio.shield(self.gone)

    def _exited(self) -> None:
        self._loop.remove_reader(self._exit)
        os.close(self._exit)
        # Before it is waited for: until then its number, which is the group's too, is nobody else's.
        self.signal(signal.SIGKILL)
        code = self._popen.wait()
        for timer in self._timers:
            timer.cancel()
        for output in self._outputs:
            output.close()
        for pipe in (self._popen.stdout, self._popen.stderr):
            assert pipe is not None  # noqa: S101  (asked for)
            pipe.close()
        self._close_input()
        self.gone.set_result(None)
        self._ended(code)

    def _close_input(self) -> None:
        if self._popen.stdin is not None:
            with suppress(OSError):
                self._popen.stdin.close()


class _Output:
    """Lines of one pipe."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handle: int, said: Callable[[bytes], None]) -> None:
        self._loop, self._handle, self._said = loop, handle, said
        self._line = bytearray()
        self._too_long = False
        self._left = RATE
        self._since = loop.time()
        self._pause: asyncio.TimerHandle | None = None
        self._open = True
        os.set_blocking(handle, False)
        loop.add_reader(handle, self._readable)

    def close(self) -> None:
        """Reads what is there, at most what the rate allows, and stops."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        while self._open and self._left > 0 and self._read():
            pass
        self._end()

    def _readable(self) -> None:
        now = self._loop.time()
        if now - self._since >= 1.0:
            self._since, self._left = now, RATE
        if self._left <= 0:
            self._loop.remove_reader(self._handle)
            self._pause = self._loop.call_later(1.0, self._resume)
            return
        self._read()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._handle, self._readable)

    def _read(self) -> bool:
        try:
            data = os.read(self._handle, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._end()
            return False
        self._left -= len(data)
        *lines, rest = data.split(b"\n")
        for piece in lines:
            self._add(piece)
            line, too_long = bytes(self._line), self._too_long
            self._line.clear()
            self._too_long = False
            if not too_long:
                self._said(line)
        self._add(rest)
        return True

    def _add(self, piece: bytes) -> None:
        if self._too_long or len(self._line) + len(piece) > MAX_LINE:
            self._too_long = True
            self._line.clear()
        else:
            self._line += piece

    def _end(self) -> None:
        if self._open:
            self._open = False
            if self._pause is not None:
                self._pause.cancel()
            self._loop.remove_reader(self._handle)
