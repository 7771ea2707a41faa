"""The vectorised model beside the exact simulator: the same delays, loads and links on a small world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from phantomband.runtime.settings import MixerSection
from phantomband_cli.sim import measures
from phantomband_cli.sim.adversaries.base import of_outcome, of_run
from phantomband_cli.sim.adversaries.ends import Ends
from phantomband_cli.sim.fast.model import DOWN_EXIT, EXIT_BACK, REAL, Model
from phantomband_cli.sim.fast.world import STEP, Attack, Run, World
from phantomband_cli.sim.network import Scenario
from phantomband_cli.sim.profiles import Profile, balanced, mixing, strong
from phantomband_cli.sim.run import simulate

SMALL = Scenario(flows=16, seconds=20.0, nodes=6)
SEEDS = 2
COPIES = 12


def model(profile: Profile, **changes: object) -> Run:
    world = World(profile, flows=SMALL.flows, nodes=SMALL.nodes, copies=COPIES, seconds=SMALL.seconds)
    return Model(replace(world, **changes), 1).run()


@pytest.mark.parametrize(
    "mixed",
    [
        {"strategy": "none"},
        {"strategy": "timed", "interval": 0.25},
        pytest.param({"strategy": "poisson", "mean_delay": 0.05}, marks=pytest.mark.slow),
        pytest.param({"strategy": "threshold", "threshold": 16, "max_wait": 0.2}, marks=pytest.mark.slow),
        pytest.param({"strategy": "pool", "interval": 0.1, "pool_minimum": 8, "max_wait": 0.5}, marks=pytest.mark.slow),
        pytest.param({"strategy": "slots", "slot": 0.05, "slot_dummies": 0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_agrees_with_the_exact_simulator(mixed: dict[str, object]) -> None:
    """First bytes, payload, cells on clients' links and the correlator's result.

    Two runs of the exact simulator give means with errors of their own: the difference is held against four standard
    errors of both, and what steps of 10 ms and missing congestion control may cost: a tenth.
    """
    section = MixerSection.model_validate(mixed)
    exact = [simulate(SMALL, section, seed) for seed in range(1, SEEDS + 1)]
    run = model(Profile("", section), watch_nodes=False)
    cells = run.client_down.reshape(COPIES, -1).sum(axis=1)
    clients = [sum(sum(size for _, size in c.down) for c in outcome.clients) / 2055 for outcome in exact]
    agree([float(np.median(o.first_bytes)) for o in exact], [float(np.median(x)) for x in run.first_bytes])
    agree(
        [float(np.quantile(o.first_bytes, 0.9)) for o in exact], [float(np.quantile(x, 0.9)) for x in run.first_bytes]
    )
    agree([float(o.payload_bytes) for o in exact], run.payload_bytes.tolist())
    agree(clients, cells.tolist())
    tick = section.interval if section.strategy in ("timed", "pool") else None
    scores = [Ends().scores(of_outcome(o, SMALL.seconds, tick), SMALL.seconds) for o in exact]
    fast = [Ends().scores(of_run(run, copy), SMALL.seconds) for copy in range(COPIES)]
    agree([measures.top1(s) for s in scores], [measures.top1(s) for s in fast])


def agree(exact: list[float], fast: list[float]) -> None:
    # One run of either varies as the model's copies do: two exact ones say too little about that themselves.
    error = (np.var(fast, ddof=1) * (1 / len(exact) + 1 / len(fast))) ** 0.5
    assert np.mean(fast) == pytest.approx(np.mean(exact), abs=4 * error + 0.1 * np.mean(exact))


def test_the_same_seed_gives_the_same_run_and_another_does_not() -> None:
    world = World(balanced(), flows=10, nodes=4, seconds=5.0)
    first, again, other = (Model(world, seed).run() for seed in (1, 1, 2))
    for name in ("client_up", "client_down", "server_up", "server_down", "link_cells"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.client_down, other.client_down)


@pytest.mark.parametrize(
    "profile", [mixing("none"), mixing("timed", interval=0.2), mixing("pool"), balanced(), strong()]
)
def test_no_cell_is_lost_or_made(profile: Profile) -> None:
    """What servers send is at clients, in queues or on links; what clients ask is at servers."""
    simulated = Model(World(profile, flows=15, nodes=5, copies=2, seconds=8.0), 3)
    run = simulated.run()
    queues = (simulated._mixed[REAL, DOWN_EXIT:], simulated._egress[REAL, DOWN_EXIT:], simulated._at_exit)
    under_way = sum(int(queue.sum()) for queue in queues) + simulated._lines._ring[:, REAL, EXIT_BACK:].sum()
    assert simulated._users.sent_cells.sum() == simulated._got.sum() + under_way
    assert run.payload_bytes.sum() > 0
    assert (simulated._mixed >= 0).all()
    assert (simulated._egress >= 0).all()


def test_strong_links_carry_the_same_at_all_times() -> None:
    """Each client's link, both ways, whatever its user does."""
    run = model(strong(link=48.0), copies=1, seconds=10.0)
    settled = slice(16, None)
    for series in (run.client_up, run.client_down):
        assert (series[:, settled] == 48.0 * run.bin_seconds).all()


def test_balanced_links_are_never_silent_and_dummies_fill_them() -> None:
    run = model(balanced(), copies=1, seconds=10.0)
    for series in (run.client_up, run.client_down):
        in_seconds = series[:, 8:].reshape(len(series), -1, 8).sum(axis=2)
        assert in_seconds.min() >= 8 - 1
    assert (run.dummies_sent / run.cells_sent).min() > 0.5


def test_sessions_are_seen_to_begin_and_end() -> None:
    run = model(strong(), copies=1, sessions=6.0)
    over = np.isfinite(run.closed)
    assert over.any()
    assert (run.closed[over] > run.ends[over]).all()
    assert (run.closed[over] - run.ends[over]).max() < 1.0
    times = (np.arange(run.client_up.shape[1]) + 1) * run.bin_seconds
    silent = (times[None, :] < run.begins[:, None]) | (times[None, :] - run.bin_seconds > run.ends[:, None] + 0.2)
    assert run.client_up[silent].sum() == 0


def test_a_killed_circuit_is_closed_at_its_server() -> None:
    run = model(mixing("none"), copies=2, attack=Attack(kill=True))
    both = np.isfinite(run.closed) & np.isfinite(run.kills)
    assert both.mean() > 0.8
    late = run.closed[both] - run.kills[both]
    assert (late > 0).all()
    assert late.max() < 0.1 + 2 * STEP


def test_a_guard_that_holds_lets_nothing_by() -> None:
    run = model(mixing("none"), copies=2, attack=Attack(period=2.0))
    bits = (np.arange(run.server_up.shape[1]) * run.bin_seconds / 2.0).astype(int)
    late = (np.arange(run.server_up.shape[1]) * run.bin_seconds) % 2.0 > 0.25
    held = run.codes[:, bits] & late[None, :]
    assert held.any()
    assert run.server_up[held].sum() == 0
    assert run.server_up.sum() > 0
