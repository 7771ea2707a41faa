"""What the voting machine (voting.py) holds of one epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from phantomband.core.netdir.ballot import Echo, ViewSignature, Vote
from phantomband.core.netdir.view import View
from phantomband.core.netdir.voting_events import BallotKind, Effect, FetchView


@dataclass(slots=True)
class Round:
    """One epoch's messages."""

    epoch: int
    votes: dict[int, dict[bytes, tuple[Vote, bytes]]] = field(default_factory=dict)
    echoes: dict[int, Echo] = field(default_factory=dict)
    shares: dict[int, tuple[ViewSignature, bytes]] = field(default_factory=dict)
    views: dict[bytes, tuple[View, bytes]] = field(default_factory=dict)
    asked: set[tuple[object, ...]] = field(default_factory=set)
    accused: set[tuple[BallotKind, int]] = field(default_factory=set)
    voted: bool = False
    echoed: bool = False
    signed: bool = False
    certified: bool = False

    def single_votes(self) -> dict[int, bytes]:
        """Directory -> digest of its vote, for those that voted exactly once."""
        return {index: next(iter(votes)) for index, votes in sorted(self.votes.items()) if len(votes) == 1}

    def once(self, *key: object) -> bool:
        """True the first time that it is called with `key`."""
        new = key not in self.asked
        self.asked.add(key)
        return new

    def fetch_view(self, sources: Iterable[int], why: str) -> list[Effect]:
        """Asks the first of `sources` that was not asked for this reason yet."""
        source = next((index for index in sources if self.once(why, index)), None)
        return [] if source is None else [FetchView(source)]
