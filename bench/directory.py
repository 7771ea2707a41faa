"""The directories' table, gossip and agreement in virtual time, under churn, liars and Sybils; what a share costs.

Groups:
    large      10,000 directories: honest; 20% liars and ten Sybils for each honest one
    defences   300: the same attacks with each defence switched off, side by side
    networks   300: the Sybils in more networks
    aimed      300: Sybils with chosen ids at one key or one directory, liars that take others' ids
    gossip     100 and 1,000 directories that reconcile at random meetings
    agreement  7 and 9 voting directories with as many liars as are tolerated
    cost       a tenth, a third and half of a view: CPU hours, networks; checks and spam (bench/work.py)

Real machines (core/dht, core/netdir/voting); the table's signatures are stand-ins of their real size, those of the
agreement real. Intervals are Wilson's, 95%, over all searches; where an attack has victims they are as wide at least as
those of a bootstrap over victims. Writes bench/results/directory.json and directory-*.png; prints
tables and, last, one JSON line. `--quick` ends in about a minute; `--groups large,gossip` runs these alone and keeps
the others' figures in the file.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import directory_agreement
import directory_cases
import directory_cost
import directory_gossip
from phantomband_cli.sim.dht.measures import wilson
from phantomband_cli.sim.dht.scenario import Aim, Scenario
from phantomband_cli.sim.dht.world import World
from phantomband_cli.sim.metrics import mean

RESULTS = Path(__file__).resolve().parent / "results"
SAMPLES = 1000
"""Hops and seconds of that many searches are kept for the plot."""

PLOTTED = "large"
"""The group that it shows."""

Row = dict[str, Any]


def measure(scenario: Scenario) -> Row:
    """Runs in a process of its own, where the collector need not look at what stays."""
    gc.set_threshold(100_000, 20, 20)
    gc.unfreeze()
    began = time.process_time()
    world = World(scenario)
    gc.freeze()
    measured = world.run()
    row: Row = dict(measured.figures())
    if scenario.aim is not Aim.NOBODY:
        row["by_victim"] = sorted(fmean(each) for each in measured.by_victim.values())
        over_victims = mean(list(measured.by_victim.values()))
        row["success_low"] = min(row["success_low"], over_victims.low or 0.0)
        row["success_high"] = max(row["success_high"], over_victims.high or 0.0)
    row["hops"], row["seconds"] = measured.hops[:SAMPLES], [round(one, 3) for one in measured.seconds[:SAMPLES]]
    row["cpu_s"] = time.process_time() - began
    row["MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return row


def together(runs: list[Row]) -> Row:
    """Success over all runs; of everything else the mean of the runs' figures."""
    if len(runs) == 1:
        return runs[0] | {"runs": 1}
    searches = sum(run["searches"] for run in runs)
    found = sum(run["success"] * run["searches"] for run in runs)
    low, high = wilson(round(found), round(searches))
    listed = {key: [one for run in runs for one in run[key]] for key, value in runs[0].items() if type(value) is list}
    means = {key: fmean(run[key] for run in runs) for key in runs[0] if key not in listed}
    success = {
        "success": found / max(1, searches),
        "success_low": min(low, means["success_low"]),
        "success_high": max(high, means["success_high"]),
    }
    return means | listed | success | {"searches": searches, "runs": len(runs)}


def headings() -> str:
    return f"{'':<34} success     95%          hops   p95 requests seconds    p95  KB/node/min captured"


def line(name: str, row: Row) -> str:
    return (
        f"{name:<34} {100 * row['success']:6.1f}% ({100 * row['success_low']:5.1f}-{100 * row['success_high']:5.1f})"
        f" {row['hops_p50']:5.1f} {row['hops_p95']:5.1f} {row['requests_p50']:8.0f} {row['seconds_p50']:7.2f}"
        f" {row['seconds_p95']:7.2f} {row['bytes_a_node_a_minute'] / 1000:9.0f} {100 * row['captured']:8.0f}%"
    )


def tables(group: str, asked: dict[str, list[Future[Row]]]) -> Iterator[tuple[str, Row]]:
    """Prints each case when it is there."""
    print(f"\n== {group}\n{headings()}", flush=True)
    for name, runs in asked.items():
        row = together([run.result() for run in runs])
        if group != PLOTTED:
            del row["hops"], row["seconds"]
        print(line(name, row), flush=True)
        yield name, row


def sizes(scenario: Scenario) -> Row:
    return {
        "directories": scenario.directories,
        "warm_up": scenario.warm_up,
        "seconds": scenario.seconds,
        "generations": scenario.generations,
        "victims": scenario.victims,
    }


def run(groups: list[str], quick: bool, seeds: int, jobs: int) -> dict[str, Any]:
    """All groups that are asked for, in their order; what is dear begins first."""
    results: dict[str, Any] = {}
    with ProcessPoolExecutor(jobs, max_tasks_per_child=None if quick else 1) as pool:
        asked = {
            group: {
                name: [pool.submit(measure, replace(scenario, seed=seed)) for seed in range(1, seeds + 1)]
                for name, scenario in directory_cases.of_group(group, quick).items()
            }
            for group in groups
            if group in directory_cases.GROUPS
        }
        others = {group: OTHERS[group].submit(pool, quick) for group in groups if group in OTHERS}
        for group in groups:
            if not asked.get(group, True):
                continue
            if group in asked:
                results[group] = dict(tables(group, asked[group]))
                base = next(iter(directory_cases.of_group(group, quick).values()), None)
                results[group]["sizes"] = sizes(base) if base is not None else {}
            else:
                print(f"\n== {group}", flush=True)
                results[group] = OTHERS[group].collect(others[group])
                print("\n".join(OTHERS[group].table(results[group])), flush=True)
    return results


OTHERS = {"gossip": directory_gossip, "agreement": directory_agreement, "cost": directory_cost}
ALL = [*directory_cases.GROUPS, *OTHERS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--groups", default=",".join(ALL), help="with commas; default: all")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each case of the table")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    groups = given.groups.split(",")
    if unknown := set(groups) - set(ALL):
        parser.error(f"no group {', '.join(sorted(unknown))}: there are {', '.join(ALL)}")
    results = run(groups, given.quick, given.seeds, given.jobs)
    file = RESULTS / "directory.json"
    written = {"bench": "directory", "quick": given.quick, **_before(file, groups, given.quick), **results}
    file.write_text(json.dumps(written, indent=None, separators=(",", ":")).replace("},", "},\n") + "\n")
    import directory_plot  # not above: the processes of the runs need no plots

    directory_plot.plot(written, RESULTS)
    print(json.dumps(directory_plot.without_samples(written)))


def _before(file: Path, groups: list[str], quick: bool) -> dict[str, Any]:
    """What other groups' runs of the same length left in the file."""
    if set(groups) == set(ALL) or not file.exists():
        return {}
    before = json.loads(file.read_text())
    return {group: before[group] for group in ALL if group in before and before["quick"] == quick}


if __name__ == "__main__":
    main()
