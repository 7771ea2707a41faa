"""Runs every fuzz target on its kept corpus and on bounded random and mutated inputs, the same in each run."""

from __future__ import annotations

import json
import random
import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
TARGETS = sorted(path.stem for path in HERE.glob("fuzz_*.py"))
ROUNDS = {
    "fuzz_config": 100,
    "fuzz_directory": 300,
    "fuzz_doh": 400,
    "fuzz_doh_sessions": 60,
    "fuzz_handshakes": 70,
    "fuzz_link": 150,
    "fuzz_link_records": 150,
    "fuzz_names": 60,
    "fuzz_relay": 150,
    "fuzz_socks": 300,
    "fuzz_state": 250,
    "fuzz_stream": 600,
    "fuzz_streams": 250,
    "fuzz_visitor": 150,
    "fuzz_voting": 20,
}
"""Inputs of each kind for the targets that take long for one."""

DEFAULT_ROUNDS = 1000
CORPUS_BYTES = 512 * 1024
"""Of all kept inputs together: they are in the repository."""

INTERESTING = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\1",
    b"[]",
    b"=",
    b"\r\n\r\n",
)


def kept(name: str) -> list[bytes]:
    """The inputs that earlier runs under atheris left, which together reach what any input reached."""
    return [path.read_bytes() for path in sorted((CORPUS / name.removeprefix("fuzz_")).glob("*"))]


def mutated(data: bytes, source: random.Random) -> bytes:
    """`data` with one to four bytes flipped, pieces cut, doubled, or put in."""
    out = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at = source.randint(0, len(out))
        match source.randrange(5):
            case 0 if out:
                out[at % len(out)] ^= 1 << source.randrange(8)
            case 1:
                del out[at : at + source.randint(1, 16)]
            case 2:
                out[at:at] = source.choice(INTERESTING)
            case 3:
                out[at:at] = out[at : at + source.randint(1, 64)]
            case _:
                out[at : at + 2] = source.randbytes(2)
    return bytes(out)


def test_there_is_a_target_for_every_kind_of_bytes_and_every_machine() -> None:
    bytes_of = {
        "cell", "config", "descriptor", "dht", "dircall", "directory", "doh", "handshakes", "link", "socks", "state",
        "stream",
    }  # fmt: skip
    machines = {"doh_sessions", "link_records", "names", "relay", "streams", "visitor", "voting"}
    assert {f"fuzz_{name}" for name in bytes_of | machines} == set(TARGETS)


def test_every_target_has_a_kept_corpus_and_a_figure() -> None:
    figures = json.loads((HERE / "coverage.json").read_text())
    assert {f"fuzz_{name}" for name in figures} == set(TARGETS)
    for name, figure in figures.items():
        inputs = kept(name)
        assert (len(inputs), sum(map(len, inputs))) == (figure["inputs"], figure["bytes"])
        assert figure["features"] > 0
    assert sum(figure["bytes"] for figure in figures.values()) <= CORPUS_BYTES


@pytest.mark.parametrize("name", TARGETS)
def test_target(name: str) -> None:
    module = runpy.run_path(str(HERE / f"{name}.py"))
    one_input, seeds = module["one_input"], [*module.get("SEEDS", ()), b""]
    source = random.Random(name)
    rounds = ROUNDS.get(name, DEFAULT_ROUNDS)
    before = kept(name)
    inputs = [
        *seeds,
        *before,
        *(source.randbytes(source.choice((1, 7, 40, 300, 3000))) for _ in range(rounds)),
        *(mutated(source.choice([*seeds, *before]), source) for _ in range(rounds)),
    ]
    for data in inputs:
        try:
            one_input(data)
        except BaseException as e:
            e.add_note(f"input: {data[:4096].hex()}")
            raise
