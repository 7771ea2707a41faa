"""The simulator's mixer against a closed form: timed mixing delays a cell uniformly between 0 and the interval."""

from __future__ import annotations

from random import Random

import pytest
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Strategy
from phantomband.core.mixing.none import NoMixing
from phantomband.core.mixing.timed import TimedMixing
from phantomband_cli.sim.events import Events
from phantomband_cli.sim.mixer import Mixer
from world import Seeded

CELLS = 4000


def delays(strategy: Strategy, offset: float) -> list[float]:
    """Delays of cells that come in at random, 200 a second, each of a circuit of its own."""
    events, random = Events(), Random(5)
    arrived: dict[bytes, float] = {}
    out: list[float] = []

    def sent(link: LinkId, cells: list[bytes]) -> None:
        out.extend(events.now - arrived.pop(cell) for cell in cells)

    mixer = Mixer(events, strategy, offset, sent)

    def arrive() -> None:
        cell = (len(out) + len(arrived)).to_bytes(4, "big")
        arrived[cell] = events.now
        mixer.add(LinkId(1), [cell])

    when = 0.0
    for _ in range(CELLS):
        when += random.expovariate(200.0)
        events.at(when, arrive)
    events.run(1e9, lambda: False)
    assert not arrived
    return out


@pytest.mark.parametrize(("interval", "offset"), [(0.05, 0.0), (0.05, 1234.567), (1.0, 1999.99), (1 / 3, 1000.1)])
def test_timed_delay_is_uniform(interval: float, offset: float) -> None:
    """Kolmogorov-Smirnov at level 1e-3: the statistic stays below 1.95 / sqrt(n)."""
    got = sorted(delays(TimedMixing(interval, 131_072, Seeded(1)), offset))
    assert len(got) == CELLS
    assert got[0] >= -1e-9
    assert got[-1] <= interval + 1e-9
    gap = max(abs((i + 1) / CELLS - delay / interval) for i, delay in enumerate(got))
    assert gap < 1.95 / CELLS**0.5


def test_none_does_not_delay() -> None:
    assert delays(NoMixing(), 1234.5) == [0.0] * CELLS
