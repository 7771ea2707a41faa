"""A resolver that needs no network, and an executor that needs no threads."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class Names:
    """Stands for the system's resolver: no test asks the real one."""

    SOCK_STREAM, NI_NAMEREQD = socket.SOCK_STREAM, socket.NI_NAMEREQD

    def __init__(self) -> None:
        self.known = {"localhost": ["::1", "127.0.0.1"]}
        self.reverse: str | None = None
        self.asked: list[str] = []
        self.before: Callable[[], object] = lambda: None

    def getaddrinfo(self, host: str, port: None, *, type: int) -> list[Any]:
        assert (port, type) == (None, socket.SOCK_STREAM)
        self.asked.append(host)
        self.before()
        host.encode("idna")
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(0, 0, 0, "", (a, 0)) for a in self.known[host]]

    def getnameinfo(self, where: tuple[str, int], flags: int) -> tuple[str, str]:
        assert (where, flags) == (("192.0.2.1", 0), socket.NI_NAMEREQD)
        if self.reverse is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self.reverse, ""


class Inline(Executor):
    """Works at once: a virtual clock cannot wait for threads."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except (OSError, UnicodeError) as e:
            future.set_exception(e)
        return future
