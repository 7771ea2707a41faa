"""`python -m phantomband_cli.work`: makes one stamp and ends. A process of its own, since it takes hundreds of
megabytes and a processor for seconds to minutes, and gives both back when it ends.

Prints {"stamp": "<hex>", "seconds": 1.9}. Exit codes: 0 made, 1 none found, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.core.ids import NodeId
from phantomband.core.work.equihash import BY_NAME, Parameters
from phantomband.core.work.stamp import MAX_BITS, NONCE_BYTES, Challenge

NICE = 10
"""Everything else on the machine goes first."""

TRIES = 16
"""Nonces tried at most, times 2^bits; half a nonce times 2^bits is enough on average."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        challenge = Challenge(
            bytes.fromhex(arguments.network_id),
            NodeId.parse(arguments.node_id),
            arguments.epoch,
            bytes.fromhex(arguments.view_digest),
        )
    except (ValueError, Malformed) as e:
        print(f"The challenge is wrong: {e}. Give ids and digests as `phantomband` prints them.", file=sys.stderr)
        return 2
    if not 0 <= arguments.bits <= MAX_BITS:
        print(f"--bits must be 0 to {MAX_BITS}.", file=sys.stderr)
        return 2
    try:
        parameters = _parameters(arguments.parameters)
    except (ValueError, UserError) as e:
        print(f"--parameters: {e} Use one of {', '.join(BY_NAME)}, or N,K.", file=sys.stderr)
        return 2
    try:
        from phantomband_cli.work.solver import make_stamp
    except ImportError:
        print("Making stamps needs numpy: pip install 'phantomband-cli[work]'.", file=sys.stderr)
        return 2
    os.nice(NICE)
    first = int.from_bytes(os.urandom(NONCE_BYTES), "big")
    began = time.monotonic()
    try:
        stamp = make_stamp(challenge, parameters, arguments.bits, first, TRIES << arguments.bits)
    except Refused as e:
        print(e, file=sys.stderr)
        return 1
    print(json.dumps({"stamp": stamp.hex(), "seconds": round(time.monotonic() - began, 3)}))
    return 0


def _parameters(text: str) -> Parameters:
    """Raises: ValueError or UserError."""
    if text in BY_NAME:
        return BY_NAME[text]
    n, _, k = text.partition(",")
    return Parameters(int(n), int(k))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m phantomband_cli.work", description="Make one stamp.")
    parser.add_argument("network_id", help="64 hex digits, from the genesis file")
    parser.add_argument("node_id", help="52 letters")
    parser.add_argument("epoch", type=int, help="of the newest certified view")
    parser.add_argument("view_digest", help="64 hex digits: that view's digest")
    parser.add_argument("--bits", type=int, default=0, help="difficulty in force at that view")
    parser.add_argument("--parameters", default="public", help=f"of Equihash: {', '.join(BY_NAME)}, or N,K")
    return parser


if __name__ == "__main__":
    sys.exit(main())
