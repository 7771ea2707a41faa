"""The client's guards: a small sample of the network, in order of choice, kept on disk for months.

Whoever sees the first hop of many circuits will sooner or later be the adversary; so the first hop changes rarely. A
guard that is away is neither forgotten nor replaced for being down: others stand in behind it, and it is first again
when it is back. So nobody can make a client choose anew by having its guards vanish for a while. A guard leaves

- when its time is over: 90 to 150 days after it was chosen, a random number that only this client knows;
- when it has been missing from the views for 20 days.

The sample never has more than 20: when all of them are away, the client waits instead of drawing on.

They are read once, at the start, and held: what the disk does meanwhile changes no guard (runtime/state_files.py).

The file: `[{"id": node id, "since": Unix seconds, "until": Unix seconds, "unlisted": Unix seconds or null}, ...]`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import NodeId
from phantomband.core.netdir.path import uniform_below
from phantomband.runtime.state_files import StateFiles

GUARDS_FILE = "guards.json"

DAY_SECONDS = 86_400
KEEP_DAYS, SPREAD_DAYS = 90, 60
"""A guard is kept for 90 to 150 days."""

UNLISTED_SECONDS = 20.0 * DAY_SECONDS
"""A guard that was in no view for so long will hardly come back."""

MAX_SAMPLED = 20
"""Guards in the sample; no more are drawn."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard. Times are Unix seconds."""

    node_id: NodeId
    since: float
    until: float
    unlisted: float | None = None
    """Since when the views do not have it; None: they do."""

    def over(self, now: float) -> bool:
        """Whether it is to be given up."""
        return now >= self.until or (self.unlisted is not None and now >= self.unlisted + UNLISTED_SECONDS)


class StoredGuards:
    """The sample in its file.

    Raises:
        UserError: the file and its copy are damaged. No new guards are drawn because of that.
    """

    def __init__(self, files: StateFiles, clock: Callable[[], float], random: RandomSource) -> None:
        self._files, self._clock, self._random = files, clock, random
        self._sample = files.read(GUARDS_FILE, _decode, copy=True) or []

    def load(self) -> list[Guard]:
        """Those that are not over."""
        now = self._clock()
        return [guard for guard in self._sample if not guard.over(now)]

    def noted(self, listed: Callable[[NodeId], bool]) -> list[Guard]:
        """The sample, after a look at whom the view in force has."""
        now = self._clock()
        marked = [g for guard in self._sample if not (g := _marked(guard, listed(guard.node_id), now)).over(now)]
        if marked != self._sample:
            self._save(marked)
        return marked

    def extended(self, draws: Iterable[NodeId], enough: Callable[[list[NodeId]], bool]) -> list[NodeId]:
        """The sample, with new ones from `draws` behind it until `enough` or full; stored if that changed it."""
        guards = self.load()
        before = len(guards)
        for node in draws:
            ids = [g.node_id for g in guards]
            if enough(ids) or len(guards) >= MAX_SAMPLED:
                break
            if node not in ids:
                guards.append(self._chosen(node))
        if len(guards) > before:
            self._save(guards)
        return [g.node_id for g in guards]

    def _chosen(self, node: NodeId) -> Guard:
        now = self._clock()
        return Guard(node, now, now + KEEP_DAYS * DAY_SECONDS + uniform_below(SPREAD_DAYS * DAY_SECONDS, self._random))

    def _save(self, guards: list[Guard]) -> None:
        self._sample = guards
        made = [{"id": str(g.node_id), "since": g.since, "until": g.until, "unlisted": g.unlisted} for g in guards]
        self._files.write(GUARDS_FILE, json.dumps(made).encode(), copy=True)


def _decode(data: bytes) -> list[Guard]:
    return [_read(found) for found in json.loads(data)]


def _read(found: Any) -> Guard:
    since = _time(found["since"])
    until = _time(found.get("until", since + (KEEP_DAYS + SPREAD_DAYS / 2) * DAY_SECONDS))
    unlisted = found.get("unlisted")
    return Guard(NodeId.parse(found["id"]), since, until, None if unlisted is None else _time(unlisted))


def _time(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a time")
    return number


def _marked(guard: Guard, listed: bool, now: float) -> Guard:
    if listed:
        return replace(guard, unlisted=None)
    return guard if guard.unlisted is not None else replace(guard, unlisted=now)


class Retries:
    """When guards that did not answer are tried again: soon at first, then every half hour. In memory only."""

    FIRST_SECONDS, LAST_SECONDS = 10.0, 1800.0

    def __init__(self) -> None:
        self._failed: dict[NodeId, tuple[float, float]] = {}
        """(when it may be tried again, the pause after the next failure)."""

    def failed(self, node: NodeId, now: float) -> None:
        """It did not answer."""
        pause = self._failed.get(node, (0.0, self.FIRST_SECONDS))[1]
        self._failed[node] = now + pause, min(2 * pause, self.LAST_SECONDS)

    def worked(self, node: NodeId) -> None:
        """It answered."""
        self._failed.pop(node, None)

    def due(self, node: NodeId, now: float) -> bool:
        """Whether it may be tried now."""
        return now >= self._failed.get(node, (now, 0.0))[0]
