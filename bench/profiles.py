"""Profiles on a real network of six nodes: speed, time to the first byte, and what of it is not chosen delay.

`fast` on the same nodes, with mixers that pass cells on, is the control. `timed` and `poisson` are `fast` through such
mixers. The delays that `poisson` chooses are independent of each other and of the load, so what first bytes take
beyond their sum is ours. Writes bench/results/profiles.json; prints a table and, last, one JSON line. `--quick` ends in
about a minute.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from load import curl, finish, first_bytes, percentile
from mixing_plot import bars, column

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("phantomband")
NODES = 6
MEAN_DELAY = 0.05
"""Seconds of the `poisson` strategy: the configuration's default."""

USERS = 30
"""Who ask for pages at the same time, each for one after the other, with a pause in between.

`poisson` keeps the order of a circuit, so a request must not wait behind the end of the one before.
"""

PAUSE = 1.0
"""Seconds."""

MIXERS_PASSED = 10
"""To the first byte of a page: BEGIN and the request pass two mixers each, their answers three each."""

NODES_PASSED = 12
"""Visits to a node on those four ways."""

CASES: dict[str, tuple[str, ...]] = {
    "fast": (),
    "timed": ("--mix", "timed"),
    "poisson": ("--mix", "poisson"),
    "balanced": ("--profile", "balanced"),
    "strong": ("--profile", "strong"),
}
FILE_BYTES = {
    "fast": 64_000_000,
    "timed": 32_000_000,
    "poisson": 8_000_000,
    "balanced": 8_000_000,
    "strong": 300_000,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size = int(self.path.strip("/"))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(bytes(size))

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def server() -> Iterator[str]:
    """An HTTP server whose path is the size of what it answers."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{http.server_address[1]}"
    finally:
        http.shutdown()


@contextmanager
def network(options: tuple[str, ...], root: Path) -> Iterator[int]:
    """A test network; gives its SOCKS port."""

    def run(*arguments: str) -> str:
        return subprocess.run(
            [COMMAND, "testnet", *arguments, "--dir", root], check=True, capture_output=True, text=True
        ).stdout

    said = run("up", "--nodes", str(NODES), "--socks-port", "0", "--json", "--detach", *options)
    try:
        yield int(json.loads(said)["socks"].rpartition(":")[2])
    finally:
        run("down")


def chosen_delay(seed: int = 1, samples: int = 20_000) -> list[float]:
    """Milliseconds that `poisson` mixers choose to add to a first byte."""
    dice = random.Random(seed)
    return [dice.gammavariate(MIXERS_PASSED, MEAN_DELAY) * 1000 for _ in range(samples)]


def measure(case: str, base: str, requests: int, share: float) -> dict[str, float]:
    """MB/s of one stream, and percentiles of milliseconds to the first byte of 1,000 bytes."""
    with tempfile.TemporaryDirectory(prefix="pb-bench-") as root, network(CASES[case], Path(root, "net")) as socks:
        users = [f"pages{i}" for i in range(1 if case == "strong" else USERS)]  # strong has two circuits
        with ThreadPoolExecutor(USERS) as pool:
            list(pool.map(lambda user: pages(socks, base, 2, user), users))
            asked = pool.map(lambda user: pages(socks, base, requests // USERS, user), users)
            times = [one for each in asked for one in each]
        size, seconds, _ = finish(curl(socks, f"{base}/{int(FILE_BYTES[case] * share)}", users[0]))
    return {"mb_per_s": size / seconds / 1e6, "first_byte_p50_ms": percentile(times, 0.5),
            "first_byte_p99_ms": percentile(times, 0.99)}  # fmt: skip


def pages(socks: int, base: str, count: int, user: str) -> list[float]:
    """Milliseconds to the first byte of each page."""
    times = []
    for _ in range(count):
        times += first_bytes(socks, f"{base}/1000", 1, user)
        time.sleep(PAUSE)
    return times


def overhead(measured: dict[str, float]) -> dict[str, float]:
    """Milliseconds a node that the `poisson` network takes beyond its chosen delays."""
    chosen = chosen_delay()
    return {
        f"own_ms_a_node_{name}": (measured[f"first_byte_{name}_ms"] - percentile(chosen, part)) / NODES_PASSED
        for name, part in (("p50", 0.5), ("p99", 0.99))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    results: dict[str, Any] = {}
    with server() as base:
        for case in CASES:
            results[case] = measure(case, base, 60 if quick else 900, 0.25 if quick else 1.0)
            print(f"{case:<9}", *(f"{k} {v:9.2f}" for k, v in results[case].items()), flush=True)
    results["poisson"] |= overhead(results["poisson"])
    print("poisson: beyond the chosen delays", *(f"{k} {v:.2f}" for k, v in overhead(results["poisson"]).items()))
    (HERE / "results" / "profiles.json").write_text(
        json.dumps({"quick": quick, "nodes": NODES, **results}, indent=1) + "\n"
    )
    panels = [
        ("one stream, MB/s", column(results, "mb_per_s"), True),
        ("first byte p50, ms", column(results, "first_byte_p50_ms"), False),
        ("first byte p99, ms", column(results, "first_byte_p99_ms"), False),
    ]
    bars(panels, HERE / "results" / "profiles.svg")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
