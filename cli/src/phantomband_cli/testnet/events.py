"""What the supervisor of a test network tells the command that started it: JSON lines through a pipe.

    {"event": "prepared"}                                everything is written, processes are starting
    {"event": "failed", "error": text}                   it cannot start; the supervisor ends
    {"event": "failing", "name": text, "log": path}      a service dies again and again

The other way goes the lifeline: its end without a byte means stop, `DETACH` that we may outlive the command.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

DETACH = b"D"


class EventWriter:
    """The supervisor's end; after the reader's end nothing is told any more."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def tell(self, event: str, **values: str) -> None:
        if self._handle is None:
            return
        try:
            os.write(self._handle, json.dumps({"event": event, **values}).encode() + b"\n")
        except OSError:
            self.close()

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


class EventReader:
    """The command's end."""

    def __init__(self, handle: int) -> None:
        os.set_blocking(handle, False)
        self._handle = handle
        self._rest = b""
        self.ended = False

    def read(self) -> Iterator[dict[str, Any]]:
        """What has come since the last call; `ended` is true once the supervisor has gone."""
        while not self.ended:
            try:
                data = os.read(self._handle, 65_536)
            except BlockingIOError:
                break
            self.ended = not data
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            yield json.loads(line)
