"""Notices that the way to the guard is blocked or throttled while it is in use, and takes another.

The guard's directory is asked now and then for a view that we have: a short question with a short answer. On a padded
link it is asked always, at the same times whether or not streams are open: else the question would tell the guard, and
the dial of another transport whoever makes the link silent for a moment. Where nothing is padded it is asked while
streams are open or circuits are being built. When the answer is late, or nothing comes for some seconds although we
sent something, the same guard is dialled by another transport and asked the same. If that answers and the first does
not, or three times slower, new streams go over the new link. Those that are open stay where they are: a throttled link
carries them on; on one that stays silent they end after a while with an error, since a circuit does not outlive its
link.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from phantomband.core.errors import Refused
from phantomband.core.netdir.requests import GetView, encode_request

from phantomband_client.choice.chooser import Chooser
from phantomband_client.guard_link import GuardLink

WATCH_SECONDS = 1.0
"""How often a session looks at its link."""

ASK_SECONDS = 10.0
"""Between two questions."""

SILENT_SECONDS = 3.0
"""Without any cell, although we sent some: a question at once."""

SLOW_SECONDS = 2.5
"""An answer that takes longer is slow; without load it takes a round trip."""

PATIENCE_SECONDS = 6.0
"""Nobody waits longer for an answer."""

BETTER = 3.0
"""The other way must be so many times faster."""

SILENT = math.inf

LAST_CHANCE_SECONDS = 10.0
"""For a silent link that another has replaced."""

REST_SECONDS = (20.0, 600.0)
"""Until other ways are looked for again in vain: doubled each time."""

OFFLINE_SECONDS = 2.0
"""The same the first time after the link was silent and nobody else could be reached either: the network is gone, and
when it is back the link may stay silent for as long again, since TCP sends again ever more rarely (RFC 6298, 5.5)."""

QUESTION = encode_request(GetView(2**63 - 1))
"""Nobody has a newer view than this."""


class Watched(Protocol):
    """A session, as its watch sees it."""

    link: GuardLink | None

    async def elsewhere(self, link: GuardLink, *, other_nodes: bool) -> GuardLink:
        """A second link to the node of `link`, by another transport; or to another guard. Raises: Refused."""

    def change_to(self, better: GuardLink, link: GuardLink) -> None:
        """New circuits begin at `better`."""


class LinkWatch:
    """Watches one session's link.

    Args:
        always: whether or not streams are open.
    """

    def __init__(self, session: Watched, chooser: Chooser, *, always: bool = False) -> None:
        self._session, self._chooser, self._always = session, chooser, always
        self._asked = self._rest_until = float("-inf")
        self._rest, self._offline = REST_SECONDS[0], OFFLINE_SECONDS
        self._suspected = False
        self._silent: list[tuple[float, GuardLink]] = []
        """Replaced links that gave no answer, and when they are asked for the last time."""

    def suspect(self) -> None:
        """The link may be dead: the machine slept. It is asked at the next look, streams or not."""
        self._suspected = True
        self._asked = self._rest_until = float("-inf")

    async def run(self) -> None:
        """Until cancelled. Looks at even times: how long an answer took does not move the next question."""
        loop = asyncio.get_running_loop()
        look = loop.time()
        while True:
            look += WATCH_SECONDS * (1 + max(0.0, loop.time() - look) // WATCH_SECONDS)
            await asyncio.sleep(look - loop.time())
            await self._last_chances()
            link = self._session.link
            if link is not None and link.up and self._due(link):
                await self._check(link)

    def _due(self, link: GuardLink) -> bool:
        now = asyncio.get_running_loop().time()
        since = now - self._asked
        silent = link.unanswered >= SILENT_SECONDS and since >= SILENT_SECONDS
        return (
            (self._always or self._suspected or bool(link.streams or link.building))
            and now >= self._rest_until
            and (silent or since >= ASK_SECONDS)
        )

    async def _check(self, link: GuardLink) -> None:
        loop = asyncio.get_running_loop()
        self._asked, self._suspected = loop.time(), False
        seconds = await _answer(link)
        if seconds < SLOW_SECONDS:
            self._rest, self._offline = REST_SECONDS[0], OFFLINE_SECONDS
            return
        if not link.up:
            return
        try:
            replaced = await self._replace(link, seconds)
        except Refused:
            if seconds == SILENT:
                self._rest_until = loop.time() + self._offline
                self._offline = min(2 * self._offline, REST_SECONDS[1])
                return
            replaced = False
        if not replaced:
            self._rest_until = loop.time() + self._rest
            self._rest = min(2 * self._rest, REST_SECONDS[1])

    async def _replace(self, link: GuardLink, seconds: float) -> bool:
        """Whether another way was found, and is used now. Args: seconds: until it answers; infinite: it is silent.

        Raises:
            Refused: nobody else could be reached.
        """
        silent = seconds == SILENT
        other = await self._session.elsewhere(link, other_nodes=silent)
        if await _answer(other) * BETTER > seconds:
            other.close()
            return False
        how = "is silent" if silent else f"takes {seconds:.1f} s to answer"
        self._chooser.note(link.transport, f"{how}: new streams go by {other.transport}")
        self._chooser.memory.failed(link.transport)
        self._session.change_to(other, link)
        if silent:
            self._silent.append((asyncio.get_running_loop().time() + LAST_CHANCE_SECONDS, link))
        return True

    async def _last_chances(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [link for at, link in self._silent if at <= now]
        self._silent = [(at, link) for at, link in self._silent if at > now]
        for link in due:
            if link.up and await _answer(link) == SILENT:
                link.close()


async def _answer(link: GuardLink) -> float:
    """Seconds until an answer, at most `PATIENCE_SECONDS` while anything comes at all; else `SILENT`."""
    seconds = await link.answer_time(QUESTION, PATIENCE_SECONDS)
    if seconds is not None:
        return seconds
    return SILENT if not link.up or link.unanswered >= SILENT_SECONDS else PATIENCE_SECONDS
