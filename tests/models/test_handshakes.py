"""The formal models of the handshakes say what docs/models/README.md says; the controls find what they must find."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MODELS = Path(__file__).resolve().parents[2] / "docs" / "models"
CIRCUIT = ("authentication? Relay -> Client: auth", "authentication? Relay -> Client: e_down")
CLIENT_LINK = ("authentication? Listener -> Dialer: c_p2", "authentication? Listener -> Dialer: e_down")
UP, DOWN = "confidentiality? up", "confidentiality? down"
NODE_LINK = (*CLIENT_LINK, "authentication? Dialer -> Listener: e_up", UP, DOWN)

EXPECTED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "circuit": ((UP, *CIRCUIT), ()),
    "circuit-recorded": ((UP, *CIRCUIT), ()),
    "circuit-recorded-without-kem": (CIRCUIT, (UP,)),
    "circuit-stolen-key": ((), (UP, *CIRCUIT)),
    "link-nk": ((UP, *CLIENT_LINK), ()),
    "link-nk-recorded": ((UP, *CLIENT_LINK), ()),
    "link-nk-recorded-without-kem": (CLIENT_LINK, (UP,)),
    "link-xk": (NODE_LINK, ()),
    "link-xk-recorded": (NODE_LINK, ()),
}
"""(queries that hold, queries that an attack breaks) of each model."""


def test_every_model_is_expected_to_say_something() -> None:
    assert {path.stem for path in MODELS.glob("*.vp")} == EXPECTED.keys()


@pytest.mark.parametrize("model", EXPECTED)
def test_a_model_says_what_its_page_says(model: str) -> None:
    verifpal = shutil.which("verifpal") or shutil.which("verifpal", path=str(Path.home() / ".cargo/bin"))
    if verifpal is None:
        pytest.skip("verifpal is not installed, so the formal models were not run: cargo install verifpal")
    done = subprocess.run(
        [verifpal, "verify", str(MODELS / f"{model}.vp")], capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stderr
    summary = done.stdout.partition("Verification completed")[2]
    holds, broken = set(), set()
    for line in summary.splitlines():
        mark, _, rest = line.strip().partition(" ")
        query = rest.removeprefix("+ ").removeprefix("x ").partition("  [")[0]
        if "?" in query and mark in ("PASS", "FAIL"):
            (holds if mark == "PASS" else broken).add(query.strip())
    assert (holds, broken) == tuple(map(set, EXPECTED[model]))
