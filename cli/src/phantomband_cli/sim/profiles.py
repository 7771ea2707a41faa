"""What shapes traffic in a simulated network: mixing, pacing and cover, by name. The one place of these parameters.

Source: DESIGN.md section 5; core/profiles.py and core/shaping are what the services do. The mixer section is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from phantomband.runtime.settings import MixerSection

LADDER = (8.0, 32.0, 128.0, 512.0)
"""Cells a second on a client's link: the steps of `adaptive`."""

NODE_LADDER = (*LADDER, 2048.0, 8192.0, 32768.0)
"""Cells a second on a link between nodes."""

SLOT = 1 / 32
"""Seconds between two sendings of an `adaptive` link; on the lowest step only each fourth is used."""

MEAN_STAY = 30.0
"""Seconds that an `adaptive` link stays on a step that it no longer needs: mean of an exponential."""

BACKLOG = 0.125
"""Seconds: an `adaptive` link climbs when more waits than its step carries in that time."""

LOOP_SHARE = 0.1
"""Share of a client's dummies that come back to it."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How one direction of a link sends; the rates are in cells a second."""

    kind: Literal["off", "adaptive", "constant", "poisson"] = "off"
    """`off` sends at once; `poisson` is `constant` with an exponential time between two slots."""
    ladder: tuple[float, ...] = LADDER
    slot: float = SLOT
    mean_stay: float = MEAN_STAY
    backlog: float = BACKLOG
    rate: float = 32.0
    """Of `constant` and `poisson`."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A whole network's shaping."""

    name: str
    mixer: MixerSection = field(default_factory=MixerSection)
    client: Pacing = field(default_factory=Pacing)
    """A client's link to its guard, each direction."""
    nodes: Pacing = field(default_factory=Pacing)
    """Each direction of a link between two nodes."""
    pace: float = 0.0
    """Cells a second that client and exit send on each circuit, real or dummy; 0: what there is, at once."""
    drops: Literal["random", "last"] = "random"
    """To whom a client's dummies go: to a random hop from the second on, or to the last."""
    loop_share: float = LOOP_SHARE

    @property
    def covers(self) -> bool:
        """Whether there are cells in it that no user asked for."""
        return self.client.kind != "off" or self.pace > 0

    @property
    def tick(self) -> float | None:
        """Seconds: the batches' interval, which nodes publish."""
        return self.mixer.interval if self.mixer.strategy in ("timed", "pool") else None


def mixing(strategy: str, **parameters: float) -> Profile:
    """Only mixing: no pacing and no cover."""
    named = ",".join(f"{value:g}" for value in parameters.values())
    section = MixerSection.model_validate({"strategy": strategy, "slot_dummies": 0, **parameters})
    return Profile(f"{strategy}({named})" if named else strategy, section)


def fast() -> Profile:
    """No pacing, no cover, no mixing."""
    return Profile("fast")


def balanced(interval: float = 0.025) -> Profile:
    """The ladder of rates on every link, batches of 20 to 30 ms, dummies to a random hop."""
    adaptive = Pacing("adaptive")
    return Profile("balanced", _timed(interval), adaptive, Pacing("adaptive", NODE_LADDER))


def strong(pace: float = 16.0, link: float = 40.0, interval: float = 0.025) -> Profile:
    """One fixed rate on the circuit, end to end and both ways, for the whole session, in a link of a fixed rate."""
    fixed = Pacing("constant", rate=link)
    nodes = Pacing("adaptive", NODE_LADDER)
    return Profile(f"strong({pace:g})", _timed(interval), fixed, nodes, pace=pace, drops="last")


def _timed(interval: float) -> MixerSection:
    return MixerSection.model_validate({"strategy": "timed", "interval": interval})
