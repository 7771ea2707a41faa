"""The solver finds what Zcash's solvers find, and stamps that the core takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import Refused
from phantomband.core.ids import NodeId
from phantomband.core.work import stamp
from phantomband.core.work.equihash import TINY, Parameters, pack, verify_untrusted
from phantomband.core.work.stamp import Challenge
from phantomband_cli.work.solver import make_stamp, solve

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "equihash_zcash.json").read_text())
CHALLENGE = Challenge(bytes(32), NodeId(b"\x01" * 32), 7, b"\x02" * 32)


@pytest.mark.parametrize("case", VECTORS["solver"], ids=lambda case: f"{case['input'][:12]} {case['nonce']}")
def test_all_of_zcash_solutions_are_found_and_no_other(case: dict[str, Any]) -> None:
    header = case["input"].encode() + int(case["nonce"]).to_bytes(32, "little")
    parameters = Parameters(case["n"], case["k"], VECTORS["person"].encode())
    assert solve(header, parameters) == sorted(tuple(one) for one in case["solutions"])


@pytest.mark.parametrize("parameters", [TINY, Parameters(72, 5), Parameters(60 * 2, 7), Parameters(80, 4)])
def test_what_is_found_verifies(parameters: Parameters) -> None:
    found = 0
    for nonce in range(4):
        header = bytes((nonce,))
        for indices in solve(header, parameters):
            verify_untrusted(header, pack(indices, parameters), parameters)
            found += 1
    assert found


def test_a_stamp_has_the_bits_that_were_asked_for() -> None:
    made = make_stamp(CHALLENGE, TINY, 4, first_nonce=2**128 - 2, tries=200)
    stamp.verify_untrusted(CHALLENGE, made, TINY, 4)


def test_too_few_tries_are_said() -> None:
    with pytest.raises(Refused, match="32 bits"):
        make_stamp(CHALLENGE, TINY, 32, first_nonce=0, tries=2)
