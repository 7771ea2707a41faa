"""The vectorised pacers beside the services' own: the same load gives the same number of cells; what shares are."""

from __future__ import annotations

import numpy as np
import pytest
from phantomband.core.shaping import Mode, Schedule, Shape, make_pacer
from phantomband_cli.sim import profiles
from phantomband_cli.sim.fast.pacing import Pacer
from phantomband_cli.sim.fast.sharing import Sharing
from phantomband_cli.sim.fast.world import STEP, STEPS_PER_SECOND
from phantomband_cli.sim.node import Seeded
from phantomband_cli.sim.profiles import Pacing

LINKS = 20
SECONDS = 45


def bursts() -> np.ndarray:
    """(steps, links): 40 cells at once each 4 s on average, and single ones between."""
    rng = np.random.default_rng(3)
    shape = (SECONDS * STEPS_PER_SECOND, LINKS)
    return 40 * (rng.random(shape) < STEP / 4) + (rng.random(shape) < STEP * 2)


def real_rates(shape: Shape) -> tuple[float, float]:
    """Cells a second that the services' pacer sends, and cells that wait, on average."""
    sent = waited = 0
    for link, cells in enumerate(bursts().T):
        pacer = make_pacer(shape, 0.0, Seeded(f"pacer/{link}"))
        assert pacer is not None
        waiting = 0
        for step, came in enumerate(cells.tolist()):
            waiting += came
            pacer.carried(step * STEP)
            while carries := pacer.due(step * STEP, waiting):
                sent += carries
                waiting -= min(waiting, carries)
            waited += waiting
    return sent / SECONDS / LINKS, waited / (SECONDS * STEPS_PER_SECOND * LINKS)


def fast_rates(pacing: Pacing) -> tuple[float, float]:
    """The same of the vectorised one."""
    pacer = Pacer(pacing, LINKS, np.random.default_rng(1))
    waiting = np.zeros(LINKS, dtype=np.int64)
    sent = waited = 0
    for step, came in enumerate(bursts()):
        waiting = waiting + came
        out = pacer.budget(step, waiting, np.ones(LINKS, dtype=np.bool_))
        waiting = waiting - np.minimum(waiting, out)
        sent += int(out.sum())
        waited += int(waiting.sum())
    return sent / SECONDS / LINKS, waited / (SECONDS * STEPS_PER_SECOND * LINKS)


@pytest.mark.parametrize(
    ("shape", "pacing"),
    [
        (Shape(Mode.ADAPTIVE, Schedule.FIXED, 512), profiles.balanced().client),
        (Shape(Mode.ADAPTIVE, Schedule.FIXED, 32_768), profiles.balanced().nodes),
        (Shape(Mode.CONSTANT, Schedule.FIXED, 40), profiles.strong().client),
        (Shape(Mode.CONSTANT, Schedule.POISSON, 32), Pacing("poisson", rate=32.0)),
    ],
    ids=["client", "nodes", "constant", "poisson"],
)
def test_it_paces_as_the_services_do(shape: Shape, pacing: Pacing) -> None:
    """Within a tenth, and a little more for what waits: slots of the model begin at steps of 10 ms."""
    (real_sent, real_waited), (sent, waited) = real_rates(shape), fast_rates(pacing)
    assert sent == pytest.approx(real_sent, rel=0.1)
    assert waited == pytest.approx(real_waited, rel=0.2, abs=0.2)


def test_links_that_are_not_active_send_nothing() -> None:
    for pacing in (Pacing("adaptive"), Pacing("constant"), Pacing("poisson")):
        pacer = Pacer(pacing, 4, np.random.default_rng(1))
        active = np.array([True, False, True, False])
        sent = sum(pacer.budget(step, np.full(4, 9), active) for step in range(400))
        assert (sent[active] > 0).all()
        assert (sent[~active] == 0).all()


def test_shares_are_exact_and_in_proportion() -> None:
    rng = np.random.default_rng(1)
    owner = rng.integers(0, 5, 60)
    cells = rng.integers(0, 9, 60)
    sharing = Sharing(owner, 6)
    waiting = sharing.waiting(cells)
    assert waiting.tolist() == np.bincount(owner, cells, 6).tolist()
    budget = np.array([0, 3, 10, 1000, 17, 5])
    total = np.zeros(60)
    for _ in range(2000):
        out = sharing.share(cells, waiting, budget, rng)
        assert ((out >= 0) & (out <= cells)).all()
        assert sharing.waiting(out).tolist() == np.minimum(waiting, budget).tolist()
        total += out
    want = cells * np.minimum(1, budget / np.maximum(waiting, 1))[owner]
    assert total / 2000 == pytest.approx(want, abs=0.06)
