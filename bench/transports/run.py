"""Every transport: speed and CPU beside other programs, QUIC beside aioquic, and paths with delay and loss.

    speed   one file through a client's and a server's process on loopback; rounds interleaved; `tcp` is what the
            forwarders and the kernel cost by themselves
    quic    ours and aioquic's defaults, both at 1,200-byte datagrams
    far     bytes over 100 ms without loss, and over 200 ms with 5% of the packets lost each way (network namespaces;
            needs root)

Writes bench/results/transports.json; prints tables and, last, one JSON line. `--quick`: about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from phantomband.transports.registry import TRANSPORTS

sys.path.insert(0, str(Path(__file__).parent))
import far
import pairs
import quic_pair
from lossy_path import Path as LossyPath
from lossy_path import available, lossy_path
from unbound_rig import UNBOUND

RESULTS = Path(__file__).resolve().parents[1] / "results" / "transports.json"
SLOW = {"doh": 10}
"""Their file is so many times smaller."""

PATHS = {"100 ms": (0.05, 0.0), "200 ms, 5% lost": (0.1, 0.05)}
"""(delay each way, loss each way)."""

FAR_LIMIT = 1200.0

RESOLVERS = {"doh, unbound by https": "doh", "doh, unbound by udp": "udp"}
"""Over paths also through a resolver at the far end, which is asked so."""


def speed(megabytes: int, rounds: int) -> dict[str, Any]:
    """MB/s and CPU seconds a GB, median of the rounds; of the client's and the server's process apart."""
    contestants = [(name, name) for name in TRANSPORTS if name != "obfs4"]
    contestants += [(program, program) for program in ("obfs4", *pairs.PROGRAMS)]  # side by side
    contestants += [pair for program in pairs.PROGRAMS for pair in (("obfs4", program), (program, "obfs4"))]
    data = os.urandom(megabytes * 1_000_000)
    runs: dict[str, list[tuple[int, pairs.Run]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for client, server in contestants:
                part = data[: len(data) // SLOW.get(client, 1)]
                run = pairs.run_pair(client, server, part, Path(folder))
                runs.setdefault(client if client == server else f"{client} -> {server}", []).append((len(part), run))
    found = {}
    print(f"{'':>22} {'MB/s':>8} {'CPU s/GB':>9} {'client user':>12} {'system':>7} {'server user':>12} {'system':>7}")
    for name, made in runs.items():
        speeds = [size / run.seconds / 1e6 for size, run in made]
        row = {
            "mb_per_s": median(speeds),
            **{
                f"{side}_{kind}_s_per_gb": median(getattr(getattr(run, side), kind) / size * 1e9 for size, run in made)
                for side in ("client", "server")
                for kind in ("user", "system")
            },
        }
        row["cpu_s_per_gb"] = sum(value for key, value in row.items() if key.endswith("s_per_gb"))
        found[name] = {key: round(value, 2) for key, value in row.items()}
        found[name]["mb_per_s_all"] = [round(value, 1) for value in speeds]
        print(
            f"{name:>22} {row['mb_per_s']:8.1f} {row['cpu_s_per_gb']:9.1f} {row['client_user_s_per_gb']:12.1f} "
            f"{row['client_system_s_per_gb']:7.1f} {row['server_user_s_per_gb']:12.1f} "
            f"{row['server_system_s_per_gb']:7.1f}   {min(speeds):.0f} to {max(speeds):.0f}",
            flush=True,
        )
    for program in pairs.PROGRAMS:
        ratios = [a / b for a, b in zip(found["obfs4"]["mb_per_s_all"], found[program]["mb_per_s_all"])]
        found[f"obfs4 / {program}"] = round(median(ratios), 2)
        print(f"obfs4 is {median(ratios):.2f} times as fast as {program}, median of {rounds} rounds", flush=True)
    return found


def quic(megabytes: int, rounds: int) -> dict[str, Any]:
    """Ours and aioquic's, interleaved."""
    made: dict[str, list[dict[str, float]]] = {quic_pair.OURS: [], quic_pair.AIOQUIC: []}
    for _ in range(rounds):
        for library, rows in made.items():
            rows.append(quic_pair.measure(library, megabytes * 1_000_000))
    found: dict[str, Any] = {
        library: {key: round(median(row[key] for row in rows), 1) for key in rows[0]} for library, rows in made.items()
    }
    found["ratio"] = round(
        median(a["mb_per_s"] / b["mb_per_s"] for a, b in zip(made[quic_pair.OURS], made[quic_pair.AIOQUIC])), 1
    )
    print(f"\nQUIC, datagrams of {quic_pair.DATAGRAM} bytes")
    for library in made:
        print(f"{library:>22} {found[library]['mb_per_s']:8.1f} {found[library]['cpu_s_per_gb']:9.1f}")
    print(f"{'ratio':>22} {found['ratio']:8.1f}", flush=True)
    return found


def distance(size: int, names: list[str]) -> dict[str, Any]:
    """Seconds and KB/s of `size` bytes over each path."""
    if not available():
        print("\nfar: not measured, this needs root and /dev/net/tun")
        return {}
    found: dict[str, Any] = {}
    for label, (delay, loss) in PATHS.items():
        print(f"\n{size / 1e6:g} MB over {label}")
        found[label] = {}
        for name in names:
            with lossy_path(delay, loss) as path:
                row = found[label][name] = _over(path, name, size)
            if "failed" in row:
                print(f"{name:>22} failed: {row['failed']}", flush=True)
            else:
                print(
                    f"{name:>22} {row['seconds']:8.1f} s {row['kb_per_s']:7d} KB/s, "
                    f"connected in {row['connect_seconds']:.2f} s",
                    flush=True,
                )
    return found


def _over(path: LossyPath, name: str, size: int) -> dict[str, Any]:
    if name not in RESOLVERS:
        return far.over(path, name, size, FAR_LIMIT)
    if UNBOUND is None:
        return {"failed": "unbound is not installed"}
    return far.through_resolver(path, RESOLVERS[name], size, FAR_LIMIT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--only", choices=("speed", "quic", "far"), help="one part; results are not written")
    parser.add_argument("--transport", action="append", help="over paths only these; may be repeated")
    options = parser.parse_args()
    megabytes, rounds, size = (30, 1, 300_000) if options.quick else (200, 7, 10_000_000)
    parts = {
        "speed": lambda: speed(megabytes, rounds),
        "quic": lambda: quic(max(10, megabytes // 4), rounds),
        "far": lambda: distance(size, options.transport or [*TRANSPORTS, *RESOLVERS]),
    }
    found = {name: part() for name, part in parts.items() if options.only in (None, name)}
    found["quick"] = options.quick
    if not options.quick and options.only is None:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
