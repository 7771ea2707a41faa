"""A DNS that needs no network."""

from __future__ import annotations

import asyncio

from phantomband_relay.names import NoAnswer


class FakeDns:
    """Answers at once, or, for names that end in `.silent.test`, not before `answer_silent`."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.reverse: list[str] = []
        self.asked: list[tuple[str, int]] = []
        self.silent: list[asyncio.Future[list[str]]] = []
        self.closed = False

    @property
    def names(self) -> list[str]:
        """Names that were asked for, each once."""
        return list(dict.fromkeys(name for name, _ in self.asked))

    def addresses(self, name: str) -> list[asyncio.Future[list[str]]]:
        return [self.of_family(name, family) for family in (6, 4)]

    def of_family(self, name: str, family: int) -> asyncio.Future[list[str]]:
        self.asked.append((name, family))
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        if name.endswith(".silent.test"):
            self.silent.append(future)
        else:
            future.set_result([a for a in self.known.get(name, []) if (":" in a) == (family == 6)])
        return future

    def name_of(self, address: str) -> asyncio.Future[list[str]]:
        self.asked.append((address, 0))
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        future.set_result(self.reverse)
        return future

    def fail_silent(self, count: int | None = None) -> None:
        """The oldest queries to silent servers, or all, end as those of a resolver do."""
        for future in self.silent[:count]:
            future.set_exception(NoAnswer())
            future.exception()
        del self.silent[:count]

    def close(self) -> None:
        self.closed = True
