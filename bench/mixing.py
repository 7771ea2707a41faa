"""The mixer service alone: cells a second, milliseconds of its own, memory when ten times too much comes.

The mixer runs as it does in a node, in a process of its own, between two real lanes (Unix driver); this process is
relay and gateway to it. The load is that of a busy node: 20 links with 10 circuits each, runs of 1 to 30 cells of a
circuit, about eight runs a flush.

    cells/s bare     the strategy alone, no service and no lanes, a second of CPU
    cells/s CPU      cells that the mixer's process moved, a second of its CPU
    cells/s          cells that it moved, a second; this process wants about as much CPU as the mixer
    own ms           time from lane to lane beyond the delay that the strategy chose for that cell, at 2,000 cells/s
    memory           peak of the process while ten times `max_cells` came in, less what it had before

Run: make bench-mixing, QUICK=1 for a minute. Writes bench/results/mixing.json; the last line is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio
import uvloop
from load import cpu_seconds, percentile
from phantomband.core.cell import BODY_BYTES, CELL_BYTES, Command
from phantomband.core.circuit.batch import decode_untrusted, encode
from phantomband.core.ids import LinkId
from phantomband.core.mixing.base import Batch, Circuit, Strategy
from phantomband.proto import node_pb2, node_pb2_grpc
from phantomband.runtime.frames import Frame
from phantomband.runtime.lane.base import HIGH_WATER, Driver, LanePeer
from phantomband.runtime.lane.client import LaneClient
from phantomband.runtime.lane.grpc_driver import SERVER_OPTIONS
from phantomband.runtime.lane.server import LaneServer
from phantomband.runtime.service import run_main, serve
from phantomband.runtime.settings import MIX_NAMES, MixerSection
from phantomband_mixer.service import MixerService, strategy

RESULTS = Path(__file__).resolve().parent / "results" / "mixing.json"
LINKS, CIRCUITS, RUN = 20, 10, 30
WINDOW = 16_384
"""Cells on their way in the speed test, 82 for each circuit: 32 MiB, half of what breaks a lane off."""

SPEED: dict[str, dict[str, Any]] = {"slots": {"slot": 0.002}}
"""Beyond the defaults. Slots of 20 ms would let 200 circuits send 10,000 cells a second; of 2 ms, 100,000."""

SLOW = {"interval": 60, "mean_delay": 60, "max_wait": 60, "slot": 60}
"""So that nothing leaves while too much comes."""

DUMMIES = 256
"""Circuits with dummies in the `slots` strategy, where they do not disturb the measurement."""

OVERLOAD = 10
PACE = 2000
"""Cells a second of the delay test."""

MARK = struct.Struct(">dd")
"""In a cell of the delay test, behind its header: when it was sent, and how long the strategy chose to hold it."""

Runs = list[tuple[LinkId, int, list[bytes]]]


@dataclass(frozen=True)
class Length:
    """How long each part takes."""

    seconds: float
    max_cells: int


# ---- the load ------------------------------------------------------------------------------------------------------


def flush(random: Random, first: int = 1) -> Runs:
    """What a relay sends at once: runs of cells by link, the circuits' ids from `first` on."""
    links: dict[LinkId, list[bytes]] = {}
    for _ in range(random.randint(1, 15)):
        circuit = (first + random.randrange(CIRCUITS)).to_bytes(4, "big")
        cell = (circuit + bytes((Command.RELAY,)), bytes(BODY_BYTES), b"")
        links.setdefault(LinkId(random.randint(1, LINKS)), []).extend(cell * random.randint(1, RUN))
    return [(link, len(pieces) // 3, pieces) for link, pieces in links.items()]


def payloads(flushes: int) -> list[bytes]:
    """CELLS frames."""
    random = Random(1)
    return [b"".join(parts) for _ in range(flushes) for parts in encode(flush(random))]


def count_of(payload: bytes | memoryview) -> int:
    """Cells of a CELLS frame."""
    return (len(payload) - 2 - 8 * int.from_bytes(payload[:2], "big")) // CELL_BYTES


# ---- the mixer's process -------------------------------------------------------------------------------------------


class Marked:
    """A strategy that writes into each cell how long it chose to hold it: deadline less arrival."""

    def __init__(self, inner: Strategy) -> None:
        self._inner = inner
        self._came: dict[bytes, float] = {}
        self.passes = inner.passes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def add(self, link: LinkId, cells: list[bytes], now: float) -> None:
        self._came.update((cell[:13], now) for cell in cells)
        self._inner.add(link, cells, now)

    def release(self, now: float) -> Batch:
        out: Batch = []
        while (due := self._inner.deadline) is not None and due <= now:
            for link, cells in self._inner.release(due):
                out.append((link, [self._marked(cell, due) for cell in cells]))
        return out

    def _marked(self, cell: bytes, due: float) -> bytes:
        came = self._came.pop(cell[:13], None)
        return cell if came is None else cell[:13] + struct.pack(">d", due - came) + cell[21:]

    def take_dropped(self) -> list[Circuit]:
        return self._inner.take_dropped()


async def mixer(folder: Path, section: MixerSection, marked: bool) -> None:
    mixing: Any = strategy(section, os.urandom)
    service = MixerService(
        folder,
        f"unix:{folder}/gateway.sock",
        Driver.UNIX,
        Marked(mixing) if marked else mixing,
        os.urandom,
        section.max_cells,
    )
    await serve(service, folder / "mixer.sock")


# ---- relay and gateway ---------------------------------------------------------------------------------------------


class Node:
    """The mixer's process and the lanes to and from it."""

    def __init__(self, section: MixerSection, *, marked: bool = False) -> None:
        self._section = section
        self._marked = marked
        self._free = asyncio.Event()
        self.sent = self.received = 0
        self.own_ms: list[float] = []

    async def __aenter__(self) -> Node:
        self._folder = tempfile.TemporaryDirectory(prefix="pb")
        folder = self._folder.name
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        LaneServer("gateway", 1, lambda peer: self, Path(folder), os.urandom).add_to(self._server)
        self._server.add_insecure_port(f"unix:{folder}/gateway.sock")
        await self._server.start()
        command = [sys.executable, __file__, "--mixer", folder, self._section.model_dump_json(), str(self._marked)]
        self.process = subprocess.Popen(command)  # noqa: ASYNC220
        me = LanePeer("relay", 2)
        self._lane = LaneClient(
            f"unix:{folder}/mixer.sock", me, Driver.UNIX, lambda _: None, lambda: None, self._free.set
        )
        self._running = asyncio.ensure_future(self._lane.run())
        await self._lane.wait_up()
        while (await self.status())["lane_up"] == 0.0:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._running.cancel()
        self.process.kill()
        self.process.wait()
        await self._server.stop(None)
        self._folder.cleanup()

    async def status(self) -> dict[str, float]:
        async with grpc.aio.insecure_channel(f"unix:{self._folder.name}/mixer.sock") as channel:
            reply = await node_pb2_grpc.StatusStub(channel).Get(node_pb2.GetStatusRequest())
            return dict(reply.values)

    async def send(self, payload: bytes) -> None:
        """One frame; waits while the lane is congested, as a relay does."""
        self.sent += count_of(payload)
        self._lane.send(Frame.CELLS, [payload])
        if self._lane.buffered > HIGH_WATER:
            self._free.clear()
            await self._free.wait()
        else:
            await asyncio.sleep(0)

    @property
    def buffered(self) -> int:
        return self._lane.buffered

    def frame(self, kind: int, payload: memoryview) -> None:
        """From the mixer."""
        if kind != Frame.CELLS:
            return
        self.received += count_of(payload)
        if self._marked:
            self._look(payload, time.monotonic())

    def _look(self, payload: memoryview, now: float) -> None:
        for _, at, count in decode_untrusted(payload):
            for cell in range(at, at + count * CELL_BYTES, CELL_BYTES):
                sent, chosen = MARK.unpack_from(payload, cell + 5)
                self.own_ms.append((now - sent - chosen) * 1000)

    def down(self) -> None:
        pass


def peak_bytes(pid: int) -> int:
    """Most memory that a process ever had (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


# ---- the measurements ----------------------------------------------------------------------------------------------


def bare(name: str, seconds: float) -> float:
    """Cells a second of CPU through the strategy alone; its clock moves as if 50,000 a second came."""
    mixing = strategy(MixerSection.model_validate({"strategy": name, **SPEED.get(name, {})}), os.urandom)
    batches = [
        (link, [data[i : i + CELL_BYTES] for i in range(at, at + count * CELL_BYTES, CELL_BYTES)])
        for data in payloads(100)
        for link, at, count in decode_untrusted(data)
    ]
    now, out, started = 1000.0, 0, time.process_time()
    while time.process_time() - started < seconds:
        for link, cells in batches:
            now += len(cells) / 50_000
            out += sum(len(left) for _, left in mixing.release(now))
            mixing.add(link, cells, now)
    return out / (time.process_time() - started)


async def speed(section: MixerSection, seconds: float) -> dict[str, float]:
    frames = payloads(200)
    async with Node(section) as node:
        pid, begun, started, cpu = node.process.pid, 0, 0.0, 0.0
        end = time.monotonic() + 0.5 + seconds
        for payload in _round(frames):
            while node.sent - node.received > WINDOW:  # noqa: ASYNC110 - looks once a millisecond, as a relay's credit
                await asyncio.sleep(0.001)
            await node.send(payload)
            now = time.monotonic()
            if not started and now > end - seconds:
                begun, started, cpu = node.received, now, cpu_seconds([pid])
            if now > end:
                break
        cells, cpu = node.received - begun, cpu_seconds([pid]) - cpu
        values = await node.status()
        return {
            "cells_per_s": round(cells / (now - started)),
            "cells_per_cpu_s": round(cells / cpu),
            "dropped_cells": values["dropped_cells"],
        }


def _round(frames: Sequence[bytes]) -> Iterator[bytes]:
    while True:
        yield from frames


async def own_delay(section: MixerSection, seconds: float) -> dict[str, float]:
    random = Random(2)
    async with Node(section, marked=True) as node:
        begin = due = time.monotonic()
        while due < begin + seconds:
            count = random.randint(1, RUN)
            due += random.expovariate(PACE / ((1 + RUN) / 2))
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            header = random.randint(1, CIRCUITS).to_bytes(4, "big") + bytes((Command.RELAY,))
            now = time.monotonic()
            pieces: list[bytes] = []
            for i in range(count):  # a nanosecond apart, so that each cell can be told
                pieces += (header, MARK.pack(now + i * 1e-9, 0.0).ljust(BODY_BYTES, b"\0"), b"")
            for parts in encode([(LinkId(random.randint(1, LINKS)), count, pieces)]):
                await node.send(b"".join(parts))
        await asyncio.sleep(0.5)
        own = node.own_ms
        return {"own_ms_p50": round(percentile(own, 0.5), 2), "own_ms_p99": round(percentile(own, 0.99), 2)}


async def overload(section: MixerSection) -> dict[str, float]:
    """Ten times what the mixer holds, of circuits that come and go, faster than anything leaves."""
    random, first = Random(3), 1
    async with Node(section) as node:
        before = peak_bytes(node.process.pid)
        while node.sent < OVERLOAD * section.max_cells:
            for parts in encode(flush(random, first)):
                await node.send(b"".join(parts))
            first += 1
        while (values := await node.status())["cells"] < node.sent:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        return {
            "overload_offered": node.sent,
            "overload_held": values["held"],
            "overload_dropped_cells": values["dropped_cells"],
            "overload_dropped_circuits": values["dropped_circuits"],
            "overload_lost_silently": values["lost"],
            "overload_mib": round((peak_bytes(node.process.pid) - before) / 2**20),
            "overload_cells_mib": round(section.max_cells * CELL_BYTES / 2**20),
        }


async def measure(name: str, length: Length) -> dict[str, float]:
    def section(**more: Any) -> MixerSection:
        return MixerSection.model_validate({"strategy": name, **more})

    figures: dict[str, float] = {"bare_cells_per_cpu_s": round(bare(name, length.seconds / 2))}
    figures |= await speed(section(**SPEED.get(name, {}), slot_dummies=DUMMIES), length.seconds)
    figures |= await own_delay(section(slot_dummies=0), length.seconds)
    figures |= await overload(section(**SLOW, max_cells=length.max_cells, slot_dummies=DUMMIES))
    return figures


COLUMNS = (
    ("cells/s bare", "bare_cells_per_cpu_s"),
    ("cells/s CPU", "cells_per_cpu_s"),
    ("cells/s", "cells_per_s"),
    ("own ms p50", "own_ms_p50"),
    ("p99", "own_ms_p99"),
    ("memory MiB", "overload_mib"),
    ("of cells MiB", "overload_cells_mib"),
)


async def bench(length: Length) -> dict[str, dict[str, float]]:
    print("strategy   " + "".join(f"{title:>14}" for title, _ in COLUMNS))
    results = {}
    for name in MIX_NAMES:
        figures = results[name] = await measure(name, length)
        print(f"{name:<11}" + "".join(f"{figures[key]:>14,}" for _, key in COLUMNS), flush=True)
    return results


def plot(figures: dict[str, dict[str, float]]) -> None:
    """The figures beside the results."""
    from mixing_plot import bars, column  # not in the mixer's process, whose memory is measured

    panels = [
        ("cells a second of CPU", column(figures, "cells_per_cpu_s"), True),
        ("ms of its own, p50", column(figures, "own_ms_p50"), False),
        ("MiB more at a 10x overload", column(figures, "overload_mib"), False),
    ]
    bars(panels, RESULTS.with_suffix(".svg"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--mixer", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mixer:
        folder, section, marked = arguments.mixer
        run_main(mixer(Path(folder), MixerSection.model_validate_json(section), marked == "True"))
        return
    length = Length(2.0, 16_384) if arguments.quick else Length(6.0, 65_536)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(bench(length))
    machine: dict[str, Any] = {"cores": os.cpu_count(), "machine": platform.machine()}
    machine |= {"python": platform.python_version(), "load_average": os.getloadavg()[1]}
    results = {"quick": arguments.quick, **machine, "strategies": figures}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    plot(figures)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
