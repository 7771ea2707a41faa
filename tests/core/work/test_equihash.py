"""Equihash against Zcash's published vectors, and against bytes that are no solution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantomband.core.errors import Malformed, UserError
from phantomband.core.work.equihash import BY_NAME, TINY, Parameters, pack, unpack_untrusted, verify_untrusted

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "equihash_zcash.json").read_text())


def _header(case: dict[str, Any]) -> bytes:
    return case["input"].encode() + int(case["nonce"]).to_bytes(32, "little")


def _parameters(case: dict[str, Any]) -> Parameters:
    return Parameters(case["n"], case["k"], VECTORS["person"].encode())


@pytest.mark.parametrize("case", VECTORS["validator"], ids=lambda case: case["what"])
def test_zcash_validator_vectors(case: dict[str, Any]) -> None:
    parameters = _parameters(case)
    solution = pack(case["solution"], parameters)
    if case["valid"]:
        verify_untrusted(_header(case), solution, parameters)
    else:
        with pytest.raises(Malformed):
            verify_untrusted(_header(case), solution, parameters)


@pytest.mark.parametrize("case", VECTORS["solver"], ids=lambda case: f"{case['input'][:12]} {case['nonce']}")
def test_zcash_solutions_verify(case: dict[str, Any]) -> None:
    assert case["solutions"]
    for solution in case["solutions"]:
        verify_untrusted(_header(case), pack(solution, _parameters(case)), _parameters(case))


def test_every_bit_of_a_solution_matters() -> None:
    case = VECTORS["validator"][0]
    solution = pack(case["solution"], _parameters(case))
    for bit in range(8 * len(solution)):
        flipped = bytearray(solution)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            verify_untrusted(_header(case), bytes(flipped), _parameters(case))


def test_our_personalisation_takes_no_solution_of_zcash() -> None:
    case = VECTORS["validator"][0]
    ours = Parameters(case["n"], case["k"])
    with pytest.raises(Malformed):
        verify_untrusted(_header(case), pack(case["solution"], ours), ours)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s[:2] * 16, "twice"),
        (lambda s: [s[1], s[0], *s[2:]], "order"),
        (lambda s: s[16:] + s[:16], "order"),
        (lambda s: sorted(s), "collide"),
    ],
)
def test_each_check_names_what_is_wrong(change: Any, said: str) -> None:
    case = VECTORS["validator"][0]
    with pytest.raises(Malformed, match=said):
        verify_untrusted(_header(case), pack(change(case["solution"]), _parameters(case)), _parameters(case))


@given(st.binary(max_size=100), st.binary(max_size=40) | st.binary(min_size=36, max_size=36))
def test_random_bytes_are_malformed(header: bytes, solution: bytes) -> None:
    with pytest.raises(Malformed):
        verify_untrusted(header, solution, TINY)


@given(st.sampled_from(list(BY_NAME.values())), st.data())
def test_indices_survive_packing(parameters: Parameters, data: st.DataObject) -> None:
    index = st.integers(0, 2**parameters.index_bits - 1)
    indices = data.draw(st.lists(index, min_size=parameters.leaves, max_size=parameters.leaves))
    packed = pack(indices, parameters)
    assert len(packed) == parameters.solution_bytes
    assert unpack_untrusted(packed, parameters) == indices


@pytest.mark.parametrize(("n", "k"), [(95, 5), (96, 6), (96, 1), (200, 5), (24, 5)])
def test_parameters_that_cannot_work_are_refused(n: int, k: int) -> None:
    with pytest.raises(UserError):
        Parameters(n, k)
