"""One managed program from its start to its end, as pt-spec, section 3, has it: what it was asked, what it said."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import structlog

from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.transports.managed import messages
from phantomband.transports.managed.arguments import NAME
from phantomband.transports.managed.messages import parse_untrusted
from phantomband.transports.managed.process import Process
from phantomband.transports.managed.scrub import scrub

VERSION = "1"
"""Of the protocol: PT 1.0's, which 2.x programs speak too."""

START_SECONDS = 30.0
"""From the start of a program to `METHODS DONE`."""

FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
"""Seconds before a program that ended is started again: the first time, and at most. Doubled in between."""

STEADY_SECONDS = 60.0
"""A program that ran so long has not failed at its start: the pauses begin anew."""

LOG_LINES = 20
"""Of one program, in ten seconds; more are counted."""

LOG_SECONDS = 10.0

TOLD = ("error", "warning", "notice")
"""Severities of what may be the reason of a failure. That its broker does not answer is a notice of Snowflake's."""

PASSED_ON = ("PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Of our environment. Nothing else: settings of ours stand in it."""

FORM = 'NAME[,NAME...] exec PROGRAM [ARGUMENT...], for example "webtunnel exec /usr/bin/lyrebird"'


class ProgramFailed(Refused):
    """A program did not start, or ended; the text is for people, without addresses."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program, and the transports that it is to be used for."""

    transports: tuple[str, ...]
    words: tuple[str, ...]
    """Its path and its arguments."""

    @classmethod
    def of(cls, transports: tuple[str, ...], program: str, arguments: tuple[str, ...] = ()) -> Self:
        """Raises: UserError: there is no such program, or a name that addresses cannot have."""
        for name in transports:
            if not NAME.fullmatch(name) or name.lower() != name or name.startswith("_") or len(name) > 16:
                raise UserError(f"transport {name!r}: a name has up to 16 of a-z, 0-9 and _. Write {FORM}")
        if not transports:
            raise UserError(f"a program without transports is of no use. Write {FORM}")
        path = shutil.which(os.path.expanduser(program))
        if path is None:
            raise UserError(f"program {program!r} is not there, or may not be executed. Install it, or mend the path")
        return cls(transports, (os.path.abspath(path), *arguments))

    @property
    def label(self) -> str:
        """The program's name, for the log."""
        return Path(self.words[0]).name


def split_plugin(text: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """Transports, program and arguments of a line in the form `FORM`. Raises: UserError."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if len(words) < 3 or words[1] != "exec":
        raise UserError(f"--pt {text!r} cannot be used. Write {FORM}")
    return tuple(words[0].split(",")), words[2], tuple(words[3:])


class Run:
    """One run of a program.

    Args:
        asked: the environment variables of its role.
        folder: where it keeps its state; made with mode 0700.
        ended: called once, if it ends after `ready`.

    **Limits**: `START_SECONDS` to get ready, then it is stopped; `LOG_LINES`.
    """

    def __init__(self, command: Command, asked: Mapping[str, str], folder: Path, ended: Callable[[], None]) -> None:
        self.methods: dict[str, messages.Method] = {}
        self._command, self._on_end = command, ended
        self._loop = asyncio.get_running_loop()
        self.started = self._loop.time()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.ready.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._errors: dict[str, str] = {}
        self._proxy_wanted = bool(asked.get("TOR_PT_PROXY"))
        self._version = self._leaving = False
        self.word = ""
        """What it said last of how it fares, or how it ended; for people, scrubbed."""
        self._log = structlog.get_logger().bind(program=command.label)
        self._lines, self._lines_since, self._lines_left_out = 0, self.started, 0
        self._patience = self._loop.call_later(START_SECONDS, self._too_slow)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process: Process | None = None
        try:
            self._process = Process(command.words, _environment(asked, folder), folder, self._said, self._ended)
        except OSError as e:
            self._fail(f"it cannot be started ({e.strerror})")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.alive else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def method(self, name: str) -> messages.Method:
        """Of a run that is ready. Raises: ProgramFailed: it does not do this transport; says why."""
        if name in self.methods:
            return self.methods[name]
        why = self._errors.get(name)
        said = f"says: {why}" if why else f"does not know the transport {name}"
        raise ProgramFailed(f"the program {self._command.label} {said}")

    def drain(self) -> None:
        """Asks it to listen no longer, and to go when its connections have ended: SIGINT, as obfs4proxy has it."""
        self._leaving = True
        if self._process is not None:
            self._process.signal(signal.SIGINT)

    def stop(self) -> None:
        self._leaving = True
        if self._process is not None:
            self._process.stop()

    async def close(self) -> None:
        """Ends it, and waits until it has."""
        self._patience.cancel()
        self._on_end, self._leaving = _nothing, True
        if self._process is not None:
            await self._process.close()

    # ---- what it says --------------------------------------------------------------------------------------------

    def _said(self, line: bytes, output: bool) -> None:
        try:
            message = parse_untrusted(line)
        except Malformed as e:
            self._write("warning", f"a line that cannot be used: {e}")
            return
        match message:
            case messages.Log(severity, text):
                if severity in TOLD:
                    self.word = f"says: {scrub(text)}"
                # Below a warning it may be a line for each connection, which would be a record of them.
                self._write(severity if severity in ("error", "warning") else "debug", text)
            case messages.Status(transport, values):
                self._write("debug", " ".join([transport, *(f"{k}={v}" for k, v in values.items())]))
            case messages.Unknown():
                self._write("debug", line.decode("utf-8", "replace"))
            case messages.Failed() | messages.MethodFailed() if not self.ready.done():
                self._answer(message)
            case _ if output and not self.ready.done():
                self._answer(message)
            case _:
                self._write("debug", "said what belongs to its start later")

    def _answer(self, message: messages.Message) -> None:
        match message:
            case messages.Version(number):
                if number != VERSION:
                    self._fail(f"it speaks version {scrub(number)} of the protocol, which was not offered")
                self._version = True
            case messages.Failed(keyword, text):
                self._fail(f"it says: {keyword} {scrub(text)}")
            case messages.ProxyDone():
                self._proxy_wanted = False
            case messages.Method():
                if message.transport in self._command.transports:
                    self.methods[message.transport] = message
            case messages.MethodFailed(transport, text):
                if transport in self._command.transports:
                    self._errors[transport] = scrub(text)
            case messages.MethodsDone():
                self._done()

    def _done(self) -> None:
        if not self._version:
            self._fail("it is no pluggable transport: it did not say its version")
        elif self._proxy_wanted:
            # Fail closed: a program that says nothing of the proxy may dial without it.
            self._fail("it does not use the proxy that it was told to use")
        else:
            self._patience.cancel()
            self.ready.set_result(None)

    def _write(self, level: str, text: str) -> None:
        now = self._loop.time()
        if now - self._lines_since >= LOG_SECONDS:
            if self._lines_left_out:
                self._log.warning("lines of the program left out", count=self._lines_left_out)
            self._lines, self._lines_since, self._lines_left_out = 0, now, 0
        self._lines += 1
        if self._lines > LOG_LINES:
            self._lines_left_out += 1
        else:
            getattr(self._log, level)("the program says", text=scrub(text))

    # ---- its end -------------------------------------------------------------------------------------------------

    def _too_slow(self) -> None:
        self._fail(f"it was not ready within {START_SECONDS:.0f} seconds")

    def _ended(self, code: int) -> None:
        self._patience.cancel()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if self.ready.done():
            if self.ready.exception() is None and not self._leaving:
                self.word = f"ended {how}"
                self._log.warning("the program ended", how=how)
        else:
            self._fail(f"it ended {how} before it was ready")
        on_end, self._on_end = self._on_end, _nothing
        on_end()

    def _fail(self, why: str) -> None:
        if not self.ready.done():
            self._patience.cancel()
            text = f"the program {self._command.label} cannot be used: {why}"
            self._log.warning("the program cannot be used", why=why)
            self.ready.set_exception(ProgramFailed(text))
            self.stop()


class Pauses:
    """How long to wait before a program is started again."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE

    def after(self, lived: float) -> float:
        """Args: lived: seconds that the last run took. Returns: seconds."""
        if lived >= STEADY_SECONDS:
            self._next = FIRST_PAUSE
        pause, self._next = self._next, min(2 * self._next, LAST_PAUSE)
        return pause


def _environment(asked: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        "HOME": str(folder),
        "TOR_PT_MANAGED_TRANSPORT_VER": VERSION,
        "TOR_PT_STATE_LOCATION": str(folder),
        "TOR_PT_EXIT_ON_STDIN_CLOSE": "1",
        **asked,
    }


def _nothing() -> None: ...
