"""What somebody on the wire sees: a relay in front of gateways that notes when how many bytes pass, and nothing else.

A process of its own: `python e2e_tap.py PLAN NOTES`. PLAN has lines "port target": listen there, connect there; it
may grow. NOTES gets "c number peer-port port" for each connection and "d number direction time size" for each piece
that was read: direction 1 towards the gateway, 0 back; time is the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import TextIO, cast

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.01


class _Half(asyncio.Protocol):
    """One of the two connections; what it reads goes to the other."""

    def __init__(self, notes: TextIO, number: int, direction: int, made: Callable[[], None] = lambda: None) -> None:
        self._notes, self._number, self._direction, self._made = notes, number, direction, made
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        for data in self._early:
            self.transport.write(data)
        self._made()

    def data_received(self, data: bytes) -> None:
        self._notes.write(f"d {self._number} {self._direction} {time.monotonic():.6f} {len(data)}\n")
        if self.other is not None:
            self.other.send(data)

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)
        else:
            self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Tap:
    def __init__(self, notes: TextIO) -> None:
        self._notes = notes
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, port: int, target: int) -> None:
        loop = asyncio.get_running_loop()

        def accept() -> _Half:
            self._count += 1
            number = self._count

            def made() -> None:
                assert near.transport is not None
                self._notes.write(f"c {number} {near.transport.get_extra_info('peername')[1]} {port}\n")
                task = loop.create_task(self._connect(near, far, target))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            near, far = _Half(self._notes, number, 1, made), _Half(self._notes, number, 0)
            near.other, far.other = far, near
            return near

        await loop.create_server(accept, LOOPBACK, port)

    async def _connect(self, near: _Half, far: _Half, target: int) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, LOOPBACK, target)
        except OSError:
            if near.transport is not None:
                near.transport.close()


async def main(plan: Path, notes: TextIO) -> None:
    tap, known = _Tap(notes), 0
    while True:
        lines = plan.read_text().splitlines() if plan.exists() else []
        for line in lines[known:]:
            port, target = map(int, line.split())
            await tap.listen(port, target)
        known = len(lines)
        await asyncio.sleep(POLL_SECONDS)


# ---- for tests ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tapped:
    """One connection: (time, bytes) of what was read, by direction: 1 towards the gateway, 0 back."""

    ports: tuple[int, int]
    """The dialer's own, and the one that it dialled."""
    pieces: tuple[list[tuple[float, int]], list[tuple[float, int]]] = field(default_factory=lambda: ([], []))

    def records(self, direction: int, unit: int, prefix: int) -> list[tuple[float, int]]:
        """(time, bytes) of what arrived together, in multiples of `unit` bytes once `prefix` bytes had passed.

        The kernel may hand a write over in parts; they count when their last byte comes. What is no multiple in the end
        is one last record, which fits no unit.
        """
        out: list[tuple[float, int]] = []
        held = -prefix
        for when, size in self.pieces[direction]:
            held += size
            if held > 0 and held % unit == 0:
                out.append((when, held))
                held = 0
        if held > 0:
            out.append((self.pieces[direction][-1][0], held))
        return out


@dataclass(frozen=True, slots=True)
class Notes:
    """The file that a tap writes."""

    plan: Path
    path: Path

    def read(self) -> list[Tapped]:
        found: dict[int, Tapped] = {}
        for line in self.path.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # it is being written
            kind, number, *rest = line.split()
            if kind == "c":
                found[int(number)] = Tapped((int(rest[0]), int(rest[1])))
            else:
                found[int(number)].pieces[int(rest[0])].append((float(rest[1]), int(rest[2])))
        return list(found.values())


@contextmanager
def tap(directory: Path) -> Iterator[Notes]:
    """A tap that runs; `plan` may be appended to."""
    from e2e_net import die_with_parent

    notes = Notes(directory / "plan", directory / "notes")
    notes.path.touch()
    with Popen([sys.executable, __file__, notes.plan, notes.path], preexec_fn=die_with_parent) as process:
        try:
            yield notes
        finally:
            process.terminate()


def connections_of(pid: int) -> set[tuple[int, int]]:
    """Local and remote port of each of a process's TCP connections over IPv4."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {(int(row[1][-4:], 16), int(row[2][-4:], 16)) for row in rows if row[9] in inodes}


if __name__ == "__main__":
    with open(sys.argv[2], "a", buffering=1) as out:
        asyncio.run(main(Path(sys.argv[1]), out))
