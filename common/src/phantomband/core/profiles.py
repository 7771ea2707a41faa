"""What a user chooses: how much latency and traffic to pay against whom (DESIGN.md section 5).

A profile says how the client's own link is paced, what its dummies are, at what pace the exit answers, and what the
relays of its paths must at least do. docs/explanation/profiles.md says what each gives, with figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from phantomband.core.cell import CELL_BYTES
from phantomband.core.errors import Malformed
from phantomband.core.mixing.published import parse_untrusted
from phantomband.core.netdir.view import ViewEntry
from phantomband.core.shaping import LADDER, OFF, Mode, Schedule, Shape

ProfileName = Literal["fast", "balanced", "strong"]
PROFILE_NAMES: tuple[ProfileName, ...] = get_args(ProfileName)

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Profile:
    """One choice. Rates are cells a second."""

    name: ProfileName
    link: Shape
    """How both ends of the link between client and guard pace what they send."""
    pace: int
    """What the client and the exit send on each circuit, whatever they have to say; 0: as it comes."""
    max_circuits: int
    """Circuits at once. Paced ones share the link's rate."""
    min_delay: float
    """Seconds that a cell waits on average at each relay of a path, at least."""
    min_padding: Mode
    """How every relay of a path pads its links, at least."""
    by_destination: bool
    """Whether different destinations get circuits of their own; different SOCKS users always do."""
    summary: str

    @property
    def idle_bytes_a_day(self) -> int:
        """Bytes that the client's link carries in a day, both ways together, while there is nothing to say."""
        rate = {Mode.OFF: 0, Mode.ADAPTIVE: LADDER[0], Mode.CONSTANT: self.link.rate}[self.link.mode]
        return 2 * rate * CELL_BYTES * DAY_SECONDS

    @property
    def most_bytes_a_second(self) -> int | None:
        """Fastest that one circuit is in one direction; None: as fast as the network is."""
        rate = self.pace or self.link.rate
        return rate * CELL_BYTES if rate else None

    def suits(self, relay: ViewEntry) -> bool:
        """Whether a relay says that it does at least what this profile asks for. Nothing proves what it says."""
        mean, padding = _offers(relay.mix, relay.padding)
        return mean >= self.min_delay and padding >= self.min_padding


@lru_cache(maxsize=4096)
def _offers(mix: str, padding: str) -> tuple[float, Mode]:
    """Mean delay in seconds and padding that a relay's texts say; nothing where one cannot be read."""
    try:
        mean = parse_untrusted(mix).mean_delay
    except Malformed:
        mean = 0.0
    try:
        mode = Shape.parse_untrusted(padding).mode
    except Malformed:
        mode = Mode.OFF
    return mean, mode


def mean_delay(relay: ViewEntry) -> float:
    """Seconds that a cell waits on average at this relay, as it says; 0 when it says nothing that can be read."""
    return _offers(relay.mix, relay.padding)[0]


FAST = Profile(
    name="fast", link=OFF, pace=0, max_circuits=256, min_delay=0.0, min_padding=Mode.OFF, by_destination=True,
    summary="no delay and no padding; whoever sees both ends links them",
)  # fmt: skip

BALANCED = Profile(
    name="balanced", link=Shape(Mode.ADAPTIVE, Schedule.FIXED, 512), pace=0, max_circuits=64, min_delay=0.005,
    min_padding=Mode.ADAPTIVE, by_destination=True,
    summary="rates on a ladder, mixed cells: blurs which page is loaded; whoever sees both ends links nearly all",
)  # fmt: skip

STRONG = Profile(
    name="strong", link=Shape(Mode.CONSTANT, Schedule.FIXED, 40), pace=16, max_circuits=2, min_delay=0.005,
    min_padding=Mode.ADAPTIVE, by_destination=False,
    summary="one fixed rate from end to end: watchers of links learn when a session starts and ends; slow",
)  # fmt: skip

PROFILES: dict[ProfileName, Profile] = {p.name: p for p in (FAST, BALANCED, STRONG)}
