"""One budget of bytes a process, over everything that peers make it hold: queues, buffers, replies.

A bound on each link and circuit is multiplied by their number before it is believed. So whoever holds bytes for a peer
says here how many, and over the limit the heaviest holder is asked to shed, until an eighth is free. Heaviest first
among *sources* (who is behind a holder, such as a link's group), then among the source's holders: one peer that spreads
what it makes us hold over many circuits is found all the same, and never costs another its circuit.

Shedding happens in a call of the event loop of its own, not within `hold`: a holder is never pulled from under the one
who just added to it. What comes in one turn of the loop is the overshoot.

When much was given back, the allocator is trimmed: glibc keeps freed blocks, and a peak would stay for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from phantomband.runtime.allocator import trim

FREED_SHARE = 8
"""Shedding goes on until an eighth of the limit is free, so that it is not needed again at the next cell."""

TRIM_BYTES = 16 * 1024 * 1024
"""The allocator is trimmed when so much less is held than at the last peak ..."""

TRIM_SECONDS = 10.0
"""... but not more often: a trim of a large heap takes some milliseconds."""


class Holder(Protocol):
    """Who holds bytes for a peer: a link's queue, a circuit, a call. Compared by identity."""

    @property
    def source(self) -> Hashable:
        """Who is behind it, as far as is known; holders of one source are weighed together."""

    def shed(self) -> None:
        """Give up the largest thing that you hold, and say so by `MemoryBudget.hold`."""


Later = Callable[[float, Callable[[], None]], Any]
"""Calls something after so many seconds."""


def _on_loop(seconds: float, work: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, work)


class MemoryBudget:
    """What a process holds for its peers."""

    def __init__(
        self,
        limit_bytes: int,
        *,
        later: Later = _on_loop,
        trim: Callable[[], None] = trim,
        bug: Callable[[BaseException], None] | None = None,
    ) -> None:
        """Args:

        bug: told of an error that nobody expected of a holder that sheds (`Contained.bug`); None: it is raised.
        """
        self.limit = limit_bytes
        self.used = 0
        """Bytes."""
        self.shed = 0
        """How often a holder was asked."""
        self._later, self._trim, self._bug = later, trim, bug
        self._held: dict[Holder, int] = {}
        self._peak = 0
        self._shedding = self._trimming = False

    @property
    def over(self) -> bool:
        """Whether more is held than may be."""
        return self.used > self.limit

    def hold(self, holder: Holder, delta: int) -> None:
        """`holder` holds `delta` bytes more, or fewer. One that holds nothing any more is forgotten."""
        held = self._held.get(holder, 0) + delta
        if held > 0:
            self._held[holder] = held
        else:
            delta -= held  # never below nothing: a holder that counts wrongly must not hide what others hold
            self._held.pop(holder, None)
        self.used += delta
        if delta > 0:
            if self.used > self._peak:
                self._peak = self.used
            if self.used > self.limit and not self._shedding:
                self._shedding = True
                self._later(0.0, self._shed)
        elif self._peak - self.used >= TRIM_BYTES and not self._trimming:
            self._trimming = True
            self._later(TRIM_SECONDS, self._give_back)

    def release(self, holder: Holder) -> None:
        """`holder` is no more."""
        self.hold(holder, -self._held.get(holder, 0))

    def held(self, holder: Holder) -> int:
        """Bytes."""
        return self._held.get(holder, 0)

    def _shed(self) -> None:
        """Asks the heaviest in turn; one that gives nothing is not asked again this time."""
        goal = self.limit - self.limit // FREED_SHARE
        asked: set[int] = set()
        try:
            while self.used > goal and (heaviest := self._heaviest(asked)) is not None:
                before = self.used
                self.shed += 1
                try:
                    heaviest.shed()
                except Exception as e:  # one holder's fault must not keep the others' memory
                    if self._bug is None:
                        raise
                    self._bug(e)
                if self.used >= before:
                    asked.add(id(heaviest))
        finally:
            self._shedding = False

    def _heaviest(self, without: set[int]) -> Holder | None:
        sources: dict[Hashable, int] = {}
        most: dict[Hashable, tuple[int, Holder]] = {}
        for holder, held in self._held.items():
            if id(holder) in without:
                continue
            source = holder.source
            sources[source] = sources.get(source, 0) + held
            if source not in most or held > most[source][0]:
                most[source] = held, holder
        if not sources:
            return None
        return most[max(sources, key=sources.__getitem__)][1]

    def _give_back(self) -> None:
        self._trimming = False
        self._peak = self.used
        self._trim()
