"""A bounded queue in which sources take turns, and within a source its links: one that asks for much waits for itself.

A source is a network that clients come from, or a relay; links say which is theirs. Whoever opens many links gets no
more turns than with one, and at the bound loses the first.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

_Links = OrderedDict[Hashable, deque[T]]


class FairQueue(Generic[T]):
    """What waits, at most `limit`."""

    __slots__ = ("_counts", "_limit", "_sources", "waiting")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sources: OrderedDict[Hashable, _Links[T]] = OrderedDict()
        self._counts: dict[Hashable, int] = {}
        self.waiting = 0

    def __bool__(self) -> bool:
        return bool(self.waiting)

    def add(self, item: T, *, source: Hashable, link: Hashable) -> T | None:
        """Queues `item`. Returns: what has to go for it at the bound, maybe itself: the newest of the link with most
        waiting of the source with most waiting."""
        self._sources.setdefault(source, OrderedDict()).setdefault(link, deque()).append(item)
        self._counts[source] = self._counts.get(source, 0) + 1
        self.waiting += 1
        return self._shed() if self.waiting > self._limit else None

    def pop(self) -> T:
        """The next in turn; there must be one."""
        source, links = self._sources.popitem(last=False)
        link, queue = links.popitem(last=False)
        item = queue.popleft()
        if queue:
            links[link] = queue
        if links:
            self._sources[source] = links
        self._took(source)
        return item

    def _shed(self) -> T:
        source = max(self._counts, key=self._counts.__getitem__)
        links = self._sources[source]
        link = max(links, key=lambda one: len(links[one]))
        item = links[link].pop()
        if not links[link]:
            del links[link]
        if not links:
            del self._sources[source]
        self._took(source)
        return item

    def _took(self, source: Hashable) -> None:
        self.waiting -= 1
        self._counts[source] -= 1
        if not self._counts[source]:
            del self._counts[source]
