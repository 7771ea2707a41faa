"""What a run of the gossip gives: how long a record takes to be everywhere, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from phantomband_cli.sim.dht.measures import CELL_BYTES, percentile
from phantomband_cli.sim.gossip.member import Member

PARTS = (0.5, 0.99, 1.0)
"""Of the honest directories that live."""


class Spread:
    """Who has one record, of the honest ones that lived when it was published and live still."""

    __slots__ = ("began", "missing", "present", "reached")

    def __init__(self, began: float, honest: set[Member], publisher: Member) -> None:
        self.began = began
        self.present, self.missing = set(honest), honest - {publisher}
        self.reached: dict[float, float] = {}
        """Part -> seconds after the publication."""

    def has(self, member: Member, now: float) -> None:
        self.missing.discard(member)
        self._look(now)

    def died(self, member: Member, now: float) -> None:
        self.present.discard(member)
        self.missing.discard(member)
        self._look(now)

    def _look(self, now: float) -> None:
        have = len(self.present) - len(self.missing)
        for part in PARTS:
            if part not in self.reached and have >= ceil(part * len(self.present)):
                self.reached[part] = now - self.began


@dataclass(slots=True)
class Measures:
    """Counts of one run. `cells` and `rejected` are those of honest directories while it was measured."""

    spreads: list[Spread] = field(default_factory=list)
    joins: list[float] = field(default_factory=list)
    """Seconds after which newcomers held 99% of all records."""
    cells: int = 0
    meetings: int = 0
    silent: int = 0
    """Meetings in which nobody answered."""
    rounds: int = 0
    rejected: int = 0
    """Records that did not verify."""
    seconds: float = 0.0
    honest: int = 0

    def figures(self) -> dict[str, float | list[float]]:
        """Seconds until so many have a record, over all records; cost of an honest directory."""
        found: dict[str, float | list[float]] = {"records": len(self.spreads)}
        for part in PARTS:
            times = [spread.reached[part] for spread in self.spreads if part in spread.reached]
            name = f"{100 * part:.0f}"
            found |= {
                f"reached_{name}": len(times) / max(1, len(self.spreads)),
                f"seconds_{name}_p50": percentile(times, 0.5),
                f"seconds_{name}_p95": percentile(times, 0.95),
                f"seconds_{name}_max": max(times, default=0.0),
                f"times_{name}": sorted(round(time, 2) for time in times),
            }
        minutes = max(1e-9, self.honest * self.seconds / 60)
        return found | {
            "bytes_a_node_a_minute": self.cells * CELL_BYTES / minutes,
            "meetings_a_node_a_minute": self.meetings / minutes,
            "rounds_a_meeting": self.rounds / max(1, self.meetings - self.silent),
            "rejected_a_node_a_minute": self.rejected / minutes,
            "newcomers": len(self.joins),
            "join_seconds_p50": percentile(self.joins, 0.5),
        }
