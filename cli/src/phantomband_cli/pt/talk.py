"""What we tell the parent process, line by line on standard output (pt-spec, section 3.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TextIO

from phantomband.transports.managed.arguments import join_server
from phantomband.transports.managed.scrub import scrub

LINES, LINES_SECONDS = 20, 60.0
"""LOG and STATUS lines in so many seconds at most."""


class Talk:
    """Writes to `out`, one whole line at a time; a parent that is gone is nobody's trouble."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._since, self._lines = clock(), 0

    def say(self, *words: str) -> None:
        """One line."""
        line = " ".join(words).replace("\n", " ").replace("\0", " ")
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except (OSError, ValueError):
            pass

    def client_method(self, name: str, host: str, port: int) -> None:
        self.say("CMETHOD", name, "socks5", endpoint(host, port))

    def server_method(self, name: str, host: str, port: int, arguments: Mapping[str, str]) -> None:
        listed = (f"ARGS:{join_server(arguments)}",) if arguments else ()
        self.say("SMETHOD", name, endpoint(host, port), *listed)

    def log(self, severity: str, text: str) -> None:
        """For the parent's log; never an address."""
        if self._may():
            self.say("LOG", f"SEVERITY={severity}", f"MESSAGE={_quoted(scrub(text))}")

    def connect_failed(self, transport: str, why: str) -> None:
        """A connection did not come about. Those that do are not told: it would be a record of them."""
        if self._may():
            self.say("STATUS", f"TRANSPORT={transport}", "CONNECT=Failed", f"ERRSTR={_quoted(scrub(why))}")

    def _may(self) -> bool:
        now = self._clock()
        if now - self._since >= LINES_SECONDS:
            self._since, self._lines = now, 0
        self._lines += 1
        return self._lines <= LINES


def endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _quoted(text: str) -> str:
    """A quoted string of control-spec, section 2.1.1."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
