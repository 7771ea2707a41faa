"""Chaos on a real network: processes are killed and stopped, nodes and clients cut off, disks filled, clocks set; all
the time two clients fetch, and every byte is checked.

    control   load, no faults           what files and memory do without
    round     faults beside the load    again and again: then all faults end, and new fetches are timed until they work;
              quiet                     then the load rests, and files, memory and counts are looked at

Writes bench/results/chaos.json (a quick run only if there is none); prints a table and, last, one JSON line: `wrong`,
`hung`, `fetches`, `failed`, `faults`, `recovery_s` (worst), `leaked_files`, `leaked_mb`, `bugs`, `tracebacks`.
`--quick` ends in about three minutes, otherwise faults and quiet go on for half an hour. Needs root for namespaces and
disks; without, those faults are left out. All that it makes is on addresses, disks and clocks of its own, and is taken
away when it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from around import CIRCUIT_SECONDS, CLIENTS, Around, socks_port  # noqa: E402
from faults import Faults  # noqa: E402
from fetches import SMALLEST, Load, Seen, Way, make_block, web  # noqa: E402
from growth import Growth, not_back, read_logs  # noqa: E402
from limited import LimitedNetwork, limited_network  # noqa: E402
from phantomband_cli.testnet.options import Options  # noqa: E402
from places import BRIDGE, Names, Place, may_make, places  # noqa: E402

RESULTS = HERE.parent / "results" / "chaos.json"
UP_SECONDS = 120.0
PROBE_EVERY_SECONDS = 0.5
AIM_SECONDS = 10.0
NODES = Options(nodes=6, socks_port=0, transport="tls", epoch_seconds=30)
SPARED = (frozenset({"n6", "n1", "client2"}), frozenset({"n4", "n2", "client"}))
"""Whom nothing kills in the first and in the second half."""


@dataclass(frozen=True)
class Plan:
    """Seconds of each part, and how many rounds."""

    control: float
    control_points: int
    rounds: int
    faults: float
    probes: float
    rest: float
    end: float


QUICK = Plan(control=10, control_points=2, rounds=3, faults=22, probes=12, rest=2, end=5)
FULL = Plan(control=30, control_points=4, rounds=24, faults=50, probes=13, rest=3, end=75)


async def wait_up(network: LimitedNetwork, load: Load) -> None:
    """Until each client has fetched something."""
    end = time.monotonic() + UP_SECONDS
    draw = random.Random(0)
    for way in load.ways:
        while not await load.one(way, "first", draw, SMALLEST, Seen()):
            if time.monotonic() > end:
                raise RuntimeError(f"the network did not come up; see {network.layout.logs}")
            await asyncio.sleep(0.5)


async def recovery(load: Load, way: Way, ended: float, seconds: float, seen: Seen) -> float:
    """Seconds from the last fault's end until a new fetch was there, after which none failed that began later.

    A fetch begins each half second, every other one as a new user, whose circuit is built for it.
    """
    draw = random.Random(ended)
    outcomes: list[tuple[float, float, bool]] = []  # begun, over, good

    async def probe(number: int) -> None:
        begun = time.monotonic()
        good = await load.one(way, f"probe-{ended}-{number if number % 2 else 0}", draw, SMALLEST, seen)
        outcomes.append((begun, time.monotonic(), good))

    async with asyncio.TaskGroup() as tasks:
        number = 0
        while time.monotonic() < ended + seconds:
            tasks.create_task(probe(number))
            number += 1
            await asyncio.sleep(PROBE_EVERY_SECONDS)
    last_bad = max((begun for begun, _, good in outcomes if not good), default=0.0)
    good_after = [over for begun, over, good in outcomes if good and begun > last_bad]
    return min(good_after, default=time.monotonic()) - ended


async def at_rest(load: Load, growth: Growth, seconds: float) -> dict[str, dict[str, float]]:
    """The load rests, and what is held is looked at."""
    await load.rest()
    await asyncio.sleep(seconds)
    growth.sample()
    return await asyncio.to_thread(growth.counts)


async def chaos(network: LimitedNetwork, around: Around, load: Load, plan: Plan, seed: int) -> dict[str, Any]:
    growth = Growth(network)
    faults = Faults(network, around, random.Random(f"faults {seed}"))
    await wait_up(network, load)
    for _ in range(plan.control_points):
        load.on.set()
        await asyncio.sleep(plan.control)
        before = await at_rest(load, growth, plan.rest)
    growth.end_control()
    calm = load.seen.fetches, load.seen.failed
    print(f"control: {calm[0]} fetches, {calm[1]} failed\n", flush=True)
    print(
        f"{'round':<8}{'faults':>7}{'fetches':>9}{'failed':>8}{'wrong':>7}{'hung':>6}{'recovery s':>12}  restarts",
        flush=True,
    )
    recovered: list[dict[str, float]] = []
    probes = Seen()
    for number in range(plan.rounds):
        faults.spared = SPARED[number * 2 // plan.rounds]
        load.on.set()
        done = len(faults.done)
        await faults.run(plan.faults)
        seconds = await asyncio.gather(
            *(recovery(load, way, faults.last_end, plan.probes, probes) for way in load.ways)
        )
        recovered.append({w.client: round(s, 2) for w, s in zip(load.ways, seconds, strict=True)})
        after = await at_rest(load, growth, plan.rest)
        seen = load.seen
        print(
            f"{number + 1:<8}{len(faults.done):>7}{seen.fetches:>9}{seen.failed:>8}{len(seen.wrong + probes.wrong):>7}"
            f"{len(seen.hung + probes.hung):>6}{max(seconds):>12.2f}  {network.restarts}",
            flush=True,
        )
        if max(seconds) > AIM_SECONDS:
            print(f"  slow: {recovered[-1]}; probes failed so far: {probes.why}", flush=True)
            for fault in faults.done[done:]:
                print(
                    f"    {fault.at:.0f} s: {fault.kind} {fault.target} {fault.detail} for {fault.seconds} s",
                    flush=True,
                )
    await asyncio.sleep(plan.end)
    growth.sample()
    after = await asyncio.to_thread(growth.counts)
    files, memory = growth.leaks()
    logs = read_logs(network.layout.logs)
    seen = load.seen
    return {
        "wrong": len(seen.wrong + probes.wrong), "hung": len(seen.hung + probes.hung),
        "fetches": seen.fetches + probes.fetches, "failed": seen.failed + probes.failed, "faults": len(faults.done),
        "recovery_s": max(max(one.values()) for one in recovered),
        "leaked_files": sum(files.values()), "leaked_mb": round(sum(memory.values()), 1),
        "bugs": max(growth.bugs, len(logs.bugs)), "tracebacks": len(logs.tracebacks),
        # Circuits of the last round are still there when a quick run ends: it only sees who does not answer.
        "not_back": not_back(network, before, after if plan.end >= CIRCUIT_SECONDS else {name: {} for name in after}),
        "restarts": network.restarts,
        "bytes": seen.bytes + probes.bytes, "control": {"fetches": calm[0], "failed": calm[1]},
        "probes": {"fetches": probes.fetches, "failed": probes.failed, "why": probes.why},
        "faults_by_kind": dict(Counter(f.kind for f in faults.done)), "recoveries_s": recovered,
        "why_failed": seen.why, "what_wrong": seen.wrong + probes.wrong, "what_hung": seen.hung + probes.hung,
        "leaks": {"files": files, "mib": memory, "control_files": growth.control_files,
                  "control_mib": growth.control_memory},
        "longest_lives": growth.longest(), "log_lines": Counter(logs.tracebacks + logs.bugs).most_common(30),
        "all_faults": [asdict(f) for f in faults.done],
    }  # fmt: skip


async def main_async(plan: Plan, seed: int, keep: Path | None) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="pb-chaos-", dir="/tmp"))
        root = keep or Path(temporary)
        root.mkdir(exist_ok=True)
        made: dict[str, Place] = {}
        if may_make():
            made = stack.enter_context(places([*NODES.names, *CLIENTS]))
        else:
            print("namespaces cannot be made here: cut, partition and loss are left out")
        around = Around(root, made, NODES.names)
        block = make_block(seed)
        hosts, resolver, listening = ("127.0.0.1",), None, {"host": "127.0.0.1", "port": 0}
        if made:
            hub = made[BRIDGE]
            hosts, resolver = (hub.host, "page.chaos.test"), root / "resolv.conf"
            resolver.write_text(f"nameserver {hub.host}\noptions timeout:1 attempts:3\n")
            names = hub.socket(socket.SOCK_DGRAM)
            names.bind((hub.host, 53))
            await loop.create_datagram_endpoint(lambda: Names(hub.host), sock=names)  # type: ignore[arg-type, return-value]
            server_socket = hub.socket()
            server_socket.bind((hub.host, 0))
            listening = {"sock": server_socket}
        server = await asyncio.start_server(web(block), backlog=1024, **listening)  # type: ignore[arg-type]
        port = server.sockets[0].getsockname()[1]
        with limited_network(root / "net", NODES, resolver, around) as network:
            ways = [
                Way(name, made.get(name), socks_port(network.prepared, i), hosts, port, block)
                for i, name in enumerate(CLIENTS)
            ]
            load = Load(ways, seed)
            running = asyncio.create_task(load.run())
            try:
                return await chaos(network, around, load, plan, seed)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=9, help="of faults, load and contents")
    parser.add_argument("--keep", type=Path, help="a directory, made here, in which the logs stay")
    given = parser.parse_args()
    begun = time.monotonic()
    print(f"seed {given.seed}", flush=True)
    result = asyncio.run(main_async(QUICK if given.quick else FULL, given.seed, given.keep))
    minutes = round((time.monotonic() - begun) / 60, 1)
    head = {"date": date.today().isoformat(), "quick": given.quick, "seed": given.seed, "minutes": minutes}
    if not given.quick or not RESULTS.exists():  # three minutes do not replace the figures of half an hour
        RESULTS.write_text(json.dumps({**head, **result}, indent=1) + "\n")
    for what in ("what_wrong", "what_hung", "not_back"):
        for line in result[what][:10]:
            print(f"{what.removeprefix('what_')}: {line}")
    for line, count in result["log_lines"]:
        print(f"log: {count} x {line}")
    print(f"leaks: {result['leaks']['files']} {result['leaks']['mib']}")
    keys = (
        "wrong", "hung", "fetches", "failed", "faults", "recovery_s", "leaked_files", "leaked_mb", "bugs", "tracebacks"
    )  # fmt: skip
    print(json.dumps({key: result[key] for key in keys}))


if __name__ == "__main__":
    main()
