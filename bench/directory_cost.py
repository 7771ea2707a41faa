"""What it costs to be a part of a view, to check stamps and to send junk: bench/work.py's figures, and the price of
ids near a place in the table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from random import Random
from typing import Any

import work
from directory_cases import FULL
from phantomband.core.crypto.sign import IdentityKey

Results = dict[str, Any]
KEYS = 500


def submit(pool: Executor, quick: bool) -> Future[Results]:
    return pool.submit(measure, quick)


def measure(quick: bool) -> Results:
    public = work.solving("public", 2 if quick else 20)
    spam: Results = {}
    if not quick:  # a stamp of its own takes some seconds
        newcomer = work.Newcomer()
        spam = {"rungs_us": work.rungs(newcomer, 200), "flood": work.flood(newcomer)}
    key_s = seconds_a_key()
    return {
        "bits": work.BITS,
        "honest": work.HONEST,
        "public": public,
        **spam,
        "shares": work.shares(public["solve_s"], 2.0),
        "key_s": key_s,
        "generations": FULL.aimed.generations,
        "generations_cpu_hours": FULL.aimed.generations * key_s / 3600,
    }


def seconds_a_key() -> float:
    """CPU seconds to make an identity and hash its id."""
    random = Random(1)
    began = time.process_time()
    for _ in range(KEYS):
        _ = IdentityKey.generate(random.randbytes).node_id
    return (time.process_time() - began) / KEYS


def collect(asked: Future[Results]) -> Results:
    return asked.result()


def table(results: Results) -> Iterator[str]:
    yield f"share of a view with {results['honest']:,} honest nodes"
    for row in results["shares"]:
        hours = ", ".join(f"{value:,.1f} at {bits} bits" for bits, value in row["cpu_hours_a_day"].items())
        networks = f"{row['v4_24']} /24 in {row['v4_16']} /16"
        yield f"  {row['share']:.0%}: {row['nodes']} nodes; CPU hours a day: {hours}; {networks}"
    public = results["public"]
    checks = f"{public['check_us']:.0f} us to check, {public['junk_us']:.0f} us to refuse junk"
    yield f"a stamp: {public['solve_s']:.2f} s a nonce, {checks}"
    for name, row in results.get("flood", {}).items():
        rate = work.FLOOD / row["cpu_s"]
        yield f"spam, rates {name}: {row['us_each']:.1f} us each, {rate:,.0f} a second on one processor"
    hours = results["generations_cpu_hours"]
    yield f"ids: {results['key_s'] * 1e6:.0f} us a key; {results['generations']:,} keys take {hours:.2f} CPU hours"
