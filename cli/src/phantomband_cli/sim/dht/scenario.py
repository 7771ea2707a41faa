"""What is simulated: how many directories, who lies, which defences stand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from math import log

from phantomband.core.dht.parameters import Parameters
from phantomband.core.dht.table import UNLIMITED


class Lie(Enum):
    """What a malicious directory does (liars.py)."""

    DROP = "drop"
    ECLIPSE = "eclipse"
    POISON = "poison"
    REPLAY = "replay"
    HIDE = "hide"
    IMPERSONATE = "impersonate"


class Aim(Enum):
    """At whom Sybils with chosen ids aim (aim.py)."""

    NOBODY = "nobody"
    KEY = "key"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world. Times in seconds; the same scenario and seed give the same figures."""

    directories: int = 1000
    """Honest and malicious together, without the Sybil flood."""
    malicious: float = 0.0
    """Part of them that lies: in as many networks as honest ones, and always there."""
    sybils: float = 0.0
    """Sybil directories for each honest one."""
    sybil_networks: int = 4
    """/16 networks that the Sybils are in."""
    flood: float = 10.0
    """A directory hears from a Sybil every so many seconds, on average."""
    lies: tuple[Lie, ...] = (Lie.DROP, Lie.ECLIPSE, Lie.POISON, Lie.REPLAY)
    """Each malicious directory tells one of them."""
    aim: Aim = Aim.NOBODY
    """Whether there are Sybils with chosen ids besides, and whether they hide records or surround directories."""
    aimed_lie: Lie = Lie.HIDE
    """Of Sybils with chosen ids: who makes nothing up is never disbelieved."""
    victims: int = 20
    """Of that aim: honest, always there, and all that is searched for, or all that search."""
    generations: int = 1 << 20
    """Keys that are made to choose the ids for one victim from."""
    aimed_flood: float = 1.0
    """Seconds between two messages of Sybils with chosen ids to a victim, or to those near its key."""
    median_session: float = 3600.0
    """Of an honest directory; sessions are exponential, and another directory takes the place at once."""
    seconds: float = 1800.0
    """Simulated, after the warm-up."""
    warm_up: float = 1800.0
    """Nothing is measured: every directory publishes once meanwhile."""
    searches: int = 1000
    """Spread over the measured time."""
    genesis: int = 16
    """Directories that every newcomer knows: honest, and always there."""
    signed: bool = True
    """Whether records are signed."""
    seed: int = 1
    parameters: Parameters = field(default_factory=Parameters)

    @property
    def mean_session(self) -> float:
        return self.median_session / log(2)


def without(scenario: Scenario, defence: str) -> Scenario:
    """The same world with one defence switched off, or with `all` of them."""
    p = scenario.parameters
    off = {
        "paths": replace(p, paths=1, path_requests=p.paths * p.path_requests),
        "prefixes": replace(p, near_limit=UNLIMITED, far_limit=UNLIMITED, far_table_limit=UNLIMITED),
        "proofs": replace(p, prove=False),
        "keeping": replace(p, keep_live=False),
        "signatures": p,
    }
    if defence == "all":
        for name in DEFENCES:
            scenario = without(scenario, name)
        return scenario
    return replace(scenario, parameters=off[defence], signed=scenario.signed and defence != "signatures")


DEFENCES = ("paths", "prefixes", "proofs", "keeping", "signatures")
"""What `without` knows: disjoint paths, limits of prefixes, ids bound to keys, no eviction, signed records."""
