"""Whom one directory would have in the view of an epoch, and as what: its opinion, before it is signed as a vote."""

from __future__ import annotations

from collections.abc import Callable

from phantomband.core.ids import NodeId
from phantomband.core.netdir import tally
from phantomband.core.netdir.ballot import MAX_VOTE_ENTRIES, VoteEntry
from phantomband.core.netdir.caps import FirstSeen, on_probation
from phantomband.core.netdir.genesis import Genesis
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.view import View


class Candidates:
    """Reads the pool, and remembers since when nodes have been in views.

    Args:
        quality: of a node, from 0 to 1, as measured here; what we vote for its weight is that share of it.
        seen: since when nodes have been in views.
    """

    def __init__(
        self, genesis: Genesis, pool: DescriptorPool, quality: Callable[[NodeId], float], seen: FirstSeen
    ) -> None:
        self._genesis, self._pool, self._quality, self._seen = genesis, pool, quality, seen

    def entries(self, epoch: int, now: float) -> tuple[VoteEntry, ...]:
        """One for each node whose descriptor will not have expired when the view takes effect."""
        probation, end = self._genesis.terms.probation_epochs, self._genesis.clock.end(epoch)
        entries: list[VoteEntry] = []
        for signed in self._pool.votable(now):
            descriptor = signed.descriptor
            if descriptor.expires > end:
                since = self._seen.since(signed.node_id, epoch, self._pool.heir_of(descriptor, now))
                new = on_probation(since, epoch, probation)
                flags, weight = tally.opinion(descriptor, self._genesis, self._quality(signed.node_id), new)
                reached = self._pool.reached(descriptor)
                entries.append(
                    VoteEntry(signed.node_id, signed.digest, descriptor.published, flags, weight, since, reached)
                )
        return tuple(entries[:MAX_VOTE_ENTRIES])

    def note(self, view: View) -> None:
        """A newer view was certified: it says since when its nodes are there, and who took another's place."""
        self._seen.note(view.epoch, ((entry.node_id, entry.since) for entry in view.entries))
        present = {entry.node_id for entry in view.entries}
        for signed in self._pool.newest():
            old = signed.descriptor.predecessor
            if old is not None and signed.node_id in present and old not in present:
                self._seen.succeeded(old)
