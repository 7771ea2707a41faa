"""The client's guards, kept on disk for months: a guard that is away for a while is not forgotten, so nobody can make a
client choose anew by having its guards vanish for an epoch.

The file: `[{"id": node id, "since": Unix seconds}, ...]`, first choice first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import Malformed
from phantomband.core.ids import NodeId
from phantomband.runtime.keystore import write_whole

KEEP_SECONDS = 120 * 86_400.0
"""A guard is given up after four months."""

MAX_STORED = 20
"""Guards remembered; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard and when it was chosen."""

    node_id: NodeId
    since: float


class StoredGuards:
    """The list in its file."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock

    def load(self) -> list[Guard]:
        """Those that are not too old; none when the file is absent or not ours."""
        oldest = self._clock() - KEEP_SECONDS
        try:
            found = json.loads(self._path.read_text())
            guards = [Guard(NodeId.parse(g["id"]), float(g["since"])) for g in found]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, Malformed):
            return []
        return [g for g in guards if g.since > oldest]

    def extended(self, draws: Iterable[NodeId], enough: Callable[[list[NodeId]], bool]) -> list[NodeId]:
        """The stored guards, with new ones from `draws` behind them until `enough`; stored if that changed them."""
        guards = self.load()
        before = len(guards)
        for node in draws:
            ids = [g.node_id for g in guards]
            if enough(ids):
                break
            if node not in ids:
                guards.append(Guard(node, self._clock()))
        if len(guards) > before:
            self._save(guards[-MAX_STORED:])
        return [g.node_id for g in guards]

    def _save(self, guards: list[Guard]) -> None:
        text = json.dumps([{"id": str(g.node_id), "since": g.since} for g in guards])
        write_whole(self._path, text.encode())
