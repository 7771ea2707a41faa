"""PhantomBand beside a real local Tor network: same machine, same file server, interleaved in one run.

Prints a table and, last, one JSON line with ours divided by Tor's; writes bench/results/tor.json.
`--quick` ends in about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load import cpu_seconds, curl, fetch_all, finish, first_bytes, median, percentile, start_to_request
from tor_network import TorNetwork, free_port

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("phantomband")
FILE_BYTES = 64_000_000


class Network(Protocol):
    """One of the two networks under test."""

    socks: int

    @property
    def pids(self) -> list[int]:
        """Every process of it."""

    def cold_client(self, socks: int, home: Path) -> subprocess.Popen[bytes]:
        """Starts another client, in an empty directory, as a user would."""


class PhantomBand:
    """A test network of ours, made by its own command; mixing is off."""

    def __init__(self, root: Path, nodes: int, lane: str) -> None:
        self._root = root
        self._nodes = nodes
        self._lane = lane
        self.socks = free_port()

    def __enter__(self) -> PhantomBand:
        self._run("up", "--nodes", str(self._nodes), "--lane", self._lane, "--socks-port", str(self.socks), "--detach")
        return self

    def __exit__(self, *_: object) -> None:
        self._run("down")

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [str(COMMAND), "testnet", *arguments, "--dir", str(self._root)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr or done.stdout)

    @property
    def pids(self) -> list[int]:
        """The services, their workers, and the supervisor."""
        state = json.loads((self._root / "state.json").read_text())
        services = [s["pid"] for s in state["services"] if s["pid"]]
        workers = [child for pid in services for child in _children(pid)]
        return [*services, *workers, json.loads((self._root / "lock").read_text())["pid"]]

    def cold_client(self, socks: int, home: Path) -> subprocess.Popen[bytes]:
        settings = [f"genesis={self._root / 'genesis.json'}", f"data_dir={home}", f"socks_port={socks}"]
        flags = [word for setting in settings for word in ("--set", setting)]
        return subprocess.Popen(
            [sys.executable, "-m", "phantomband_client", *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@dataclass
class Figures:
    """What was measured of one network."""

    one_stream: list[float] = field(default_factory=list)
    ten_streams: list[float] = field(default_factory=list)
    cpu_per_gb: list[float] = field(default_factory=list)
    ttfb: list[float] = field(default_factory=list)
    client_start: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Medians; MB/s, CPU seconds a GB, milliseconds, seconds."""
        return {
            "one_stream": median(self.one_stream),
            "ten_streams": median(self.ten_streams),
            "cpu_per_gb": median(self.cpu_per_gb),
            "ttfb_p50": percentile(self.ttfb, 0.5),
            "ttfb_p99": percentile(self.ttfb, 0.99),
            "client_start": median(self.client_start),
        }


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    fetches: int
    first_bytes: int
    starts: int


QUICK = Plan(rounds=2, fetches=2, first_bytes=30, starts=1)
FULL = Plan(rounds=5, fetches=3, first_bytes=60, starts=3)


def measure(network: Network, figures: Figures, base: str, plan: Plan, round_number: int, scratch: Path) -> None:
    """One round with one network; streams are isolated, so each fetch has a circuit of its own."""
    big, small = f"{base}/64MB.bin", f"{base}/index.html"
    before = cpu_seconds(network.pids)
    for i in range(plan.fetches):
        size, total, _ = finish(curl(network.socks, big, f"one{round_number}x{i}"))
        figures.one_stream.append(size / 1e6 / total)
    figures.ten_streams.append(fetch_all(network.socks, big, [f"ten{round_number}x{i}" for i in range(10)]))
    moved = (plan.fetches + 10) * FILE_BYTES / 1e9
    figures.cpu_per_gb.append((cpu_seconds(network.pids) - before) / moved)
    figures.ttfb += first_bytes(network.socks, small, plan.first_bytes, f"small{round_number}")
    for i in range(plan.starts):
        figures.client_start.append(_cold_start(network, small, scratch / f"cold{round_number}x{i}"))


def _cold_start(network: Network, url: str, home: Path) -> float:
    socks = free_port()
    started = time.monotonic()
    client = network.cold_client(socks, home)
    try:
        return start_to_request(socks, url, started)
    finally:
        client.kill()
        client.wait()
        shutil.rmtree(home, ignore_errors=True)


def compare(plan: Plan, nodes: int, lane: str) -> dict[str, Any]:
    """Both networks in turn, round by round."""
    ours, tors = Figures(), Figures()
    with tempfile.TemporaryDirectory(prefix="pbb") as name:
        root = Path(name)
        server = subprocess.Popen(
            [sys.executable, "-m", "phantomband_cli.demo.webserver", str(root / "www")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        base = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        try:
            print("starting a Tor network and a PhantomBand network ...", flush=True)
            with TorNetwork(root / "tor") as tor, PhantomBand(root / "pb", nodes, lane) as band:
                for i in range(plan.rounds):
                    measure(tor, tors, base, plan, i, root)
                    measure(band, ours, base, plan, i, root)
                    print(f"round {i + 1} of {plan.rounds} done", flush=True)
        finally:
            server.kill()
            server.wait()
    return {
        "phantomband": ours.summary(),
        "tor": tors.summary(),
        "raw": {"phantomband": asdict(ours), "tor": asdict(tors)},
    }


UNITS = {
    "one_stream": "MB/s", "ten_streams": "MB/s", "cpu_per_gb": "CPU s/GB",
    "ttfb_p50": "ms", "ttfb_p99": "ms", "client_start": "s",
}  # fmt: skip


def table(result: dict[str, Any]) -> str:
    rows = [f"{'':14}{'PhantomBand':>14}{'Tor':>10}{'ratio':>9}  unit"]
    for key, unit in UNITS.items():
        ours, tors = result["phantomband"][key], result["tor"][key]
        rows.append(f"{key:14}{ours:14.2f}{tors:10.2f}{ours / tors:9.2f}  {unit}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--lane", choices=["unix", "grpc"], default="unix")
    chosen = parser.parse_args()
    missing = [name for name in ("tor", "tor-gencert", "curl") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"error: {', '.join(missing)} not found. Install Debian's packages tor and curl")
    result = compare(QUICK if chosen.quick else FULL, chosen.nodes, chosen.lane)
    version = subprocess.run(["tor", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    result["about"] = {"tor": version, "cores": os.cpu_count(), "machine": platform.machine(), "nodes": chosen.nodes,
                       "lane": chosen.lane, "quick": chosen.quick, "python": platform.python_version()}  # fmt: skip
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "tor.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    print(json.dumps({k: round(result["phantomband"][k] / result["tor"][k], 3) for k in UNITS}))


if __name__ == "__main__":
    main()
