"""Whether the client's guards build the circuits that they are asked to.

A guard that refuses circuits denies its clients; one that lets only those stand that end at a friend of its (path bias)
sees both ends of them all. Both need a client that tries on without a word. So what becomes of each CREATE is counted
by guard, and by the hop at which it failed:

- `REFUSALS` circuits in a row that the guard itself did not answer: it is left for a while, as if it were down;
- of the circuits that the guard answered, fewer than `WARN_SHARE` stood: a person is told;
- fewer than `LEAVE_SHARE`, or, of `ENOUGH_BUILDS`, fewer than `WARN_SHARE`: it is left, for an hour at first.

Whoever is left stands behind the others *of the same sample*: nobody is drawn for it, or else a guard's neighbour could
make clients draw until they have his. When all are left they are used in their order, as if nothing were known.

The shares are those at which Tor tells its user (0.7) and warns him (0.5) (path-spec, "Detecting route manipulation by
Guard nodes"). Tor wants 150 circuits before it judges, because it only warns and some of its relays are overloaded
for days; here a wrong verdict costs little, a change among the same three, so `LEAST_BUILDS` is 20: a guard through
which four of five circuits stand is left wrongly once in 400 times by 20 and once in 30 by 50, one with nine of ten
never.

Nothing of this is stored, and times are those of the event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from phantomband.core.ids import NodeId

REFUSALS = 4
"""CREATEs in a row without an answer: a relay with a full queue refuses some, not all."""

LEAST_BUILDS = 20
"""Circuits that are looked at before a guard is judged by their share."""

ENOUGH_BUILDS = 50
"""From here on it is judged more strictly: a guard that lets three of five stand still doubles its friends' share."""

MOST_BUILDS = 100
"""From here on the counts are halved: what was long ago counts less (Tor scales at 300)."""

WARN_SHARE, LEAVE_SHARE = 0.7, 0.5

REFUSED_SECONDS = (10.0, 1800.0)
"""How long a guard that refuses is left, from the first time to the last: doubled each time."""

BIASED_SECONDS = (3600.0, 86_400.0)
"""The same for one through which too few circuits stand."""

COLLAPSED = -1
"""In place of a hop: the circuit had been built, and the network ended it."""

TOGETHER_SECONDS = 10.0
"""Circuits with a relay in common that collapse within this time count once."""

MAX_GUARDS = 256
"""Guards of which something is remembered (a sample has 20, each profile one; bridges 64); 200 bytes each."""


@dataclass(slots=True)
class _Record:
    refused: int = 0
    """In a row, up to now."""
    stood: float = 0.0
    failed: dict[int, float] = field(default_factory=dict)
    """By the number of relays that had answered: 1 is the guard alone. `COLLAPSED`: it had been built."""
    until: float = 0.0
    why: str = ""
    refused_pause: float = REFUSED_SECONDS[0]
    biased_pause: float = BIASED_SECONDS[0]

    @property
    def builds(self) -> float:
        return self.stood + sum(self.failed.values())

    @property
    def share(self) -> float:
        """Of the circuits that the guard answered, those that stood."""
        return self.stood / self.builds if self.builds else 1.0

    def scale(self) -> None:
        if self.builds >= MOST_BUILDS:
            self.stood /= 2
            self.failed = {hop: count / 2 for hop, count in self.failed.items()}


class GuardHealth:
    """Of all guards of a client."""

    def __init__(self) -> None:
        self.totals: Counter[int] = Counter()
        """Failed circuits of all guards, by the number of relays that had answered, or `COLLAPSED`."""
        self._of: dict[NodeId, _Record] = {}
        self._died: dict[NodeId, float] = {}
        """Relays of circuits that collapsed lately: as many as circuits have relays."""

    def built(self, guard: NodeId, answered: int, hops: int, now: float) -> bool:
        """A circuit of `hops` relays was built, or failed after `answered` had answered. Whether it is left now."""
        record = self._record(guard)
        if answered < hops:
            self.totals[answered] += 1
        if not answered:
            record.refused += 1
            # What was on the way when it was left is of the same failure, and does not double the pause.
            return record.refused >= REFUSALS and now >= record.until and self._refuses(record, now)
        record.refused = 0
        if answered == hops:
            record.stood += 1
            record.scale()
            record.refused_pause = REFUSED_SECONDS[0]
            return False
        return self._failed(record, answered, now)

    def collapsed(self, guard: NodeId, others: Iterable[NodeId], now: float) -> bool:
        """A circuit that had been built was ended by the network. Whether the guard is left now.

        Args: others: the relays behind the guard. One that dies takes all its circuits with it: that counts once.
        """
        self.totals[COLLAPSED] += 1
        self._died = {node: at for node, at in self._died.items() if now < at + TOGETHER_SECONDS}
        behind = list(others)
        known = any(node in self._died for node in behind)
        self._died.update((node, now) for node in behind)
        if known:
            return False
        record = self._record(guard)
        record.stood = max(0.0, record.stood - 1)
        return self._failed(record, COLLAPSED, now)

    def left(self, guard: NodeId, now: float) -> bool:
        """Whether others stand before it now."""
        record = self._of.get(guard)
        return record is not None and now < record.until

    def words(self, now: float) -> str:
        """What a person should know; empty when there is nothing."""
        return "; ".join(said for guard, record in self._of.items() if (said := _words(guard, record, now)))

    def _failed(self, record: _Record, answered: int, now: float) -> bool:
        record.failed[answered] = record.failed.get(answered, 0.0) + 1
        record.scale()
        least = WARN_SHARE if record.builds >= ENOUGH_BUILDS else LEAVE_SHARE
        if record.builds < LEAST_BUILDS or record.share >= least:
            return False
        record.why = f"only {record.stood:.0f} of {record.builds:.0f} circuits through it stood"
        record.until = now + record.biased_pause
        record.biased_pause = min(2 * record.biased_pause, BIASED_SECONDS[1])
        record.stood, record.failed = 0.0, {}
        return True

    @staticmethod
    def _refuses(record: _Record, now: float) -> bool:
        record.why = f"it refused {record.refused} circuits in a row"
        record.until = now + record.refused_pause
        record.refused_pause = min(2 * record.refused_pause, REFUSED_SECONDS[1])
        record.refused = REFUSALS - 1  # one more refusal after the pause is enough
        return True

    def _record(self, guard: NodeId) -> _Record:
        if guard not in self._of:
            if len(self._of) >= MAX_GUARDS:
                del self._of[next(iter(self._of))]
            self._of[guard] = _Record()
        return self._of[guard]


def _words(guard: NodeId, record: _Record, now: float) -> str:
    name = f"the guard {str(guard)[:8]}"
    if now < record.until:
        return f"{name} is left for {max(1.0, (record.until - now) / 60):.0f} minutes: {record.why}"
    if record.builds >= LEAST_BUILDS and record.share < WARN_SHARE:
        return (
            f"only {record.stood:.0f} of {record.builds:.0f} circuits through {name} stood: it may choose which do, or "
            "many relays of the network are overloaded"
        )
    return ""
