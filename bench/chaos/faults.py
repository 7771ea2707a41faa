"""Faults, drawn from a seeded source: a shuffled deck of kinds, so that a short run meets each of them too.

A fault begins, lasts and ends; a process or a place has one at a time, and up to `AT_ONCE` are under way together.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from around import Around, send

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "attacks"))
from limited import LimitedNetwork

AT_ONCE = 3
PAUSE_SECONDS = (1.0, 4.0)
CLIENTS_SHARE = 0.3
"""Of the faults that can be of a client."""

HOUR, DAY = 3600, 86400
STEPS = (HOUR, -HOUR, 2 * DAY, -2 * DAY)

DECK = {
    "kill": 4, "kill-worker": 1, "stop": 3, "cut": 2, "partition": 2, "loss": 2, "full-disk": 2, "clock": 4,
    "suspend": 2,
}  # fmt: skip
"""How many of each kind are in the deck."""

PLACES = ("cut", "partition", "loss")

SECONDS = {
    "kill": (0.0, 0.0), "kill-worker": (0.0, 0.0), "stop": (3.0, 12.0), "cut": (5.0, 20.0), "partition": (5.0, 20.0),
    "loss": (10.0, 30.0), "full-disk": (10.0, 20.0), "clock": (8.0, 30.0), "suspend": (3.0, 12.0),
}  # fmt: skip
LOSS = 0.05
AFTER_SUSPEND_SECONDS = 10.0
"""Until the clock of a machine that woke is set right, since the world's went on with the rest of us."""


@dataclass(frozen=True)
class Fault:
    """One that took place."""

    at: float
    """Seconds since the start."""
    kind: str
    target: str
    seconds: float
    detail: str = ""


@dataclass
class Faults:
    """What can be broken, and what was."""

    network: LimitedNetwork
    around: Around
    draw: random.Random
    done: list[Fault] = field(default_factory=list)
    spared: frozenset[str] = frozenset()
    """Nodes and clients that nothing kills now, so that a leak of theirs has time to show."""
    last_end: float = 0.0
    """Monotonic."""
    _deck: list[str] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _begun: float = field(default_factory=time.monotonic)

    @property
    def kinds(self) -> list[str]:
        left_out = set() if self.around.places else set(PLACES)
        if not self.around.disks:
            left_out.add("full-disk")
        return [kind for kind in DECK if kind not in left_out]

    async def run(self, seconds: float) -> None:
        """Faults for so long; when it returns all have ended."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            places = asyncio.Semaphore(AT_ONCE)

            async def one() -> None:
                async with places:
                    await self._one(over)

            async def begin() -> None:
                while not over.is_set():
                    await places.acquire()
                    places.release()
                    if not over.is_set():
                        tasks.create_task(one())
                    await asyncio.sleep(self.draw.uniform(*PAUSE_SECONDS))

            tasks.create_task(begin())
            await asyncio.sleep(seconds)
            over.set()
        self.last_end = time.monotonic()

    async def _one(self, over: asyncio.Event) -> None:
        kind = self._next_kind()
        target = self._target(kind)
        if target is None:
            return
        targets = self._of_one_machine(kind, target)
        seconds = self.draw.uniform(*SECONDS[kind])
        begun = time.monotonic()
        self._busy |= targets
        detail = ""
        try:
            detail = await self._break(kind, target, targets, seconds, over)
        finally:
            self._busy -= targets
            name = target if len(targets) == 1 else target.split(".")[0]
            took = time.monotonic() - begun
            self.done.append(Fault(round(begun - self._begun, 1), kind, name, round(took, 1), detail))

    def _of_one_machine(self, kind: str, target: str) -> set[str]:
        """The target; half of the wrong clocks are those of a whole node."""
        if kind in ("clock", "suspend") and self.draw.random() < 0.5:
            node = target.split(".")[0]
            return {name for name in self.network.processes if name.split(".")[0] == node} - self._busy
        return {target}

    def _next_kind(self) -> str:
        if not self._deck:
            self._deck = [kind for kind in self.kinds for _ in range(DECK[kind])]
            self.draw.shuffle(self._deck)
        return self._deck.pop()

    def _target(self, kind: str) -> str | None:
        """A process, or a place."""
        names = list(self.network.processes)
        if kind in (*PLACES, "full-disk"):
            names = list(dict.fromkeys(name.split(".")[0] for name in names))
        elif kind == "kill-worker":
            names = [name for name in names if name.endswith(".relay")]
        if kind.startswith("kill"):
            names = [name for name in names if name.split(".")[0] not in self.spared]
        names = [name for name in names if name not in self._busy]
        clients = [name for name in names if name.startswith("client")]
        if clients and self.draw.random() < CLIENTS_SHARE:
            return self.draw.choice(clients)
        others = [name for name in names if name not in clients]
        return self.draw.choice(others) if others else None

    async def _break(self, kind: str, target: str, targets: set[str], seconds: float, over: asyncio.Event) -> str:
        match kind:
            case "kill":
                send(self.network.processes[target].pid, signal.SIGKILL)
            case "kill-worker":
                for child in children(self.network.processes[target].pid):
                    send(child, signal.SIGKILL)
            case "stop":
                await self._stopped(target, seconds, over)
            case "cut" | "partition" | "loss":
                await self._place(kind, target, seconds, over)
            case "full-disk":
                await self._full(self.around.disks[target], seconds, over)
            case "clock":
                step = self.draw.choice(STEPS)
                await self._clock(targets, step, 0, seconds, over)
                return f"{step:+} s"
            case "suspend":
                return await self._suspended(targets, seconds, over)
        return ""

    async def _stopped(self, target: str, seconds: float, over: asyncio.Event) -> None:
        pid = self.network.processes[target].pid
        send(pid, signal.SIGSTOP)
        try:
            await _either(over, seconds)
        finally:
            send(pid, signal.SIGCONT)

    async def _place(self, kind: str, target: str, seconds: float, over: asyncio.Event) -> None:
        place = self.around.places[target]
        begin: Callable[[], None] = {
            "cut": place.cut, "partition": lambda: place.drop(1.0), "loss": lambda: place.drop(LOSS)
        }[kind]  # fmt: skip
        end = place.mend_cable if kind == "cut" else place.mend_rules
        try:
            await asyncio.to_thread(begin)
            await _either(over, seconds)
        finally:
            end()

    async def _full(self, disk: Path, seconds: float, over: asyncio.Event) -> None:
        filler = disk / "full"
        end = time.monotonic() + seconds
        try:
            while not over.is_set() and (left := end - time.monotonic()) > 0:
                _fill(filler)
                await _either(over, min(1.0, left))
        finally:
            filler.unlink(missing_ok=True)

    async def _clock(self, targets: set[str], wall: int, boot: int, seconds: float, over: asyncio.Event) -> None:
        for target in targets:
            self.around.set_clock(target, wall, boot)
        try:
            await _either(over, seconds)
        finally:
            for target in targets:
                self.around.set_clock(target, 0, boot)

    async def _suspended(self, targets: set[str], seconds: float, over: asyncio.Event) -> str:
        step = self.draw.choice((HOUR, 2 * DAY))
        pids = [self.network.processes[target].pid for target in targets]
        for pid in pids:
            send(pid, signal.SIGSTOP)
        try:
            await _either(over, seconds)
            for target in targets:
                self.around.set_clock(target, step, step)
        finally:
            for pid in pids:
                send(pid, signal.SIGCONT)
        await self._clock(targets, step, step, AFTER_SUSPEND_SECONDS, over)
        return f"{step:+} s"


async def _either(over: asyncio.Event, seconds: float) -> None:
    """Returns when all is over, or so many seconds are."""
    waiting: Awaitable[object] = over.wait()
    try:
        async with asyncio.timeout(seconds):
            await waiting
    except TimeoutError:
        pass


def _fill(path: Path) -> None:
    """Takes all that is left of a disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for size in (1024 * 1024, 4096, 1):
            try:
                while os.write(handle, bytes(size)):
                    pass
            except OSError:
                continue
    finally:
        os.close(handle)


def children(pid: int) -> list[int]:
    """A process's own."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
