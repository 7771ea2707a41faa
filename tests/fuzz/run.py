"""`make fuzz`: every target under atheris in turn; the kept corpus is where each begins.

    corpus/NAME/*     small inputs that together reach what any input found so far reaches; the unit tests replay them
    coverage.json     by target: inputs and bytes kept, edges and features that they cover, executions that made them

`--keep` adds what a run found to both. It ends with a table and one line of JSON, and with exit code 1 if a target
failed; the failing input's path and how to run it again are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS, COVERAGE = HERE / "corpus", HERE / "coverage.json"
WORK = HERE.parent.parent / "build" / "fuzz" / "work"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))

MAX_INPUT = 1024
"""Bytes of an input that libFuzzer makes."""

KEPT_BYTES, KEPT_INPUTS = 20 * 1024, 150
"""Of one target: they are in the repository, and are run with the unit tests."""

TIMEOUT_SECONDS = 20
"""For one input; more is a failure, as a crash is."""

RSS_MB = 2048

_STATE = re.compile(r"#(\d+)\s+(INITED|DONE)\s+cov: (\d+) ft: (\d+)")
_NEW = re.compile(r"#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of one target showed. Edges and features are libFuzzer's `cov` and `ft`."""

    target: str
    executions: int
    edges_before: int
    edges: int
    features_before: int
    features: int
    crash: str = ""


def drive(target: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "drive.py"), target, *options]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # the same order of sets in each run: fewer false features
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=environment)


def fuzz(target: str, seconds: int) -> Result:
    """Runs one target from its kept corpus and its seeds; new inputs are in WORK/NAME."""
    work = WORK / target
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    kept = CORPUS / target
    begin = [str(kept)] if kept.is_dir() else []
    for number, seed in enumerate(seeds(target)):
        (work / f"seed{number}").write_bytes(seed)
    crashes = f"{WORK}/{target}-"
    for old in WORK.glob(f"{target}-*"):
        old.unlink()
    done = drive(
        target, str(work), *begin, f"-max_total_time={seconds}", f"-max_len={MAX_INPUT}", f"-timeout={TIMEOUT_SECONDS}",
        f"-rss_limit_mb={RSS_MB}", f"-artifact_prefix={crashes}", "-use_value_profile=0",
    )  # fmt: skip
    said = done.stderr + done.stdout
    states = {kind: (int(n), int(edges), int(ft)) for n, kind, edges, ft in _STATE.findall(said)}
    lines = [(int(n), int(edges), int(ft)) for n, edges, ft in _NEW.findall(said)]
    first = states.get("INITED", (0, 0, 0))
    last = states.get("DONE", max(lines, default=first))
    crash = next((str(path) for path in WORK.glob(f"{target}-*")), "")
    if done.returncode and not crash:
        crash = f"exit code {done.returncode}"
    if crash:
        print(said[-6000:], file=sys.stderr)
        print(f"{target} failed. Again: {sys.executable} {HERE}/drive.py {target} {crash}", file=sys.stderr)
    return Result(target, last[0], first[1], last[1], first[2], last[2], crash)


def seeds(target: str) -> list[bytes]:
    """What the target itself begins with. Its imports are those of the product, so this takes a second process."""
    code = (
        "import runpy, sys, json; sys.path[:0] = sys.argv[2:];"
        "print(json.dumps([s.hex() for s in runpy.run_path(sys.argv[1]).get('SEEDS', ())]))"
    )
    command = [sys.executable, "-c", code, str(HERE / f"fuzz_{target}.py"), str(HERE.parent / "support")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [bytes.fromhex(seed) for seed in json.loads(said)]


def features_of(target: str, inputs: list[Path]) -> list[set[int]]:
    """The features that each input reaches, by libFuzzer's own merging step, which we hand the list of files."""
    control = WORK / f"{target}.merge"
    control.write_text("\n".join((str(len(inputs)), "0", *map(str, inputs))) + "\n")
    drive(target, "-merge_inner=2", f"-merge_control_file={control}", f"-max_len={16 * MAX_INPUT}")
    found: list[set[int]] = [set() for _ in inputs]
    for line in control.read_text().splitlines()[2 + len(inputs) :]:
        word, *numbers = line.split()
        if word == "FT":
            found[int(numbers[0])] = set(map(int, numbers[1:]))
    control.unlink()
    return found


def chosen(inputs: list[Path], features: list[set[int]]) -> Iterable[Path]:
    """Those that add most for their size, in turn, until nothing is added or the room is used up."""
    sizes = [path.stat().st_size for path in inputs]
    covered: set[int] = set()
    left, room = set(range(len(inputs))), KEPT_BYTES
    for _ in range(KEPT_INPUTS):
        fitting = [i for i in left if sizes[i] <= room and features[i] - covered]
        if not fitting:
            return
        best = max(fitting, key=lambda i: (len(features[i] - covered) / (sizes[i] + 32), -sizes[i]))
        left.discard(best)
        covered |= features[best]
        room -= sizes[best]
        yield inputs[best]


def keep(result: Result) -> None:
    """Chooses the kept corpus anew from it and what was found, and measures it."""
    target, kept = result.target, CORPUS / result.target
    inputs = sorted((*kept.glob("*"), *(WORK / target).glob("*")), key=lambda path: (path.stat().st_size, path.name))
    contents = [path.read_bytes() for path in chosen(inputs, features_of(target, inputs))]
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for content in contents:
        (kept / hashlib.sha256(content).hexdigest()[:12]).write_bytes(content)
    measured = drive(target, str(kept), "-runs=0", f"-max_len={16 * MAX_INPUT}")
    state = _STATE.search(measured.stderr + measured.stdout)
    known = json.loads(COVERAGE.read_text()) if COVERAGE.exists() else {}
    before = known.get(target, {}).get("executions", 0)
    known[target] = {
        "inputs": len(contents), "bytes": sum(map(len, contents)), "edges": int(state[3]) if state else 0,
        "features": int(state[4]) if state else 0, "executions": before + result.executions,
    }  # fmt: skip
    COVERAGE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="names; all of them without any")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--keep", action="store_true", help="add what is found to the kept corpus")
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such targets: {', '.join(sorted(unknown))}. There are: {', '.join(TARGETS)}")
    results = []
    for target in options.targets or TARGETS:
        results.append(result := fuzz(target, options.seconds))
        if options.keep and not result.crash:
            keep(result)
        if len(results) == 1:
            print(f"{'target':14} {'executions':>10} {'edges':>13} {'features':>15}")
        edges, features = f"{result.edges_before} -> {result.edges}", f"{result.features_before} -> {result.features}"
        print(
            f"{target:14} {result.executions:10} {edges:>13} {features:>15} {'FAILED' if result.crash else ''}",
            flush=True,
        )
    crashes = sum(bool(result.crash) for result in results)
    print(json.dumps({"crashes": crashes, "targets": [asdict(result) for result in results]}))
    return int(bool(crashes))


if __name__ == "__main__":
    sys.exit(main())
