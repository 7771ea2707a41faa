"""Whether files or memory leak, and what services count.

Judged at rest points only, when no fetch is under way and no fault either. A process is looked at from its first rest
point on, one after it began; a restart begins anew. Its growth is the median of the last third of its points less that
of the first third, three points at least. What a process of its kind grew by in the control phase, in which there
were no faults, and a tolerance is taken off; what is left has leaked.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faults import children

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "attacks"))
from limited import LimitedNetwork
from phantomband_cli.control import ServiceStatus, ask_services

MIB = 1024 * 1024
FILES_TOLERANCE = 12
"""Links and circuits come and go: each is one file at a gateway, and a node has peers by three transports."""
MEMORY_TOLERANCE_MIB = 12.0
"""Pages that an allocator keeps after a peak, some 3 MiB a link's buffers; a leak of each fetch or fault passes it."""
FEWEST_POINTS = 4

ANSWER_SECONDS, ASKED_AGAIN = 10.0, 2
"""All services are asked at once, on a busy machine: who is silent is asked again before it counts as such."""


@dataclass
class Life:
    """One process, from start to end."""

    name: str
    kind: str
    files: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    """MiB, PSS."""

    def growth(self, values: list[int] | list[float]) -> float:
        if len(values) < FEWEST_POINTS:
            return 0.0
        third = max(1, len(values) // 3)
        return statistics.median(values[-third:]) - statistics.median(values[:third])


@dataclass
class Growth:
    """Samples of all processes."""

    network: LimitedNetwork
    lives: dict[tuple[str, int], Life] = field(default_factory=dict)
    control_files: dict[str, float] = field(default_factory=dict)
    control_memory: dict[str, float] = field(default_factory=dict)
    bugs_of_lives: dict[tuple[str, int], int] = field(default_factory=dict)

    def sample(self) -> None:
        """One rest point."""
        for name, process in self.network.processes.items():
            self._sample(name, process.kind, process.pid)
            if process.kind == "relay":
                for child in children(process.pid):
                    self._sample(f"{name}.worker", "worker", child)

    def _sample(self, name: str, kind: str, pid: int) -> None:
        try:
            files = len(os.listdir(f"/proc/{pid}/fd"))
            pss = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
        except OSError:
            return
        if pss is not None:
            life = self.lives.setdefault((name, pid), Life(name, kind))
            life.files.append(files)
            life.memory.append(int(pss[1]) / 1024)

    def end_control(self) -> None:
        """What was sampled until now is what a network without faults does."""
        for life in self.lives.values():
            files = max(life.files, default=0) - min(life.files, default=0)
            memory = max(life.memory, default=0.0) - min(life.memory, default=0.0)
            self.control_files[life.kind] = max(files, self.control_files.get(life.kind, 0))
            self.control_memory[life.kind] = max(memory, self.control_memory.get(life.kind, 0.0))
            del life.files[:-1], life.memory[:-1]

    def leaks(self) -> tuple[dict[str, int], dict[str, float]]:
        """(files, MiB) beyond what is allowed, by process."""
        files: dict[str, int] = {}
        memory: dict[str, float] = {}
        for life in self.lives.values():
            more = life.growth(life.files) - self.control_files.get(life.kind, 0) - FILES_TOLERANCE
            if more > 0:
                files[life.name] = files.get(life.name, 0) + round(more)
            more = life.growth(life.memory) - self.control_memory.get(life.kind, 0.0) - MEMORY_TOLERANCE_MIB
            if more > 0:
                memory[life.name] = round(memory.get(life.name, 0.0) + more, 1)
        return files, memory

    def longest(self, count: int = 8) -> list[dict[str, object]]:
        """The processes that were looked at most often."""
        lives = sorted(self.lives.values(), key=lambda life: -len(life.files))[:count]
        return [
            {"name": life.name, "points": len(life.files), "files": [life.files[0], life.files[-1]],
             "mib": [round(life.memory[0], 1), round(life.memory[-1], 1)]}
            for life in lives
        ]  # fmt: skip

    def counts(self) -> dict[str, dict[str, float]]:
        """What each service says that it holds now. One that does not answer is missing."""
        sockets = {name: self._socket(name) for name in self.network.processes}
        answers: dict[str, ServiceStatus | None] = ask_services(sockets, ANSWER_SECONDS)
        for _ in range(ASKED_AGAIN):
            silent = {name: path for name, path in sockets.items() if answers[name] is None}
            answers |= ask_services(silent, ANSWER_SECONDS)
        found = {name: dict(answer.values) for name, answer in answers.items() if answer is not None}
        for name, values in found.items():
            process = self.network.processes[name]
            self.bugs_of_lives[name, process.pid] = int(values.get("bugs", 0))
        return found

    def _socket(self, name: str) -> Path:
        node, _, kind = name.partition(".")
        return self.network.layout.run / node / f"{kind or 'client'}.sock"

    @property
    def bugs(self) -> int:
        """By the services' own count, at its last reading of each process."""
        return sum(self.bugs_of_lives.values())


HELD = {
    "client": ("streams",), "relay": ("exit_streams", "circuits", "handshakes_waiting", "exit_lookups", "held_bytes"),
    "gateway": ("links", "links_pending", "cells_waiting", "held_bytes", "lane_buffered_bytes"),
    "mixer": ("held", "waiting", "lane_buffered_bytes"),
}  # fmt: skip
"""What goes back when fetches end, by kind of service."""

ROOM = {"circuits": 8.0, "links": 16.0, "held_bytes": 4.0 * MIB, "lane_buffered_bytes": 1.0 * MIB}
"""How much more a service may hold at the end than before; others: nothing more."""


def not_back(
    network: LimitedNetwork, before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """What has not gone back to what it was before the faults."""
    found = [f"{name}: does not answer" for name in network.processes if name not in after]
    for name, values in after.items():
        kind = network.processes[name].kind
        for what in HELD.get(kind, ()):
            was = before.get(name, {}).get(what, 0.0)
            if values.get(what, 0.0) > was + ROOM.get(what, 0.0):
                found.append(f"{name}: {what} {was:.0f} -> {values[what]:.0f}")
    return found


@dataclass(frozen=True)
class Logs:
    """What logs say."""

    tracebacks: list[str]
    bugs: list[str]


def read_logs(logs: Path) -> Logs:
    """The last line of each traceback, and lines of bugs."""
    tracebacks, bugs = [], []
    for path in sorted(logs.glob("*.log")):
        inside = False
        for line in path.read_text(errors="replace").splitlines():
            if re.match(r"[\s|+-]*(Exception Group )?Traceback \(most recent call last\)", line):
                inside = True
            elif inside and (match := re.match(r"[\s|]{0,4}([\w.]+(Error|Exception|Group|Bug|Interrupt)\b.*)", line)):
                line = match[1]
                tracebacks.append(f"{path.stem}: {line}")
                inside = False
            elif re.search(r"\bbug\b", line):
                bugs.append(f"{path.stem}: {line}")
    return Logs(tracebacks, bugs)
