"""Calls to the other directories of the genesis set: bounded in number and in time, never raising."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.replies import Reply, decode_reply_untrusted
from phantomband.core.netdir.requests import Request, encode_request
from phantomband.runtime.contained import Contained

from phantomband_directory.parts import Contact, PeerNetwork

CALL_SECONDS = 10.0
"""A call that takes longer has failed."""

MAX_IN_FLIGHT = 16
"""Calls to one peer at a time; more are dropped, and counted."""

FIRST_RETRY_SECONDS = 0.2


class Peers:
    """The other directories, by their position in the genesis set."""

    def __init__(self, genesis: Genesis, network: PeerNetwork, contained: Contained) -> None:
        self._contained = contained
        self._contacts = [Contact.of(directory) for directory in genesis.directories]
        self._network = network
        self._in_flight: Counter[int] = Counter()
        self.dropped = 0
        """Calls that were not made because too many were under way."""

    def others(self, own: int | None) -> list[int]:
        """Positions of all but this node's own."""
        return [index for index in range(len(self._contacts)) if index != own]

    async def call(self, index: int, request: Request) -> Reply | None:
        """One call. Returns: the reply, or None when the peer gave none that can be used."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                raw = await self._network.call(self._contacts[index], encode_request(request))
            return decode_reply_untrusted(raw)
        except (Refused, Malformed, TimeoutError):
            return None

    def spawn(
        self,
        index: int,
        request: Request,
        attempts: int = 1,
        then: Callable[[Reply], None] | None = None,
    ) -> None:
        """Calls in a task, trying again while there is no reply; `then` is given the reply."""
        if self._in_flight[index] >= MAX_IN_FLIGHT:
            self.dropped += 1
            return
        self._in_flight[index] += 1
        self._contained.spawn(self._attempts(index, request, attempts, then), partial(self._ended, index))

    async def _attempts(
        self, index: int, request: Request, attempts: int, then: Callable[[Reply], None] | None
    ) -> None:
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(FIRST_RETRY_SECONDS * 2 ** (attempt - 1))
            reply = await self.call(index, request)
            if reply is not None:
                if then is not None:
                    then(reply)
                break
        self._ended(index)

    def _ended(self, index: int) -> None:
        """A call came to its end, or to an unexpected error."""
        self._in_flight[index] -= 1
