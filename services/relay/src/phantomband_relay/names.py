"""Names that exits look up: asked of the exit's own DNS servers by c-ares, fairly, with an end, and of nobody else.

The system's resolver blocks a thread for as long as a name's server says nothing (10 s and more), so sixteen such
names stopped all others. Here a lookup ends after 5 s, and what waits is bounded and shared:

- a circuit has 16 lookups under way, fewer while its names' servers do not answer; a source (where its circuits come
  from) has 64, all together 256. More wait: sources in turn, and each source's circuits in turn.
- a name that failed is not asked again for a while *for the same source*: a memory for all would tell everybody what
  others looked for. Good answers are kept for nobody; whoever times answers may still learn what the DNS server has in
  its cache.

The search list and the hosts file of the machine are not used: they name the operator's network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import pycares

CIRCUIT_LOOKUPS = 16
SOURCE_LOOKUPS = 64
ALL_LOOKUPS = 256
"""Lookups under way, each with a channel and its sockets: some 10 KB."""

TRY_SECONDS, TRIES = 1.5, 2
TICK_SECONDS = 0.01
"""c-ares is not asked more often what it waits for."""

LOOKUP_SECONDS = 5.0
"""A lookup without an answer has failed: two tries, the second twice as long."""

LATER_FAMILY_SECONDS = 0.05
"""How long the other family's answer is waited for when one has come ("Resolution Delay", RFC 8305, section 3)."""

FAILED_SECONDS = 10.0
NO_NAME_SECONDS = 30.0
"""How long a failure is remembered: no answer or a server's failure; no such name or no address (RFC 2308 allows much
more, but names do appear)."""

FAILURES_KEPT = 4096
"""Failures remembered; the oldest is forgotten. About 1 MB with the longest names."""

MAX_ADDRESSES = 8
"""Addresses of one family that are taken from one answer."""

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)


class NoAnswer(Exception):
    """The DNS gave no answer in time, or failed."""


class Dns(Protocol):
    """Who is asked. A query always ends, by an answer or `NoAnswer`."""

    def addresses(self, name: str) -> Sequence[asyncio.Future[list[str]]]:
        """IPv6 addresses, and IPv4 addresses. Empty: no such name, or none of that family."""

    def name_of(self, address: str) -> asyncio.Future[list[str]]:
        """What PTR records say."""

    def close(self) -> None: ...


class Asker:
    """One circuit, as lookups know it."""

    __slots__ = ("silent", "source", "under_way", "waiting")

    def __init__(self, source: Hashable) -> None:
        """Args: source: what its lookups are shared by beside the circuit: the link that it came over."""
        self.source = source
        self.under_way = 0
        self.silent = 0
        """Lookups of late that had no answer."""
        self.waiting: deque[_Waiting] = deque()

    @property
    def may_begin(self) -> bool:
        return self.under_way < max(1, CIRCUIT_LOOKUPS // (1 + self.silent))


class _Waiting:
    __slots__ = ("done", "wanted")

    def __init__(self, done: asyncio.Future[bool], wanted: Callable[[], bool]) -> None:
        self.done, self.wanted = done, wanted


class Names:
    """All lookups of one exit."""

    def __init__(self, dns: Dns) -> None:
        self._dns = dns
        self._loop = asyncio.get_running_loop()
        self.under_way = 0
        self._of_source: dict[Hashable, int] = {}
        self._queues: OrderedDict[Hashable, OrderedDict[Asker, None]] = OrderedDict()
        self._failed: OrderedDict[tuple[Hashable, str], float] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Lookups that have not begun."""
        return sum(len(asker.waiting) for askers in self._queues.values() for asker in askers)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._dns.close()

    async def addresses(self, asker: Asker, name: str, wanted: Callable[[], bool]) -> list[str]:
        """Addresses of a name, both families; empty if there are none.

        Args: wanted: whether anybody still waits, asked when the lookup's turn comes.
        """
        if not is_host_name(name):
            return []
        key = (asker.source, name.rstrip(".").lower())
        if self._failed_lately(key) or not await self._turn(asker, wanted):
            return []
        return await self._answered(asker, self._dns.addresses(name), key)

    async def name_of(self, asker: Asker, address: str, wanted: Callable[[], bool]) -> list[str]:
        """Names of an address, as its owner wrote them: anything may stand there."""
        key = (asker.source, address)
        if self._failed_lately(key) or not await self._turn(asker, wanted):
            return []
        return await self._answered(asker, [self._dns.name_of(address)], key)

    # ---- whose turn it is ----------------------------------------------------------------------------------------

    async def _turn(self, asker: Asker, wanted: Callable[[], bool]) -> bool:
        """Returns when the lookup may begin; False if it is not wanted any more."""
        if not asker.waiting and self._may_begin(asker):
            self._begin(asker)
            return True
        entry = _Waiting(self._loop.create_future(), wanted)
        asker.waiting.append(entry)
        self._queues.setdefault(asker.source, OrderedDict())[asker] = None
        try:
            return await entry.done
        except asyncio.CancelledError:
            if entry.done.done() and not entry.done.cancelled() and entry.done.result():
                self._end(asker)  # its turn had come in the same moment
            raise

    def _may_begin(self, asker: Asker) -> bool:
        of_source = self._of_source.get(asker.source, 0)
        return asker.may_begin and of_source < SOURCE_LOOKUPS and self.under_way < ALL_LOOKUPS

    def _begin(self, asker: Asker) -> None:
        asker.under_way += 1
        self.under_way += 1
        self._of_source[asker.source] = self._of_source.get(asker.source, 0) + 1

    def _end(self, asker: Asker) -> None:
        asker.under_way -= 1
        self.under_way -= 1
        left = self._of_source[asker.source] - 1
        if left:
            self._of_source[asker.source] = left
        else:
            del self._of_source[asker.source]
        self._begin_next()

    def _begin_next(self) -> None:
        """Whoever may begin now: sources in turn, one lookup each, and of a source its circuits in turn."""
        for source in list(self._queues):
            if self.under_way >= ALL_LOOKUPS:
                return
            askers = self._queues[source]
            for asker in list(askers):
                if self._of_source.get(source, 0) >= SOURCE_LOOKUPS:
                    break
                begun = self._begin_one(asker)
                if not asker.waiting:
                    del askers[asker]
                elif begun:
                    askers.move_to_end(asker)
                if begun:
                    self._queues.move_to_end(source)
                    break
            if not askers:
                del self._queues[source]

    def _begin_one(self, asker: Asker) -> bool:
        while asker.waiting and asker.may_begin:
            entry = asker.waiting.popleft()
            if entry.done.done():
                continue
            if entry.wanted():
                self._begin(asker)
                entry.done.set_result(True)
                return True
            entry.done.set_result(False)
        return False

    # ---- answers -------------------------------------------------------------------------------------------------

    async def _answered(
        self, asker: Asker, queries: Sequence[asyncio.Future[list[str]]], key: tuple[Hashable, str]
    ) -> list[str]:
        """What the queries say. The lookup is under way until the last of them has ended, whoever waits."""
        left = len(queries)

        def ended(_: asyncio.Future[list[str]]) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._note(asker, queries, key)
                self._end(asker)

        for query in queries:
            query.add_done_callback(ended)
        pending = set(queries)
        end = self._loop.time() + LOOKUP_SECONDS
        while pending and (wait := end - self._loop.time()) > 0:
            _, pending = await asyncio.wait(pending, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            if any(_answers(q) for q in queries):
                end = min(end, self._loop.time() + LATER_FAMILY_SECONDS)
        return [address for query in queries for address in _answers(query)]

    def _note(self, asker: Asker, queries: Sequence[asyncio.Future[list[str]]], key: tuple[Hashable, str]) -> None:
        if any(_answers(q) for q in queries):
            asker.silent //= 2
            return
        silent = any(q.cancelled() or q.exception() is not None for q in queries)
        asker.silent = min(CIRCUIT_LOOKUPS, asker.silent + silent)
        self._failed[key] = self._loop.time() + (FAILED_SECONDS if silent else NO_NAME_SECONDS)
        self._failed.move_to_end(key)
        if len(self._failed) > FAILURES_KEPT:
            self._failed.popitem(last=False)

    def _failed_lately(self, key: tuple[Hashable, str]) -> bool:
        until = self._failed.get(key)
        if until is not None and self._loop.time() >= until:
            del self._failed[key]
            return False
        return until is not None


def _answers(query: asyncio.Future[list[str]]) -> list[str]:
    """What a query has said so far."""
    return query.result() if query.done() and not query.cancelled() and query.exception() is None else []


def is_host_name(name: str) -> bool:
    """Whether the DNS may be asked: labels of 1 to 63 letters, digits, hyphens and underscores, 253 in all.

    Anything else has a meaning to some resolvers (escapes, addresses in disguise, zones) that no policy has seen.
    """
    labels = name.removesuffix(".").split(".")
    return len(name) <= 254 and all(_LABEL.fullmatch(label) for label in labels)


def _said(data: object) -> str:
    """A record's address in its canonical form, or its name.

    Raises:
        ValueError: it is neither.
    """
    match data:
        case pycares.ARecordData() | pycares.AAAARecordData():
            return str(ipaddress.ip_address(data.addr))
        case pycares.PTRRecordData():
            return str(data.dname)
        case _:
            raise ValueError("a record of another type")


class Cares:
    """The DNS servers of this machine (resolv.conf, read for each lookup) by c-ares.

    Args: servers: others, such as "127.0.0.1:5353".
    """

    def __init__(self, servers: Sequence[str] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._servers = servers
        self._channels: set[_Channel] = set()

    def close(self) -> None:
        for channel in list(self._channels):
            self._over(channel)

    def addresses(self, name: str) -> Sequence[asyncio.Future[list[str]]]:
        return self._queries(name, pycares.QUERY_TYPE_AAAA, pycares.QUERY_TYPE_A)

    def name_of(self, address: str) -> asyncio.Future[list[str]]:
        return self._queries(ipaddress.ip_address(address).reverse_pointer, pycares.QUERY_TYPE_PTR)[0]

    def _queries(self, name: str, *kinds: int) -> Sequence[asyncio.Future[list[str]]]:
        """One for each type, over one channel that is closed when all have ended."""
        futures: list[asyncio.Future[list[str]]] = [self._loop.create_future() for _ in kinds]
        for future in futures:
            future.add_done_callback(lambda f: f.cancelled() or f.exception())
        try:
            channel = _Channel(self._loop, self._servers)
        except pycares.AresError:  # no memory, or resolv.conf cannot be read
            for future in futures:
                future.set_exception(NoAnswer())
            return futures
        self._channels.add(channel)
        left = len(futures)

        def ended(_: asyncio.Future[list[str]]) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._over(channel)

        for future, kind in zip(futures, kinds, strict=True):
            future.add_done_callback(ended)
            channel.query(name, kind, future)
        return futures

    def _over(self, channel: _Channel) -> None:
        self._channels.discard(channel)
        channel.close()


class _Channel:
    """One lookup's: c-ares over sockets that the event loop watches.

    Not one for all: c-ares keeps what a channel was answered, for as long as its sender says and without a bound, and
    `pycares` cannot tell it not to. So a client could fill the memory with names of its own, and time what others had
    asked for. Sockets, and ports, of its own also make a lookup's answers harder to forge (RFC 5452).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, servers: Sequence[str] | None) -> None:
        self._loop = loop
        self._watched: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._channel = pycares.Channel(timeout=TRY_SECONDS, tries=TRIES, servers=servers, sock_state_cb=self._watch)

    def query(self, name: str, kind: int, future: asyncio.Future[list[str]]) -> None:
        """Asks; the future gets the answers of this type."""

        def done(result: pycares.DNSResult | None, error: int | None) -> None:
            if future.done():
                return
            if error is None and result is not None:
                try:
                    future.set_result([_said(r.data) for r in result.answer if r.type == kind][:MAX_ADDRESSES])
                except ValueError:
                    future.set_exception(NoAnswer())
            elif error in (pycares.errno.ARES_ENODATA, pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_EBADNAME):
                future.set_result([])
            else:
                future.set_exception(NoAnswer())

        try:
            self._channel.query(name, kind, callback=done)
        except pycares.AresError as e:  # said here as well as, for some errors, by the callback
            done(None, e.args[0])
        self._await_time_out()

    def close(self) -> None:
        """Nothing is watched any more; what has not ended does not matter."""
        if self._closed:
            return
        self._closed = True  # from now on the library, which ends in a thread of its own, tells us nothing
        for number in list(self._watched):
            self._forget(number)
        if self._timer is not None:
            self._timer.cancel()
        self._channel.close()

    def _watch(self, number: int, readable: bool, writable: bool) -> None:
        """What the library wants to be told of one of its sockets; neither: it closes it."""
        if self._closed:
            return
        self._forget(number)
        if readable:
            self._loop.add_reader(number, self._process, number, pycares.ARES_SOCKET_BAD)
        if writable:
            self._loop.add_writer(number, self._process, pycares.ARES_SOCKET_BAD, number)
        if readable or writable:
            self._watched.add(number)

    def _forget(self, number: int) -> None:
        if number in self._watched:
            self._watched.discard(number)
            self._loop.remove_reader(number)
            self._loop.remove_writer(number)

    def _process(self, readable: int, writable: int) -> None:
        if not self._closed:
            self._channel.process_fd(readable, writable)
            self._await_time_out()

    def _await_time_out(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watched and not self._closed:
            wait = max(float(self._channel.timeout()), TICK_SECONDS)  # type: ignore[no-untyped-call]
            self._timer = self._loop.call_later(wait, self._process, pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)
