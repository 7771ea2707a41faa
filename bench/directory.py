"""The directories' table under churn, liars and a Sybil flood, with each defence switched off in turn.

Real machines (core/dht) in virtual time; signatures are stand-ins of their real size. Every case is run with several
seeds; intervals are Wilson's, 95%, over all searches. Writes bench/results/directory.json; prints a table and, last,
one JSON line. `--quick` ends in about a minute. A large network: `--directories 10000 --seeds 1 --cases honest,both`.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from phantomband_cli.sim.dht.measures import wilson
from phantomband_cli.sim.dht.scenario import DEFENCES, Scenario, without
from phantomband_cli.sim.dht.world import World

HERE = Path(__file__).resolve().parent
NETWORKS = (2, 8, 16, 32)
"""/16 networks of the Sybils: what a flood must pay for."""

QUICK_CASES = ("honest", "liars", "both", "both, without prefixes", "both, without all")


def cases(base: Scenario) -> dict[str, Scenario]:
    """Every world that is compared. `both` is 20% liars and ten Sybils for each honest directory, in four /16."""
    liars = replace(base, malicious=0.2)
    both = replace(liars, sybils=10.0, sybil_networks=4)
    return {
        "honest": base,
        "liars": liars,
        "both": both,
        **{f"both, {count} networks": replace(both, sybil_networks=count) for count in NETWORKS},
        **{f"liars, without {name}": without(liars, name) for name in (*DEFENCES, "all")},
        **{f"both, without {name}": without(both, name) for name in (*DEFENCES, "all")},
    }


def measure(scenario: Scenario) -> dict[str, float]:
    return World(scenario).run().figures()


def together(runs: list[dict[str, float]]) -> dict[str, float]:
    """Success over all runs; of everything else the mean of the runs' figures."""
    searches = sum(run["searches"] for run in runs)
    found = sum(run["success"] * run["searches"] for run in runs)
    low, high = wilson(round(found), round(searches))
    means = {key: fmean(run[key] for run in runs) for key in runs[0]}
    return means | {
        "searches": searches,
        "success": found / max(1, searches),
        "success_low": low,
        "success_high": high,
        "runs": len(runs),
    }


def row(name: str, figures: dict[str, float]) -> str:
    return (
        f"{name:<26} {100 * figures['success']:6.1f}% ({100 * figures['success_low']:5.1f}-"
        f"{100 * figures['success_high']:5.1f}) {figures['hops_p50']:5.1f} {figures['hops_p95']:5.1f} "
        f"{figures['requests_p50']:8.0f} {figures['seconds_p50']:7.2f} {figures['seconds_p95']:7.2f} "
        f"{figures['bytes_a_node_a_minute'] / 1000:9.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--directories", type=int, help="honest and malicious ones")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--cases", help="names, with commas; default: all")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    quick = given.quick
    base = Scenario(
        directories=given.directories or (300 if quick else 1000),
        warm_up=300.0 if quick else 1800.0,
        seconds=300.0 if quick else 900.0,
        searches=200 if quick else 1000,
    )
    wanted = cases(base)
    if given.cases or quick:
        names = given.cases.split(",") if given.cases else QUICK_CASES
        wanted = {name: wanted[name] for name in names}
    seeds = given.seeds or (1 if quick else 2)
    print(f"{'':<26} success   95%           hops   p95 requests seconds     p95 KB/node/min", flush=True)
    results: dict[str, dict[str, float]] = {}
    with ProcessPoolExecutor(given.jobs) as pool:
        asked = {
            name: [pool.submit(measure, replace(scenario, seed=seed)) for seed in range(1, seeds + 1)]
            for name, scenario in wanted.items()
        }
        for name, runs in asked.items():
            results[name] = together([run.result() for run in runs])
            print(row(name, results[name]), flush=True)
    sizes = {"directories": base.directories, "seeds": seeds, "seconds": base.seconds}
    written = {"quick": quick, **sizes, "cases": results}
    (HERE / "results" / "directory.json").write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(written))


if __name__ == "__main__":
    main()
