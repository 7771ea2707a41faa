"""Agreement: epochs certified and forks, under every lie that is tolerated. Worlds of phantomband_cli.sim.agreement."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

from phantomband_cli.sim.agreement.measures import together
from phantomband_cli.sim.agreement.scenario import Lie, Scenario
from phantomband_cli.sim.agreement.world import World

Row = dict[str, Any]

LIARS = 2
"""Tolerated of 7, whose quorum is 5, and of 9, whose quorum is 7."""

CASES = {
    "honest": Scenario(),
    "2% lost": Scenario(loss=0.02),
    "10% lost": Scenario(loss=0.1),
    "halves cut off in 30%": Scenario(split=0.3),
    **{lie.value: Scenario(liars=(lie,) * LIARS) for lie in Lie},
    "twins, 2% lost": Scenario(liars=(Lie.TWINS,) * LIARS, loss=0.02),
    "twins, halves cut off in 30%": Scenario(liars=(Lie.TWINS,) * LIARS, split=0.3),
    "killed between signing and sending, 10%": Scenario(killed=0.1),
    "killed 5%, one of the twins, one late, 2% lost": Scenario(liars=(Lie.TWINS, Lie.LATE), killed=0.05, loss=0.02),
}
QUICK = ("honest", "twins", "killed 5%, one of the twins, one late, 2% lost")


def submit(pool: Executor, quick: bool) -> dict[str, Future[Row]]:
    sizes, seeds, epochs = ((7,), 1, 6) if quick else ((7, 9), 3, 20)
    return {
        f"{size}: {name}": pool.submit(measure, replace(case, directories=size, epochs=epochs), seeds)
        for size in sizes
        for name, case in CASES.items()
        if not quick or name in QUICK
    }


def measure(scenario: Scenario, seeds: int) -> Row:
    runs = [World(replace(scenario, seed=seed)).run() for seed in range(1, seeds + 1)]
    honest = scenario.directories - len(scenario.liars)
    innocent = {index for run in runs for index in run.accused if index < honest}
    return {**together(runs, honest), "seeds": seeds, "honest_accused": len(innocent)}


def collect(asked: dict[str, Future[Row]]) -> dict[str, Row]:
    return {name: row.result() for name, row in asked.items()}


def table(results: dict[str, Row]) -> Iterator[str]:
    yield f"{'':<50}epochs certified     95%         forks  first p50     p95  last p50     p95  killed"
    for name, row in results.items():
        yield (
            f"{name:<50}{row['epochs']:>6}{100 * row['certified']:>9.1f}% ({100 * row['certified_low']:5.1f}-"
            f"{100 * row['certified_high']:5.1f}){row['forks']:>6}{row['seconds_first_p50']:>11.1f}"
            f"{row['seconds_first_p95']:>8.1f}{row['seconds_last_p50']:>10.1f}{row['seconds_last_p95']:>8.1f}"
            f"{row['kills']:>8}"
        )
