"""Microseconds a cell of each part that handles single cells: client, wrapping relays, exit. One process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
from phantomband.core.cell import CELL_BYTES
from phantomband.core.stream.congestion import CongestionParameters
from phantomband.core.stream.messages import target
from world import CLIENT, Recorder, World

BATCH = 128
CELLS = 20_000


class Sink(Recorder):
    """Counts and forgets."""

    def data(self, pieces: list[bytes]) -> None:
        b"".join(pieces)


def timed(cells: int, work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) / cells * 1e6


def main() -> None:
    world = World()
    world.congestion = CongestionParameters(initial=256, maximum=256)
    circuit = world.built("r1", "r2", "r3")
    handler = Sink()
    circuit.endpoint.open(target("example.net", 80), handler)
    world.run()
    stream, _, theirs = world.relays["r3"].exit.opened[0]
    theirs.echo = False
    spent = dict.fromkeys(["exit", "middle", "guard", "client"], 0.0)
    payload = world.random(1987 * BATCH)
    done = 0
    exit_machine = world.relays["r3"].machine
    while done < CELLS:
        world.now += 0.01
        t = time.perf_counter()
        stream.write(payload)
        exit_machine.flush(world.now)
        (batch,) = (b"".join(parts) for _, _, parts in exit_machine.outbox.drain())
        spent["exit"] += time.perf_counter() - t
        count = len(batch) // CELL_BYTES
        for name, sender, step in (("r2", "r3", "middle"), ("r1", "r2", "guard")):
            machine = world.relays[name].machine
            t = time.perf_counter()
            machine.cells(world._links[frozenset((sender, name))], batch, 0, count, world.now)
            machine.flush(world.now)
            (batch,) = (b"".join(parts) for _, _, parts in machine.outbox.drain())
            spent[step] += time.perf_counter() - t
        t = time.perf_counter()
        circuit.cells(batch[4], batch, 0, count, world.now)
        circuit.endpoint.deliver()
        spent["client"] += time.perf_counter() - t
        done += count
        world.run()
    assert world.carried[CLIENT, "r1"] > 0
    for step, seconds in spent.items():
        print(f"{step:8} {seconds / done * 1e6:6.2f} us a cell")
    total = sum(spent.values()) / done
    print(f"all      {total * 1e6:6.2f} us a cell, {total / 1987 * 1e9:.1f} CPU s a GB")


if __name__ == "__main__":
    main()
