"""The supervisor with real processes, in an interpreter of its own: forks want a process with one thread."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from phantomband_cli.process import ProcessId

SCRIPT = """
import json, sys, time, signal
from phantomband_cli.supervisor import Program, Supervisor

class Observer:
    def changed(self, programs, stopping):
        print(json.dumps({"stopping": stopping, "programs": [
            [r.program.name, r.process and [r.process.pid, r.process.started], r.state, r.restarts.count]
            for r in programs
        ]}), flush=True)
    def lifeline(self, handle):
        return True

def sleeps(): time.sleep(60)
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
def wrong(): raise SystemExit("error: no")

programs = [Program(name, globals()[name]) for name in sys.argv[1:]]
lifeline = 0
sys.exit(Supervisor(programs, Observer(), 0.2, lifeline, stop_on_user_error=True).run())
"""


class Run:
    """One supervisor."""

    def __init__(self, *names: str) -> None:
        command = [sys.executable, "-c", SCRIPT, *names]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.seen: set[ProcessId] = set()

    def next(self) -> dict[str, Any]:
        """The next report."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 10)[0], "nothing more is reported"
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.seen |= {ProcessId(*p[1]) for p in report["programs"] if p[1]}
        return report

    def end(self) -> int:
        """Exit code; everything that was ever seen is gone."""
        code = self.process.wait(10)
        assert not [p for p in self.seen if p.alive]
        return code


@pytest.fixture
def start() -> Iterator[Any]:
    runs: list[Run] = []

    def starts(*names: str) -> Run:
        runs.append(Run(*names))
        return runs[-1]

    yield starts
    for run in runs:
        run.process.kill()
        run.process.communicate()


def test_a_killed_program_is_restarted_and_all_end_with_the_supervisor(start: Any) -> None:
    run = start("sleeps", "sleeps")
    first = run.next()["programs"]
    os.kill(first[0][1][0], signal.SIGKILL)
    assert run.next()["programs"][0][1:3] == [None, "waiting"]
    again = run.next()["programs"]
    assert again[0][1][0] != first[0][1][0]
    assert again[0][3] == 1
    assert again[1] == first[1]
    run.process.terminate()
    assert run.next()["stopping"]
    assert run.end() == 0


def test_what_ignores_sigterm_is_killed(start: Any) -> None:
    run = start("stubborn")
    run.next()
    run.process.terminate()
    assert run.end() == 0


def test_the_end_of_the_lifeline_ends_all(start: Any) -> None:
    run = start("sleeps")
    run.next()
    run.process.stdin.close()
    run.process.stdin = None
    assert run.end() == 0


def test_children_die_with_a_supervisor_that_is_killed(start: Any) -> None:
    run = start("sleeps")
    run.next()
    run.process.kill()
    run.process.wait(10)
    child = next(iter(run.seen))
    with pytest.raises(ProcessLookupError):  # the kernel kills it as soon as the parent is gone
        for _ in range(1_000_000):
            os.kill(child.pid, 0)
            if not child.alive:
                raise ProcessLookupError


def test_a_users_mistake_ends_all_with_its_message(start: Any) -> None:
    run = start("wrong", "sleeps")
    assert run.process.wait(10) == 2
    assert run.process.stderr.read() == b"error: no\n"
