"""A guard that destroys its clients' circuits, and somebody at the exits who sees which connection closes just then.

No shaping hides it: a circuit that is gone cannot be imitated. What is in doubt is only which of several connections
that close at about that time it was.
"""

from __future__ import annotations

from phantomband_cli.sim.adversaries.base import Observation, Scores
from phantomband_cli.sim.adversaries.edges import closeness


class Kill:
    """Destroy and look."""

    name = "guard that kills"

    def scores(self, seen: Observation, until: float) -> Scores:
        return closeness(seen.kills + seen.close_delay, seen.closed)
