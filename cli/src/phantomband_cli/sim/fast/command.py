"""`phantomband sim --model fast`: the same table as the exact simulator's, from the vectorised model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from phantomband.core.errors import UserError

from phantomband_cli.sim import measures
from phantomband_cli.sim.adversaries.base import Observation, of_run
from phantomband_cli.sim.adversaries.ends import Ends, tuned
from phantomband_cli.sim.correlate import Correlator
from phantomband_cli.sim.fast.model import Model
from phantomband_cli.sim.fast.world import World
from phantomband_cli.sim.plan import FALSE_POSITIVES, PARAMETER, STEPS, Plan, Row, Sample, summed_up
from phantomband_cli.sim.profiles import Profile, balanced, fast, strong

PROFILES: dict[str, Callable[[], Profile]] = {"fast": fast, "balanced": balanced, "strong": strong}

JUDGED = 200
"""Clients whose server is looked for, among all servers; in small networks all are."""


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Each strategy, or the profile and its control, over all seeds."""
    rows = []
    for profile, interval in _profiles(plan):
        samples = []
        for seed in plan.seeds:
            tell(f"{profile.name}: seed {seed}")
            samples.append(sample(_world(plan, profile), seed))
        rows.append(summed_up(profile.name.partition("(")[0], interval, samples))
    return rows


def sample(world: World, seed: int) -> Sample:
    """One seed's figures; `world` has one copy."""
    run = Model(world, seed).run()
    seen = _some_clients(of_run(run, 0))
    steps = [world.seconds * (i + 1) / STEPS for i in range(STEPS)]
    by_time = [(until, Ends().scores(seen, until)) for until in steps]
    scores = by_time[-1][1]
    k, lags = tuned(seen)
    first = run.first_bytes[0]
    return Sample(
        measures.top1(scores),
        {rate: measures.true_positives(scores, rate) for rate in FALSE_POSITIVES},
        measures.times_to_link(by_time),
        [float(np.median(first))] if first.size else [],
        int(run.cells_sent[0]),
        int(run.payload_bytes[0]),
        None,
        Correlator(k * seen.bin, lags * k * seen.bin),
    )


def _some_clients(seen: Observation) -> Observation:
    if len(seen.client_up) <= 2 * JUDGED:
        return seen
    return replace(seen, client_up=seen.client_up[:JUDGED], client_down=seen.client_down[:JUDGED])


def _world(plan: Plan, profile: Profile) -> World:
    scenario = plan.scenario
    return World(
        profile,
        scenario.flows,
        scenario.nodes,
        seconds=scenario.seconds,
        web=scenario.web,
        watch_nodes=False,
        access=scenario.access,
        backbone=scenario.backbone,
        server=scenario.server,
    )


def _profiles(plan: Plan) -> list[tuple[Profile, float | None]]:
    """What to measure, with the main parameter; the control first."""
    if plan.profile is None:
        return [
            (Profile(section.strategy, section), section.model_dump().get(PARAMETER.get(section.strategy, "")))
            for section in plan.sections()
        ]
    make = PROFILES.get(plan.profile)
    if make is None:
        raise UserError(f"--profile {plan.profile}: there is no such profile. Use {', '.join(PROFILES)}")
    return [(Profile("none"), None), (make(), None)]
