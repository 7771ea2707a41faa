"""`python -m phantomband_cli.work`, in a process of its own as a node would start it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from phantomband.core.ids import NodeId
from phantomband.core.work import stamp
from phantomband.core.work.equihash import TINY
from phantomband.core.work.stamp import Challenge

CHALLENGE = Challenge(b"\x01" * 32, NodeId(b"\x02" * 32), 3, b"\x04" * 32)


def run(*arguments: str, numpy: bool = True) -> subprocess.CompletedProcess[str]:
    hidden = "" if numpy else "import sys; sys.modules['numpy'] = None; "
    code = f"{hidden}from phantomband_cli.work.__main__ import main; raise SystemExit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)


def arguments(**changes: str) -> tuple[str, ...]:
    parts = {
        "network_id": CHALLENGE.network_id.hex(),
        "node_id": str(CHALLENGE.node_id),
        "epoch": str(CHALLENGE.epoch),
        "view_digest": CHALLENGE.view_digest.hex(),
    } | changes
    return (*parts.values(), "--parameters", "tiny")


def test_it_prints_a_stamp_that_verifies() -> None:
    done = run(*arguments(), "--bits", "4")
    assert done.returncode == 0, done.stderr
    stamp.verify_untrusted(CHALLENGE, bytes.fromhex(json.loads(done.stdout)["stamp"]), TINY, 4)


@pytest.mark.parametrize(
    ("key", "value"), [("network_id", "zz"), ("node_id", "x"), ("view_digest", "00"), ("epoch", "-1")]
)
def test_a_challenge_that_is_none_is_said(key: str, value: str) -> None:
    done = run(*arguments(**{key: value}))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_without_numpy_it_says_what_to_install() -> None:
    done = run(*arguments(), numpy=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "phantomband-cli[work]" in done.stderr
