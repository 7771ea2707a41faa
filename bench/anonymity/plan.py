"""What is measured: profiles, loads, lengths, and how much of each. `quick` is for a look, not for the documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parts import capture, flooding, intersection, theory
from phantomband_cli.sim import experiments
from phantomband_cli.sim.fast.world import World
from phantomband_cli.sim.profiles import Profile, balanced, mixing, strong
from phantomband_cli.sim.web import WebModel

Rows = list[dict[str, Any]]

SEED = 1
LOADS = {"low": 20.0, "middle": 5.0, "high": 1.5}
"""Seconds that a user pauses between two pages, on average."""

CONTROL = mixing("none")
STRATEGIES = [
    CONTROL,
    mixing("threshold", threshold=64, max_wait=0.2),
    mixing("timed", interval=0.25),
    mixing("timed", interval=1.0),
    mixing("timed", interval=3.0),
    mixing("pool", interval=0.025),
    mixing("pool", interval=0.25, max_wait=2.0),
    mixing("poisson", mean_delay=0.05),
    mixing("poisson", mean_delay=0.5),
    mixing("slots", slot=0.02),
    mixing("slots", slot=0.1),
]
PROFILES = [balanced(), strong()]
BY_LOAD = [CONTROL, mixing("timed", interval=1.0), mixing("poisson", mean_delay=0.5), *PROFILES]


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work, done in a process of its own."""

    part: str
    """Key of the results to which its rows belong."""
    label: str
    work: Callable[..., Rows]
    arguments: tuple[Any, ...]

    @property
    def profile(self) -> str | None:
        """Whose figures these are; None: no profile's."""
        first = self.arguments[0]
        return first.name if isinstance(first, Profile) else None


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    networks: int
    flows: int
    short: float
    """Seconds."""
    long: float
    visits: int
    """Of each of 20 sites."""
    trials: int
    """Targets of the n-1 attack for each network."""


FULL = Size(networks=20, flows=120, short=60.0, long=120.0, visits=16, trials=10)
QUICK = Size(networks=3, flows=105, short=30.0, long=30.0, visits=6, trials=5)
"""105 flows: as few as give a false-positive rate of 1e-4 a meaning."""


def tasks(*, quick: bool) -> list[Task]:
    """Longest first, so that both cores end at about the same time."""
    size = QUICK if quick else FULL
    some = [CONTROL, mixing("timed", interval=1.0), *PROFILES] if quick else [*STRATEGIES, *PROFILES]
    lengths = (size.short,) if quick else (size.short, size.long)
    out = [
        Task("passive", f"{p.name}, {max(lengths):g} s", passive, (p, "middle", size, lengths)) for p in reversed(some)
    ]
    if not quick:
        for load in ("high", "low"):
            out += [Task("passive", f"{p.name}, {load} load", passive, (p, load, size, (size.short,))) for p in BY_LOAD]
    out += [Task("active", p.name, active, (p, size)) for p in some]
    out += [Task("fingerprinting", p.name, fingerprinting, (p, size)) for p in some]
    out += [Task("flooding", p.name, flooding, (p, size.networks, size.trials)) for p in some if p.client.kind == "off"]
    out.append(Task("capture", "path capture", capture, (size.networks,)))
    out.append(Task("intersection", "intersection", intersection, (size.networks,)))
    out.append(Task("theory", "theory", theory, (size.networks,)))
    return out


def passive(profile: Profile, load: str, size: Size, lengths: tuple[float, ...]) -> Rows:
    web = WebModel(think=LOADS[load])
    world = World(profile, flows=size.flows, copies=size.networks, seconds=max(lengths), web=web)
    return [{**row, "load": load} for row in experiments.passive(world, SEED, lengths)]


def active(profile: Profile, size: Size) -> Rows:
    world = World(profile, flows=size.flows, copies=size.networks, seconds=size.short)
    return experiments.active(world, SEED, size.long)


def fingerprinting(profile: Profile, size: Size) -> Rows:
    flows = 20 * size.visits
    world = World(profile, flows=flows, nodes=flows // 10, copies=size.networks, seconds=20.0, sites=20, bin_steps=2)
    return [experiments.fingerprinting(world, SEED)]
