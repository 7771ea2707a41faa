"""What a place in a view costs: to make a stamp, to check it, to check junk, to be a tenth, a third or half of a view.

    solve s          seconds of one nonce (about two solutions), one processor, median
    MB               peak memory of the solver's process, less what Python and numpy take
    check us         a right solution, median of rounds
    junk us          a solution of random indices
    rungs            microseconds of `Admission.check_untrusted` for descriptors that fall at each rung
    flood            100,000 bogus descriptors of mixed kinds, from 5,000 networks, in a minute: seconds of CPU
    share            nodes, CPU hours each day and networks for a share of a view of 1,000 honest nodes

Run: make bench-work, QUICK=1 for a minute. Writes bench/results/work.json; the last line is the same.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import ipaddress
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from phantomband.core.crypto.sign import IdentityKey
from phantomband.core.errors import Malformed, Refused
from phantomband.core.netdir.address import NodeAddress
from phantomband.core.netdir.admission import Admission, AdmissionRule, RateRule
from phantomband.core.netdir.caps import CapRule
from phantomband.core.netdir.descriptor import Descriptor, SignedDescriptor, sign_descriptor
from phantomband.core.work.difficulty import DifficultyRule
from phantomband.core.work.equihash import BY_NAME, PUBLIC, pack, verify_untrusted
from phantomband.core.work.stamp import Challenge, encode_stamp, meets

RESULTS = Path(__file__).resolve().parent / "results" / "work.json"
NOW = 1_790_000_000
NETWORK, DIGEST, EPOCH = b"\x01" * 32, b"\x02" * 32, 9
BITS = DifficultyRule().floor
HONEST = 1_000
FLOOD, FLOOD_NETWORKS = 100_000, 5_000
EPOCHS_A_DAY = 24
UNBOUNDED = RateRule((1e9, 1e9), (1e9, 1e9), (1e9, 1e9))

# ---- solving, in a process of its own ------------------------------------------------------------------------------


def solve_here(name: str, nonces: int) -> dict[str, Any]:
    """Runs in the child."""
    from phantomband_cli.work.solver import solve

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, solutions, example = [], 0, None
    for nonce in range(nonces):
        header = _header(nonce)
        began = time.process_time()
        found = solve(header, BY_NAME[name])
        seconds.append(time.process_time() - began)
        solutions += len(found)
        example = (nonce, found[0]) if found else example
    return {
        "solve_s": statistics.median(seconds),
        "MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "solutions": solutions,
        "nonces": nonces,
        "example": example,
    }


def solving(name: str, nonces: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--solve", name, str(nonces)], check=True, capture_output=True, text=True
    )
    measured: dict[str, Any] = json.loads(done.stdout)
    nonce, indices = measured.pop("example")
    parameters, random = BY_NAME[name], Random(1)
    good = pack(indices, parameters)
    junk = [pack(sorted(random.sample(range(2**parameters.index_bits), len(indices))), parameters) for _ in range(500)]
    measured["solution_bytes"] = len(good)
    measured["check_us"] = microseconds(lambda _: verify_untrusted(_header(nonce), good, parameters), range(500))
    measured["junk_us"] = microseconds(lambda one: verify_untrusted(_header(nonce), one, parameters), junk)
    return measured


def _header(nonce: int) -> bytes:
    return bytes(104) + nonce.to_bytes(16, "big")


# ---- checking ------------------------------------------------------------------------------------------------------


def microseconds(check: Callable[[Any], object], items: Any, rounds: int = 7) -> float:
    """Median over rounds of the CPU time of one check."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        for item in items:
            with contextlib.suppress(Malformed, Refused):
                check(item)
        times.append((time.process_time() - began) / len(items))
    return statistics.median(times) * 1e6


class Newcomer:
    """One real descriptor with its stamp, and bogus ones of each kind."""

    def __init__(self) -> None:
        from phantomband_cli.work.solver import make_stamp

        self.random = Random(7)
        key = IdentityKey.generate(lambda size: hashlib.shake_256(b"bench").digest(size))
        self.signed = _descriptor(key)
        self.challenge = Challenge(NETWORK, self.signed.node_id, EPOCH, DIGEST)
        self.stamp = make_stamp(self.challenge, PUBLIC, BITS, 0, 10_000)

    def kinds(self) -> dict[str, Callable[[], tuple[bytes, bytes]]]:
        """By rung: makes a (stamp, descriptor) that falls there."""
        encoded = self.signed.encoded
        return {
            "size": lambda: (self.stamp, self.random.randbytes(5_500)),
            "work: no difficulty": lambda: (self._junk(False), encoded),
            "work: difficulty, no solution": lambda: (self._junk(True), encoded),
            "form": lambda: (self.stamp, encoded[:2081] + b"\xff" + encoded[2082:]),
            "signature": lambda: (self.stamp, encoded[:-3373] + self.random.randbytes(3373)),
            "taken": lambda: (self.stamp, encoded),
        }

    def _junk(self, with_difficulty: bool) -> bytes:
        while True:
            nonce, chosen = self.random.randbytes(16), self.random.sample(range(2**PUBLIC.index_bits), PUBLIC.leaves)
            solution = pack(sorted(chosen), PUBLIC)
            if meets(self.challenge, nonce + solution, BITS) == with_difficulty:
                return encode_stamp(self.challenge, nonce, solution)


def _descriptor(key: IdentityKey) -> SignedDescriptor:
    made = Descriptor(
        network_id=NETWORK,
        identity=key.public.raw,
        link_key=bytes((9, *bytes(31))),
        onion_key=bytes((9, *bytes(31))),
        addresses=(NodeAddress("tcp", "192.0.2.1", 9001), NodeAddress("quic", "192.0.2.1", 9002)),
        exit_policy="accept *:80\naccept *:443",
        bandwidth=10**6,
        family=(),
        nickname="bench",
        software="phantomband",
        mix="none",
        published=NOW,
        expires=NOW + 10_000,
    )
    return sign_descriptor(made, key)


def admission(rates: RateRule) -> Admission:
    made = Admission(NETWORK, AdmissionRule(PUBLIC, rates=rates))
    made.new_view(EPOCH, DIGEST, BITS, [])
    return made


def rungs(newcomer: Newcomer, count: int) -> dict[str, float]:
    door, source = admission(UNBOUNDED), ipaddress.ip_address("203.0.113.5")
    measured = {}
    for kind, make in newcomer.kinds().items():
        items = [make() for _ in range(count)]
        measured[kind] = microseconds(lambda item: door.check_untrusted(*item, source, NOW), items)
    closed = admission(RateRule(near=(0.0, 0.0)))
    measured["rate"] = microseconds(
        lambda _: closed.check_untrusted(newcomer.stamp, newcomer.signed.encoded, source, NOW), range(count)
    )
    return measured


def flood(newcomer: Newcomer) -> dict[str, Any]:
    """A minute of junk, with the default rates and with none."""
    kinds = [make for kind, make in newcomer.kinds().items() if kind != "taken"]
    pool = [kinds[i % len(kinds)]() for i in range(1_000)]
    networks = [ipaddress.ip_address((11 << 24) + (i << 8) + 1) for i in range(FLOOD_NETWORKS)]
    random, measured = Random(3), {}
    for name, rates in (("with rates", RateRule()), ("without", UNBOUNDED)):
        door = admission(rates)
        arrivals = [(random.choice(pool), random.choice(networks)) for _ in range(FLOOD)]
        began = time.process_time()
        for i, (item, source) in enumerate(arrivals):
            with contextlib.suppress(Malformed, Refused):
                door.check_untrusted(*item, source, NOW + 60 * i / FLOOD)
        spent = time.process_time() - began
        fell = {rung.value: count for rung, count in door.counts.items()}
        measured[name] = {"cpu_s": spent, "us_each": spent / FLOOD * 1e6, "fell": fell}
    return measured


# ---- what a share costs --------------------------------------------------------------------------------------------


def shares(solve_s: float, solutions_a_nonce: float) -> list[dict[str, Any]]:
    """Of a view of 1,000 honest nodes; work once in `anchors` epochs, networks by the default caps."""
    rule, caps, anchors = DifficultyRule(), CapRule(), AdmissionRule().anchors
    found = []
    for share in (0.10, 0.33, 0.50):
        nodes = math.ceil(HONEST * share / (1 - share))
        stamps_a_day = nodes * EPOCHS_A_DAY / anchors
        hours = {
            str(bits): stamps_a_day * 2**bits / solutions_a_nonce * solve_s / 3600
            for bits in (rule.floor, rule.ceiling)
        }
        networks = {"v4_24": math.ceil(nodes / caps.v4_24), "v4_16": math.ceil(nodes / caps.v4_16)}
        found.append({"share": share, "nodes": nodes, "cpu_hours_a_day": hours, **networks})
    return found


# ---- the whole -----------------------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> Iterator[str]:
    yield f"{'parameters':<12}{'solve s':>10}{'MB':>8}{'solutions':>11}{'bytes':>7}{'check us':>10}{'junk us':>9}"
    for name, row in results["parameters"].items():
        found = row["solutions"] / row["nonces"]
        yield (
            f"{name:<12}{row['solve_s']:>10.3f}{row['MB']:>8.0f}{found:>11.2f}{row['solution_bytes']:>7}"
            f"{row['check_us']:>10.1f}{row['junk_us']:>9.1f}"
        )
    yield "\nfalls at" + " " * 26 + "us"
    for kind, us in sorted(results["rungs_us"].items(), key=lambda item: float(item[1])):
        yield f"{kind:<30}{us:>6.1f}"
    yield f"\n{FLOOD:,} bogus in a minute, from {FLOOD_NETWORKS:,} /24"
    for name, row in results["flood"].items():
        yield f"  rates {name:<11}{row['cpu_s']:>6.2f} s of CPU, {row['us_each']:.1f} us each; fell {row['fell']}"
    yield f"\nshare of a view with {HONEST:,} honest nodes"
    for row in results["shares"]:
        hours = ", ".join(f"{value:,.1f} at {bits} bits" for bits, value in row["cpu_hours_a_day"].items())
        networks = f"{row['v4_24']} /24 in {row['v4_16']} /16"
        yield f"  {row['share']:.0%}: {row['nodes']} nodes; CPU hours a day: {hours}; {networks}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--solve", nargs=2, metavar=("NAME", "NONCES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.solve:
        print(json.dumps(solve_here(arguments.solve[0], int(arguments.solve[1]))))
        return
    sets = (
        {"tiny": 50, "small": 20, "public": 4}
        if arguments.quick
        else {"tiny": 200, "small": 100, "public": 20, "large": 2}
    )
    measured = {name: solving(name, nonces) for name, nonces in sets.items()}
    newcomer = Newcomer()
    results = {
        "bench": "work",
        "quick": arguments.quick,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "bits": BITS,
        "parameters": measured,
        "rungs_us": rungs(newcomer, 200),
        "flood": flood(newcomer),
        "shares": shares(measured["public"]["solve_s"], 2.0),
    }
    print("\n".join(table(results)))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
