"""`phantomband sim`: simulates, attacks, prints a table and one JSON line. The control `none` is always first."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median_low
from typing import Any

from phantomband.core.errors import UserError
from phantomband.runtime.settings import MixerSection
from phantomband_mixer.service import strategy

from phantomband_cli.sim.correlate import Correlator
from phantomband_cli.sim.metrics import Estimate, times_to_link, top1, true_positives
from phantomband_cli.sim.network import Network, Outcome, Scenario
from phantomband_cli.sim.plan import FALSE_POSITIVES, PARAMETER, STEPS, Plan, Row, Sample, summed_up

TICKING = frozenset({"timed", "pool"})
"""Strategies that release at every `interval`."""


def simulate(scenario: Scenario, section: MixerSection, seed: int) -> Outcome:
    """One run with the strategy that a mixer with this configuration has."""
    return Network(scenario, lambda random: strategy(section, random), seed).run()


def attack(outcome: Outcome, section: MixerSection, seconds: float) -> Sample:
    """What guard and exit links give away; the strategy is known, nodes publish it."""
    tick = section.interval if section.strategy in TICKING else None
    correlator = Correlator.tuned(outcome.first_bytes, tick)
    truth = range(len(outcome.clients))
    steps = [seconds * (i + 1) / STEPS for i in range(STEPS)]
    by_time = [(until, correlator.scores(outcome.clients, outcome.servers, until)) for until in steps]
    scores = by_time[-1][1]
    return Sample(
        top1(scores, truth),
        {rate: true_positives(scores, truth, rate) for rate in FALSE_POSITIVES},
        times_to_link(by_time, truth),
        [median_low(outcome.first_bytes)] if outcome.first_bytes else [],
        outcome.cells,
        outcome.payload_bytes,
        outcome.whole / len(outcome.clients),
        correlator,
    )


def measure(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Each strategy over all seeds."""
    rows = []
    for section in plan.sections():
        parameter = PARAMETER.get(section.strategy)
        interval = None if parameter is None else section.model_dump()[parameter]
        samples = []
        for seed in plan.seeds:
            tell(f"{section.strategy} {interval or 0:g} s: seed {seed}")
            samples.append(attack(simulate(plan.scenario, section, seed), section, plan.scenario.seconds))
        rows.append(summed_up(section.strategy, interval, samples))
    return rows


def run_sim(plan: Plan, file: Path | None) -> None:
    """Runs the plan; the table and, last, the JSON line go to standard output, progress to standard error."""
    plan.check()
    started = time.monotonic()
    rows = (_fast_measure() if plan.model == "fast" else measure)(plan, _tell)
    result = {
        "command": "sim",
        "model": plan.model,
        "adversary": "passive, guard and exit links",
        "scenario": asdict(plan.scenario),
        "seeds": list(plan.seeds),
        "rows": [asdict(row) for row in rows],
    }
    line = json.dumps(result)
    if file is not None:
        _write(file, result)
    print(table(rows))
    print(f"{time.monotonic() - started:.0f} s of real time", file=sys.stderr)
    print(line)


def _fast_measure() -> Callable[[Plan, Callable[[str], None]], list[Row]]:
    try:
        from phantomband_cli.sim.fast.command import measure
    except ModuleNotFoundError as e:
        raise UserError(f"--model fast needs {e.name}. Install it: pip install 'phantomband-cli[sim]'") from e
    return measure


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _write(file: Path, result: dict[str, Any]) -> None:
    try:
        file.write_text(json.dumps(result, indent=1) + "\n")
    except OSError as e:
        raise UserError(f"--json {file}: cannot be written: {e.strerror}") from e


# ---- the table -----------------------------------------------------------------------------------------------------

HEAD = (
    "strategy",
    "interval",
    "top-1",
    "TPR @ FPR 1e-2",
    "TPR @ FPR 1e-3",
    "time to link",
    "first byte",
    "cells",
    "whole",
)


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, each value with its 95% interval."""
    lines = [HEAD, ("---",) * len(HEAD), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.strategy,
        "" if row.interval is None else f"{row.interval:g} s",
        _show(row.top1, 100, ".1f", "%"),
        *(_show(e, 100, ".1f", "%") for e in row.true_positives.values()),
        _show(row.time_to_link, 1, ".0f", " s"),
        _show(row.first_byte, 1000, ".0f", " ms"),
        _show(row.cells, 1, ",.0f", ""),
        _show(row.whole, 100, ".0f", "%"),
    )


def _show(e: Estimate, scale: float, form: str, unit: str) -> str:
    """`value unit (low to high)`; what is None is unknown or never."""
    value, low, high = ("-" if x is None else format(x * scale, form) for x in (e.value, e.low, e.high))
    return f"{value}{unit} ({low} to {high})" if e.value is not None else "-"
