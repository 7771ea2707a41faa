"""Experiments on the vectorised model: a world, its adversaries, and what they reach, with intervals over networks.

Each gives rows: plain dictionaries with the world's parameters, the adversary, and estimates (metrics.py). The copies
of a world are independent networks with users and paths of their own; intervals are over copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from phantomband_cli.sim import measures
from phantomband_cli.sim.adversaries.base import Adversary, Observation, of_run
from phantomband_cli.sim.adversaries.edges import Edges
from phantomband_cli.sim.adversaries.ends import Ends
from phantomband_cli.sim.adversaries.everywhere import Everywhere
from phantomband_cli.sim.adversaries.fingerprint import accuracy
from phantomband_cli.sim.adversaries.kill import Kill
from phantomband_cli.sim.adversaries.ladder import Ladder
from phantomband_cli.sim.adversaries.learned import Learned
from phantomband_cli.sim.adversaries.watermark import Watermark
from phantomband_cli.sim.fast.model import Model
from phantomband_cli.sim.fast.world import Attack, Run, World
from phantomband_cli.sim.metrics import Estimate, mean, median

Row = dict[str, Any]

FALSE_POSITIVES = (1e-3, 1e-4)

STEPS = 12
"""Times at which an adversary looks, evenly spread: the resolution of the time to link."""

TRAINING = 5
"""Copies that the learned correlator trains on, beside those that are judged."""

CODE_SECONDS = 2.0
"""Length of a bit of the delaying guard's code; at least twice the mixers' interval."""


def passive(world: World, seed: int, lengths: Sequence[float], *, learn: bool = True) -> list[Row]:
    """Watchers: at guard and exit, on all links, by the ladder where there is one, and a learned one on all links.

    After each of `lengths` seconds.

    The world's copies are those that are judged; training copies are added.
    """
    training = TRAINING if learn else 0
    run = Model(replace(world, copies=world.copies + training), seed).run()
    seen = [of_run(run, copy) for copy in range(run.world.copies)]
    judged, examples = seen[: world.copies], seen[world.copies :]
    costs = _costs(run, world.copies)
    rows = []
    for seconds in lengths:
        rows.append(_row(world, Ends(), seconds, judged, costs, by_time=True))
        rows.append(_row(world, Everywhere(), seconds, judged, costs))
        if world.profile.client.kind == "adaptive":
            rows.append(_row(world, Ladder(), seconds, judged, costs))
        if learn:
            rows.append(_row(world, Learned(examples, seconds, everywhere=True), seconds, judged, costs))
    return rows


def active(world: World, seed: int, delaying: float) -> list[Row]:
    """A guard that delays (for `delaying` seconds), one that kills, and the beginnings and ends of sessions."""
    tick = world.profile.tick or 0.0
    delays = Attack(period=max(CODE_SECONDS, 2 * tick))
    tries: list[tuple[Adversary, World]] = [
        (Watermark(), replace(world, attack=delays, watch_nodes=False, seconds=delaying)),
        (Kill(), replace(world, attack=Attack(kill=True), watch_nodes=False)),
        (Edges(), replace(world, sessions=world.seconds / 2, watch_nodes=False)),
    ]
    rows = []
    for adversary, changed in tries:
        run = Model(changed, seed).run()
        seen = [of_run(run, copy) for copy in range(world.copies)]
        rows.append(_row(changed, adversary, changed.seconds, seen, {}))
    return rows


def fingerprinting(world: World, seed: int) -> Row:
    """Which of the world's sites a client loads, from its link alone."""
    run = Model(replace(world, watch_nodes=False), seed).run()
    both = [accuracy(run, copy) for copy in range(world.copies)]
    return {
        **_world(world),
        "adversary": "website fingerprinting",
        "watched": world.seconds,
        "sites": world.sites,
        "chance": 1 / world.sites,
        "forest": asdict(mean([[forest] for forest, _ in both])),
        "neighbours": asdict(mean([[near] for _, near in both])),
    }


def _row(
    world: World,
    adversary: Adversary,
    seconds: float,
    seen: Sequence[Observation],
    costs: dict[str, Estimate],
    *,
    by_time: bool = False,
) -> Row:
    scores = [adversary.scores(one, seconds) for one in seen]
    shannon, least = measures.entropies(scores)
    found = {
        "top1": mean([[measures.top1(s)] for s in scores]),
        **{
            f"tpr_{rate:g}": mean([_known(measures.true_positives(s, rate)) for s in scores])
            for rate in FALSE_POSITIVES
        },
        "shannon": mean([[x] for x in shannon]),
        "min_entropy": mean([[x] for x in least]),
        **costs,
    }
    if by_time:
        found |= _by_time(adversary, seconds, seen)
    named = {name: asdict(estimate) for name, estimate in found.items()}
    return {**_world(world), "adversary": adversary.name, "watched": seconds, **named}


def _by_time(adversary: Adversary, seconds: float, seen: Sequence[Observation]) -> dict[str, Estimate]:
    steps = [seconds * (i + 1) / STEPS for i in range(STEPS)]
    by_copy = [[(until, adversary.scores(one, until)) for until in steps] for one in seen]
    found = {"time_to_link": median([measures.times_to_link(one) for one in by_copy])}
    for i, until in enumerate(steps):
        found[f"top1_after_{until:g}"] = mean([[measures.top1(one[i][1])] for one in by_copy])
    return found


def _costs(run: Run, copies: int) -> dict[str, Estimate]:
    def by_copy(value: Callable[[int], list[float]]) -> list[list[float]]:
        return [value(copy) for copy in range(copies)]

    flow_seconds = run.world.flows * run.world.seconds
    cells = run.client_up.sum(axis=1, dtype=np.int64) + run.client_down.sum(axis=1, dtype=np.int64)
    on_client = cells.reshape(run.world.copies, -1).sum(axis=1) / flow_seconds
    return {
        "first_byte": mean(by_copy(lambda c: [float(np.median(x))] if (x := run.first_bytes[c]).size else [])),
        "page": mean(by_copy(lambda c: [float(np.median(x))] if (x := run.pages[c]).size else [])),
        "pages_a_minute": mean(by_copy(lambda c: [run.pages[c].size / flow_seconds * 60])),
        "client_cells_a_second": mean(by_copy(lambda c: [float(on_client[c])])),
        "cells_a_second": mean(by_copy(lambda c: [run.cells_sent[c] / flow_seconds])),
        "dummy_share": mean(by_copy(lambda c: [run.dummies_sent[c] / run.cells_sent[c]] if run.cells_sent[c] else [])),
    }


def _world(world: World) -> Row:
    return {
        "profile": world.profile.name,
        "flows": world.flows,
        "nodes": world.nodes,
        "think": world.web.think,
        "networks": world.copies,
    }


def _known(value: float | None) -> list[float]:
    return [] if value is None else [value]
