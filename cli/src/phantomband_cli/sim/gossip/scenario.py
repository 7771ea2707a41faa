"""What is simulated: how many directories, how often they meet, who lies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import log


class Lie(Enum):
    """What a malicious directory does when it is met; none passes anything on."""

    SILENT = "silent"
    """Does not answer."""
    HIDE = "hide"
    """Says that there is no difference."""
    WITHHOLD = "withhold"
    """Shows an empty set, takes what it is offered and keeps it to itself."""
    JUNK = "junk"
    """Shows its own set and as many made-up records, which do not verify."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world. Times in seconds; the same scenario and seed give the same figures."""

    directories: int = 1000
    """Each publishes one record."""
    malicious: float = 0.0
    """Part of them that lies, each with one of the four lies."""
    period: float = 10.0
    """A directory begins a meeting every so many seconds."""
    renewed: float = 3600.0
    """A directory publishes its record anew every so many seconds."""
    median_session: float | None = 3600.0
    """Of an honest directory; an empty newcomer takes the place at once. None: nobody leaves."""
    warm_up: float = 60.0
    seconds: float = 120.0
    """Records that were published in this time after the warm-up are followed."""
    settle: float = 120.0
    """How much longer they are followed."""
    fetches: int = 64
    """Records that are taken, and given, in one meeting."""
    timeout: float = 1.5
    bytes_a_second: float = 1e6
    """What a directory's line carries: a reply takes its size by it."""
    seed: int = 1

    @property
    def mean_session(self) -> float | None:
        return None if self.median_session is None else self.median_session / log(2)
