"""Gossip: how soon a new record is everywhere, and what that costs. Worlds of phantomband_cli.sim.gossip."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Any

from phantomband_cli.sim.gossip.scenario import Scenario
from phantomband_cli.sim.gossip.world import World

Row = dict[str, Any]
FULL = {
    f"{count}, {name}": Scenario(
        directories=count, malicious=part, period=period, warm_up=30.0, seconds=seconds, settle=settle
    )
    for count, seconds, settle in ((100, 900.0, 150.0), (1000, 30.0, 90.0))
    for name, part, period in (("honest", 0.0, 10.0), ("20% liars", 0.2, 10.0), ("20% liars, every 30 s", 0.2, 30.0))
    if count < 1000 or period < 30
}
QUICK = {
    name: Scenario(directories=60, malicious=part, seconds=600.0, settle=100.0)
    for name, part in (("60, honest", 0.0), ("60, 20% liars", 0.2))
}


def submit(pool: Executor, quick: bool) -> dict[str, Future[Row]]:
    return {name: pool.submit(measure, scenario) for name, scenario in (QUICK if quick else FULL).items()}


def measure(scenario: Scenario) -> Row:
    figures = World(scenario).run().figures()
    return {"directories": scenario.directories, "period": scenario.period, "seconds": scenario.seconds, **figures}


def collect(asked: dict[str, Future[Row]]) -> dict[str, Row]:
    return {name: row.result() for name, row in asked.items()}


def table(results: dict[str, Row]) -> Iterator[str]:
    yield (
        f"{'':<28}records  50% p50     p95  99% p50     p95 100% p50     max  everywhere  KB/node/min"
        "  junk/node/min  newcomer s"
    )
    for name, row in results.items():
        yield (
            f"{name:<28}{row['records']:>7}{row['seconds_50_p50']:>9.1f}{row['seconds_50_p95']:>8.1f}"
            f"{row['seconds_99_p50']:>9.1f}{row['seconds_99_p95']:>8.1f}{row['seconds_100_p50']:>9.1f}"
            f"{row['seconds_100_max']:>8.1f}{100 * row['reached_100']:>11.1f}%"
            f"{row['bytes_a_node_a_minute'] / 1000:>13.0f}{row['rejected_a_node_a_minute']:>15.2f}"
            f"{row['join_seconds_p50']:>12.1f}"
        )
