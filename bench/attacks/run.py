"""Attacks on a real network whose services have compose.yaml's memory limits, beside ten honest users.

For each attack: honest users alone, then beside it, and what every service takes of its limit. Writes
bench/results/attacks.json; prints a table and, last, one JSON line: `honest_failures`, `honest_ttfb_ratio_worst`
(median time to the first byte beside an attack, divided by that right before it), `rss_peak_over_limit` (worst
service, 1.0 = at its limit), `services_restarted`. `--quick` ends in about two minutes; otherwise each attack lasts a
minute, and five minutes after the last one memory is compared with that of before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from honest import Names, Seen, newcomer, page, users, web  # noqa: E402
from hostile import ATTACKS, Attacker  # noqa: E402
from limited import LimitedNetwork, limited_network, may_unshare  # noqa: E402
from phantomband.core.netdir.genesis_file import load_genesis  # noqa: E402
from phantomband_cli.control import ClientControl, NoAnswer  # noqa: E402
from phantomband_cli.testnet.options import Options  # noqa: E402

RESULTS = HERE.parent / "results" / "attacks.json"
UP_SECONDS = 90.0
CALM_SECONDS = {True: 1.0, False: 10.0}
"""Between two attacks."""

AFTER_SECONDS = 300.0
BACK_SHARE = 1.2
"""Five minutes after the last attack a service takes at most so much of what it took before."""


async def wait_up(network: LimitedNetwork, host: str, port: int) -> None:
    end = time.monotonic() + UP_SECONDS
    while True:
        try:
            async with asyncio.timeout(10):
                await page(network.prepared.socks_port, host, port, "first")
                return
        except (OSError, EOFError, TimeoutError):
            if time.monotonic() > end:
                raise RuntimeError(f"the network did not come up; see {network.layout.logs}") from None
            await asyncio.sleep(0.5)


def guard_of(network: LimitedNetwork) -> str:
    """Nickname of the client's guard."""
    with ClientControl(network.layout.client_socket) as client:
        for _ in range(50):
            try:
                circuits = client.circuits().circuits
            except NoAnswer:
                circuits = []
            for circuit in circuits:
                if circuit.hops:
                    return str(circuit.hops[0].nickname)
            time.sleep(0.2)
    raise RuntimeError("the client has no circuit")


def newcomers(network: LimitedNetwork, guard: str) -> Callable[[Seen, asyncio.Event], Any]:
    """Who dials the guard and a directory anew all the time."""

    async def run(seen: Seen, over: asyncio.Event) -> None:
        honest = Attacker(load_genesis(network.layout.genesis), guard, 0)
        await honest.begin()
        await newcomer(honest, [honest.guard, honest.genesis.directories[0]], seen, over)

    return run


async def attacked(
    network: LimitedNetwork, name: str, host: str, port: int, seconds: float
) -> tuple[Seen, dict[str, Any]]:
    guard = guard_of(network)
    network.begin_peaks()
    before = network.restarts
    with (network.layout.logs / f"attack-{name}.log").open("wb") as log:
        attack = subprocess.Popen(  # noqa: ASYNC220 - it is killed below
            [sys.executable, str(HERE / "hostile.py"), name, "--genesis", str(network.layout.genesis), "--guard", guard,
             "--web", str(port)],
            stderr=log, stdout=log,
        )  # fmt: skip
        await asyncio.sleep(2)  # it learns the network first
        try:
            seen = await users(network.prepared.socks_port, host, port, name, seconds, newcomers(network, guard))
            assert attack.poll() is None, f"the attack ended: see {log.name}"
        finally:
            attack.kill()
            attack.wait()
    share, worst = network.worst()
    row = {
        "failures": len(seen.failures), "pages": len(seen.seconds), "links": seen.links, "p50_s": round(seen.p50, 4),
        "peak": round(share, 3), "worst": worst, "restarted": network.restarts - before,
    }  # fmt: skip
    return seen, row


async def measure(network: LimitedNetwork, names: list[str], host: str, port: int, quick: bool) -> dict[str, Any]:
    socks = network.prepared.socks_port
    await wait_up(network, host, port)
    await users(socks, host, port, "warm", 3 if quick else 60, None)
    before = network.used()
    print(
        f"{'':<24}{'pages':>6}{'failed':>7}{'p50 ms':>8}{'before':>8}{'ratio':>7}{'peak/limit':>12}  service",
        flush=True,
    )
    rows: dict[str, Any] = {}
    failures: list[str] = []
    for name in names:
        # Right before each: circuits that idle add up while the users go on, with or without an attack.
        calm = await users(socks, host, port, f"calm-{name}", 4 if quick else 30, newcomers(network, guard_of(network)))
        seen, row = await attacked(network, name, host, port, 7 if quick else 60)
        row |= {"calm_p50_s": round(calm.p50, 4), "ratio": round(seen.p50 / calm.p50, 2)}
        rows[name] = row
        failures += [f"before {name}: {why}" for why in calm.failures]
        failures += [f"{name}: {why}" for why in seen.failures]
        print(
            f"{name:<24}{row['pages']:>6}{row['failures']:>7}{row['p50_s'] * 1000:>8.0f}{calm.p50 * 1000:>8.0f}"
            f"{row['ratio']:>7.2f}{row['peak']:>12.2f}  {row['worst']}{' RESTARTED' if row['restarted'] else ''}",
            flush=True,
        )
        await asyncio.sleep(CALM_SECONDS[quick])
    result = {
        "honest_failures": len(failures),
        "honest_ttfb_ratio_worst": max(row["ratio"] for row in rows.values()),
        "rss_peak_over_limit": max(row["peak"] for row in rows.values()),
        "services_restarted": network.restarts,
        "limits_enforced": network.enforced,
    }
    if not quick:
        await asyncio.sleep(AFTER_SECONDS)
        after = network.used()
        grown = {n: round(after[n] / before[n], 2) for n in before if after[n] > before[n] * BACK_SHARE}
        result["not_back_after_5_min"] = grown
    return {**result, "failures": failures[:50], "attacks": rows}


async def main_async(quick: bool, names: list[str]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(web, "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="pb-attacks-", dir="/tmp") as root:
        resolver, host = None, "localhost"
        if may_unshare():
            dns, _ = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
            resolver, host = Path(root, "resolv.conf"), "page.fast.test"
            resolver.write_text(f"nameserver 127.0.0.1:{dns.get_extra_info('sockname')[1]}\n")
        else:
            names = [n for n in names if n != "silent-names"]
            print("not root: relays cannot have a DNS server of the test's own, so silent-names is left out")
        options = Options(nodes=6, socks_port=0, transport="tcp", epoch_seconds=30)
        with limited_network(Path(root, "net"), options, resolver) as network:
            if not network.enforced:
                print("control groups cannot be made here: the limits are not in force, only compared with")
            return await measure(network, names, host, port, quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", choices=ATTACKS, default=list(ATTACKS))
    given = parser.parse_args()
    result = asyncio.run(main_async(given.quick, given.only))
    if set(given.only) == set(ATTACKS):
        RESULTS.write_text(json.dumps({"quick": given.quick, **result}, indent=1) + "\n")
    for why in result["failures"][:10]:
        print("failed:", why)
    keys = ("honest_failures", "honest_ttfb_ratio_worst", "rss_peak_over_limit", "services_restarted")
    print(json.dumps({key: result[key] for key in keys}))


if __name__ == "__main__":
    main()
