"""n-1: the attacker keeps others' cells away from a mixer, sends cells of its own, and follows the one that is left.

Runs the real strategies. Honest cells come at random, each of a circuit of its own, until the target's cell comes; from
then on only the attacker's do, at `flood` cells a second (it must control or delay all links of the node). It knows its
own cells when they leave. Every honest cell that leaves after the target came is as likely the target's as any other,
so the attacker is right with 1 / (their number). Without the attack ("passive") honest cells go on coming, and those
count that leave in the time in which nine of ten cells leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np
from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Strategy

from phantomband_cli.sim.events import Events
from phantomband_cli.sim.mixer import Mixer
from phantomband_cli.sim.node import Seeded

LINK = LinkId(1)
WARM_UP = 1.5
"""Seconds of honest traffic before the target."""

SETTLE = 5.0
"""Seconds that are watched after it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One target."""

    delay: float
    """Seconds that the target's cell was held."""
    others: list[float]
    """Seconds after the target came at which other honest cells left."""


def trial(make: Callable[[RandomSource], Strategy], honest: float, flood: float, seed: str, *, block: bool) -> Trial:
    """Args: honest, flood: cells a second; block: whether honest cells stop when the target's comes."""
    events, random = Events(), Random(seed)
    left: dict[bytes, float] = {}

    def sent(link: LinkId, cells: list[bytes]) -> None:
        left.update((cell, events.now) for cell in cells)

    mixer = Mixer(events, make(Seeded(seed)), random.uniform(1000.0, 2000.0), sent)
    count = 0

    def arrive(kind: bytes) -> None:
        nonlocal count
        count += 1
        mixer.add(LINK, [count.to_bytes(4, "big") + kind])

    def stream(kind: bytes, rate: float, since: float, until: float) -> None:
        when = since
        while rate and (when := when + random.expovariate(rate)) < until:
            events.at(when, lambda: arrive(kind))

    stream(b"h", honest, 0.0, WARM_UP if block else WARM_UP + SETTLE)
    stream(b"a", flood, WARM_UP, WARM_UP + 1.0)
    events.at(WARM_UP, lambda: arrive(b"t"))
    events.run(WARM_UP + SETTLE, lambda: False)
    target = [when - WARM_UP for cell, when in left.items() if cell[4:] == b"t"]
    others = [when - WARM_UP for cell, when in left.items() if cell[4:] == b"h" and when >= WARM_UP]
    return Trial(target[0] if target else SETTLE, others)


def success(trials: list[Trial], *, block: bool) -> float:
    """Share of targets that the attacker names right, on average over its guesses among equals."""
    horizon = SETTLE if block else float(np.quantile([t.delay for t in trials], 0.9))
    return float(np.mean([_right(t, horizon) for t in trials]))


def _right(trial: Trial, horizon: float) -> float:
    among = sum(when <= horizon for when in trial.others)
    return 1 / (1 + among) if trial.delay <= horizon + 1e-9 else 0.0
