"""The files that a program keeps for its next start, written and read in one place.

A write never fails its caller: what cannot be written now (a full disk) is held, tried again, and said in `problem`. A
file is replaced whole or not at all. Of what cannot be had again (`copy`) a second file, NAME.copy, is written once the
first is on disk; so one damaged file loses nothing, and a start that finds both damaged is refused instead of going on
as if there had been none: guards drawn anew because of a disk would be a gift to whoever runs the new ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from phantomband.core.errors import Malformed, UserError
from phantomband.runtime.keystore import write_whole

T = TypeVar("T")

RETRY_SECONDS = (1.0, 60.0)
"""Pause before what could not be written is tried again, from the first to the last: doubled each time."""

MAX_STATE_BYTES = 16 * 1024 * 1024
"""A larger file is none of ours (a view has at most 3.5 MiB)."""

COPY = ".copy"

DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, Malformed)
"""What reading a damaged file raises: JSON that is none or too deep, values of other types, numbers out of range. Every
reader of a file of ours catches all of them: one that has a list of its own forgets some."""


class StateFiles:
    """The state in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problem = ""
        """What a person should know and do; empty when all is on disk."""
        self._waiting: dict[str, bytes] = {}
        """Newest content of each file that could not be written, by its name: as many as there are files."""
        self._failed = asyncio.Event()
        self._log = structlog.get_logger()

    # ---- writing -------------------------------------------------------------------------------------------------

    def write(self, name: str, data: bytes, *, copy: bool = False) -> None:
        """Replaces the file, now or as soon as the disk lets us."""
        for one in (name, name + COPY) if copy else (name,):
            self._waiting[one] = data
        self._flush()

    async def keep(self) -> None:
        """Tries again what could not be written, until cancelled."""
        pause, last = RETRY_SECONDS
        while True:
            await self._failed.wait()
            await asyncio.sleep(pause)
            self._flush()
            pause = min(2 * pause, last) if self._waiting else RETRY_SECONDS[0]

    def _flush(self) -> None:
        """In the order in which they came: a copy is written only when the file itself is safe."""
        for name, data in list(self._waiting.items()):
            try:
                self._replace(self.directory / name, data)
            except OSError as e:
                self._report(f"{self.directory}: cannot be written to ({e.strerror}); what changes is kept in memory "
                             "and tried again. Make room there, or let us write")  # fmt: skip
                self._failed.set()
                return
            del self._waiting[name]
        self._failed.clear()
        self.problem = ""

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        """Also in the place of an empty directory, which somebody made there by mistake."""
        try:
            write_whole(path, data)
        except IsADirectoryError:
            path.rmdir()
            write_whole(path, data)

    def _report(self, problem: str) -> None:
        if not self.problem:
            self._log.warning("state cannot be written: it is tried again")
        self.problem = problem

    # ---- reading -------------------------------------------------------------------------------------------------

    def read(self, name: str, parse: Callable[[bytes], T], *, copy: bool = False) -> T | None:
        """What the file holds; None when there is none, or, without `copy`, when it cannot be used.

        Args: parse: raises ValueError, Malformed or the like for content that is not ours.

        Raises:
            UserError: a file of which there is a copy, and neither can be used.
        """
        if not copy:
            try:
                return parse(self._bytes(name))
            except FileNotFoundError:
                return None
            except (OSError, *DAMAGE):
                self._log.warning("a stored file cannot be used: it is had anew", file=name)
                return None
        return self._read_either(name, parse)

    def _read_either(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        problem = ""
        for one in (name, name + COPY):
            try:
                found = parse(data := self._bytes(one))
            except FileNotFoundError:
                continue
            except OSError as e:
                problem = problem or f"cannot be read ({e.strerror})"
            except DAMAGE:
                problem = problem or "is damaged"
            else:
                if one != name:
                    self._log.warning("a stored file is missing or damaged: its copy is used", file=name)
                    self.write(name, data, copy=True)
                return found
        if problem:
            path = self.directory / name
            raise UserError(
                f"{path}: {problem}, and there is no good copy beside it. Put one of them back from a backup, or give "
                f"up what it held by removing {path} and {path.name}{COPY}"
            )
        return None

    def _bytes(self, name: str) -> bytes:
        with (self.directory / name).open("rb") as f:
            data = f.read(MAX_STATE_BYTES + 1)
        if len(data) > MAX_STATE_BYTES:
            raise ValueError("too large")
        return data
