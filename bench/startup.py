"""From nothing to one certified view on every node: the time that a test network takes, with what it costs.

Starts `phantomband testnet up` with N nodes, D of them directories, and follows each node's directory until it holds a
certified view. Says when the first and the last had one, whether all are the same, and the CPU seconds of all processes
until then. Writes bench/results/startup.json; prints a table and, last, one JSON line. `--quick`: 12 nodes once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import grpc.aio
from phantomband.core.netdir.certified import CertifiedView
from phantomband.proto import directory_pb2, directory_pb2_grpc

RESULTS = Path(__file__).resolve().parent / "results"
PHANTOMBAND = (sys.executable, "-m", "phantomband_cli.main")
OPTIONS = (("grpc.max_receive_message_length", 8 * 1024 * 1024),)
POLL_SECONDS = 0.25
LIMIT_SECONDS = 240.0

Row = dict[str, Any]


async def first_view(base: Path, node: str, began: float) -> tuple[float, int, bytes, int]:
    """(seconds since `began`, epoch, digest, nodes) of the first view that a node's directory holds."""
    while not (found := list(base.glob("run/*/n1"))):  # noqa: ASYNC110 - of a file
        await asyncio.sleep(POLL_SECONDS)
    socket = found[0].with_name(node) / "directory.sock"
    while not socket.exists():  # noqa: ASYNC110 - of a file
        await asyncio.sleep(POLL_SECONDS)
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=OPTIONS) as channel:
        stub = directory_pb2_grpc.DirectoryStub(channel)
        async for message in stub.WatchView(directory_pb2.WatchViewRequest(), wait_for_ready=True):
            view = CertifiedView.decode_untrusted(bytes(message.view))
            return time.monotonic() - began, view.view.epoch, view.digest, len(view.view.entries)
    raise RuntimeError(f"{node} gave no view")


def cpu_seconds(run: Path) -> float:
    """Of all processes whose command line or name belongs to the network: those that hold a socket below `run`."""
    total = 0.0
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or str(run).encode() not in (entry / "environ").read_bytes():
                continue
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def measure(nodes: int, directories: int) -> Row:
    """One network, started and stopped."""
    with tempfile.TemporaryDirectory(prefix="pbs-", dir="/tmp") as name:
        base = Path(name)
        (base / "run").mkdir(mode=0o700)
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(base / "run")}
        place = ("--dir", str(base / "net"))
        began = time.monotonic()
        up = subprocess.Popen(  # noqa: ASYNC220 - it is waited for below
            [*PHANTOMBAND, "testnet", "up", "--nodes", str(nodes), "--directories", str(directories), "--detach",
             "--socks-port", "0", *place], env=environment, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                views = await asyncio.gather(*(first_view(base, f"n{i}", began) for i in range(1, nodes + 1)))
            cpu = cpu_seconds(base / "run")
            up.wait(LIMIT_SECONDS)
            ready = time.monotonic() - began
        finally:
            subprocess.run([*PHANTOMBAND, "testnet", "down", "--quiet", *place], env=environment, check=False)  # noqa: ASYNC221
    seconds = sorted(view[0] for view in views)
    return {
        "nodes": nodes,
        "directories": directories,
        "first_s": round(seconds[0], 2),
        "last_s": round(seconds[-1], 2),
        "cpu_s": round(cpu, 1),
        "client_ready_s": round(ready, 2),
        "epochs": sorted({view[1] for view in views}),
        "same": len({view[1:3] for view in views}) == len({view[1] for view in views}),
        "complete": all(view[3] == nodes for view in views),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    sizes = [(12, 7)] if given.quick else [(12, 7), (30, 7)]
    rows: list[Row] = []
    print(
        f"{'nodes':>6}{'directories':>12}{'first s':>9}{'last s':>8}{'CPU s':>7}{'client s':>9}  same, complete",
        flush=True,
    )
    for nodes, directories in sizes:
        for _ in range(1 if given.quick else given.runs):
            row = asyncio.run(measure(nodes, directories))
            rows.append(row)
            print(
                f"{nodes:>5}{directories:>12}{row['first_s']:>9.2f}{row['last_s']:>8.2f}{row['cpu_s']:>7.1f}"
                f"{row['client_ready_s']:>9.2f}  {row['same']}, {row['complete']}",
                flush=True,
            )
    medians = {str(n): median(row["last_s"] for row in rows if row["nodes"] == n) for n, _ in sizes}
    written = {"quick": given.quick, "last_view_s": medians, "runs": rows}
    RESULTS.joinpath("startup.json").write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(written))


if __name__ == "__main__":
    main()
