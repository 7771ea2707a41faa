"""Exits that had no room for a stream of late, each for the streams that were refused alone.

An exit says RESOURCE when it is full, and also when it has no way to a target, such as an IPv6 address where it has no
IPv6. So what happens at one target must say nothing of an exit to others: a web page that names addresses which no exit
reaches would shut out its reader's other programs, and one that some reach would choose exits for them.
"""

from __future__ import annotations

from collections import OrderedDict

from phantomband.core.ids import NodeId

from phantomband_client.managed import Isolation

BUSY_SECONDS = 10.0
"""An exit that had no room for a stream is not chosen for its isolation for so long."""

MAX_ISOLATIONS = 4096
"""Isolations of which it is remembered; the one whose last refusal is longest ago is forgotten. About 1 MB."""


class BusyExits:
    """Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._until: OrderedDict[Isolation, dict[NodeId, float]] = OrderedDict()

    def refused(self, isolation: Isolation, exit_: NodeId, now: float) -> None:
        """The exit had no room for a stream of this isolation."""
        self._until.setdefault(isolation, {})[exit_] = now + BUSY_SECONDS
        self._until.move_to_end(isolation)
        if len(self._until) > MAX_ISOLATIONS:
            self._until.popitem(last=False)

    def of(self, isolation: Isolation | None, now: float) -> frozenset[NodeId]:
        """Exits that streams of this isolation do without now; None: a circuit that is built for nobody yet."""
        if isolation is None or isolation not in self._until:
            return frozenset()
        left = {node: until for node, until in self._until[isolation].items() if until > now}
        if left:
            self._until[isolation] = left
        else:
            del self._until[isolation]
        return frozenset(left)
