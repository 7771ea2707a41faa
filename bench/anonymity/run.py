"""Who can link whom, by strategy, profile, load, length and adversary: every figure of docs/explanation/anonymity.md.

Prints tables and, last, one JSON line; writes anonymity.json and plots (SVG) to bench/results. The same version
gives the same figures. `--quick` ends in about a minute with few networks and writes anonymity-quick.json: for a look,
not for the documents.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import plan
import plots
import tables

RESULTS = Path(__file__).resolve().parents[1] / "results"
DOCUMENT = RESULTS.parents[1] / "docs/explanation/anonymity.md"
PROCESSES = 2
PARTS = ("passive", "active", "fingerprinting", "flooding", "capture", "intersection", "theory")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Set to 1 for the processes that work: one process for each core is faster than several threads in each."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, few networks")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory for results and plots")
    parser.add_argument(
        "--docs", action="store_true", help="only the document's tables and the plots, from the results that are there"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="PROFILE", help="again for these, kept for the others")
    arguments = parser.parse_args()
    name = "anonymity-quick" if arguments.quick else "anonymity"
    file = arguments.out / f"{name}.json"
    if arguments.docs:
        kept = json.loads(file.read_text())
        DOCUMENT.write_text(tables.filled(DOCUMENT.read_text(), kept))
        plots.everything(kept, arguments.out, name)
        return 0
    for variable in THREADS:
        os.environ.setdefault(variable, "1")
    started = time.monotonic()
    tasks = [t for t in plan.tasks(quick=arguments.quick) if not arguments.only or t.profile in arguments.only]
    results: dict[str, Any] = {
        "bench": "anonymity",
        "quick": arguments.quick,
        "seed": plan.SEED,
        "size": asdict(plan.QUICK if arguments.quick else plan.FULL),
        **{part: [] for part in PARTS},
    }
    if arguments.only:
        kept = json.loads(file.read_text())
        if kept["size"] != results["size"]:
            parser.error(f"{file} is of a run of another size")
        results |= {part: [row for row in kept[part] if row.get("profile") not in arguments.only] for part in PARTS}
    for number, rows in run(tasks, arguments.processes):
        results[tasks[number].part] += rows
    results["seconds"] = round(time.monotonic() - started) + (kept["seconds"] if arguments.only else 0)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")
    plots.everything(results, arguments.out, name)
    print(tables.everything(results))
    print(json.dumps(tables.summary(results)))
    return 0


def run(tasks: list[plan.Task], processes: int) -> Iterator[tuple[int, plan.Rows]]:
    """Rows of each task, in the tasks' order."""
    done: dict[int, plan.Rows] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        numbers = {pool.submit(_timed, task): number for number, task in enumerate(tasks)}
        for future in as_completed(numbers):
            rows, took = future.result()
            done[numbers[future]] = rows
            task = tasks[numbers[future]]
            print(f"{len(done)}/{len(tasks)} {task.part}: {task.label}: {took:.0f} s", file=sys.stderr, flush=True)
    yield from sorted(done.items())


def _timed(task: plan.Task) -> tuple[plan.Rows, float]:
    started = time.monotonic()
    return task.work(*task.arguments), time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
