"""Closed forms for single mixers, and the same measured on the real strategies with cells of circuits of their own.

Exponential mix. With cells at rate L and delays of mean d, the number held is Poisson(L d), and since the delay has no
memory, each of the k + 1 cells that are there when one leaves was as likely to be it: the entropy is the mean of
log2(k + 1) (Kesdogan et al., 1998; Danezis, 2004, gives log2(e L d) for the set of all cells that ever came).

Pool. With a cells an interval, n held before a tick become m + (1 - f)(n - m) + a before the next. In the steady
state a cell leaves after j more ticks with probability p (1 - p)^j, where p = a / n, and came with a - 1 others, all
equal: the entropy of which cell left is that of j plus log2(a) (Serjantov and Danezis, 2002).
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from random import Random

import numpy as np
from phantomband.core.ids import LinkId
from phantomband.core.mixing.poisson import PoissonMixing
from phantomband.core.mixing.pool import PoolMixing

from phantomband_cli.sim.adversaries.base import Floats
from phantomband_cli.sim.events import Events
from phantomband_cli.sim.mixer import Mixer
from phantomband_cli.sim.node import Seeded

LINK = LinkId(1)
MANY = 1 << 17
"""Bound of the mixers: never reached."""


def exponential_formula(rate: float, delay: float) -> float:
    """Mean bits of the adversary's doubt about which held cell leaves next."""
    held = rate * delay
    k = np.arange(int(held + 12 * math.sqrt(held) + 30))
    logs = k * math.log(held) - held - np.array([math.lgamma(x + 1) for x in k])
    return float((np.exp(logs) * np.log2(k + 1)).sum())


def exponential_entropy(rate: float, delay: float, seed: int, seconds: float = 6.0) -> float:
    """The same, measured: cells held when one leaves, after ten mean delays."""
    events, random = Events(), Random(seed)
    doubts: list[float] = []
    strategy = PoissonMixing(delay, MANY, Seeded(f"theory/{seed}"))

    def sent(link: LinkId, cells: list[bytes]) -> None:
        if events.now > 10 * delay:
            doubts.extend(math.log2(strategy.held + len(cells) - i) for i in range(len(cells)))

    mixer = Mixer(events, strategy, 1000.0, sent)
    when, count = 0.0, 0
    while (when := when + random.expovariate(rate)) < seconds:
        count += 1
        events.at(when, partial(mixer.add, LINK, [count.to_bytes(4, "big")]))
    events.run(seconds, lambda: False)
    return float(np.mean(doubts))


def pool_recursion(minimum: int, fraction: float, arrivals: int, ticks: int) -> Floats:
    """Mean cells held before each tick, from an empty pool."""
    held, out = 0.0, []
    for _ in range(ticks):
        held += arrivals
        out.append(held)
        held -= fraction * max(0.0, held - minimum)
    return np.array(out)


def pool_held(minimum: int, fraction: float, arrivals: int, ticks: int, seed: int) -> list[int]:
    """The same, measured once."""
    held, _ = _pool(minimum, fraction, arrivals, ticks, seed)
    return held


def pool_formula(minimum: int, fraction: float, arrivals: int) -> float:
    """Bits of doubt about which cell it was that left."""
    p = arrivals / (minimum + arrivals / fraction)
    return -math.log2(p) - (1 - p) / p * math.log2(1 - p) + math.log2(arrivals)


def pool_entropy(minimum: int, fraction: float, arrivals: int, seed: int, ticks: int = 400) -> float:
    """The same, measured: the entropy of how many ticks cells stay (corrected as by Miller and Madow), plus log2(a)."""
    _, stays = _pool(minimum, fraction, arrivals, ticks, seed)
    counts = np.array(list(Counter(stays).values()), dtype=np.float64)
    shares = counts / counts.sum()
    bits = -(shares * np.log2(shares)).sum() + (len(counts) - 1) / (2 * counts.sum() * math.log(2))
    return float(bits + math.log2(arrivals))


def _pool(minimum: int, fraction: float, arrivals: int, ticks: int, seed: int) -> tuple[list[int], list[int]]:
    """Cells held before each tick, and for how many ticks each cell stayed that came in the middle half."""
    strategy = PoolMixing(1.0, minimum, fraction, 1e6, MANY, Seeded(f"theory/{seed}"))
    random, held, stays = Random(seed), [], []
    for tick in range(ticks):
        for i, when in enumerate(sorted(random.random() for _ in range(arrivals))):
            circuit = (tick * arrivals + i).to_bytes(4, "big")
            strategy.add(LINK, [circuit + tick.to_bytes(4, "big")], tick + when)
        held.append(strategy.held)
        for _, cells in strategy.release(tick + 1.0):
            came = [int.from_bytes(cell[4:8], "big") for cell in cells]
            stays += [tick - first for first in came if ticks // 4 <= first < ticks * 3 // 4]
    return held, stays
