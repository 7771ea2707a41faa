"""The command as a person or script meets it: exit codes, one line of error, nothing heavy for --help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from phantomband_cli.main import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    with pytest.raises(SystemExit) as e:
        main(arguments)
    out, err = capsys.readouterr()
    return int(e.value.code or 0), out, err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["testnet", "up", "--nodes", "2"], "--nodes 2"),
        (["testnet", "up", "--mix", "x"], "--mix x"),
        (["testnet", "up", "--exits", "9"], "--exits 9"),
        (["testnet", "up", "--socks-port", "70000"], "--socks-port 70000"),
        (["demo", "--lane", "x"], "--lane x"),
        (["client"], "--config"),
        (["client", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (["node"], "node init"),
        (["node", "--config", "/nonexistent.toml"], "/nonexistent.toml"),
        (["config", "check", "--kind", "x", "y"], "--kind x"),
        (["status", "--run-dir", "/nonexistent"], "/nonexistent/client.sock"),
        (["circuits", "--run-dir", "/nonexistent"], "no client answers"),
        (["newnym", "--run-dir", "/nonexistent", "--json"], "no client answers"),
    ],
)
def test_a_users_mistake_is_a_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


def test_status_and_down_where_nothing_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "testnet", "status", "--json", "--dir", str(tmp_path))
    assert (code, json.loads(out)) == (1, {"running": False})
    code, out, _ = run(capsys, "testnet", "status", "--dir", str(tmp_path))
    assert code == 1
    assert "phantomband testnet up" in out
    code, out, _ = run(capsys, "testnet", "down", "--dir", str(tmp_path))
    assert (code, list(tmp_path.iterdir())) == (0, [])


def test_node_init_keeps_what_is_there_and_leaves_nothing_that_cannot_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "node.toml"
    arguments = ["node", "init", "--genesis", str(tmp_path / "genesis.json"), "--config", str(file)]
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "no such file" in err
    assert not file.exists()
    file.write_text("mine")
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "exists already" in err
    assert file.read_text() == "mine"


def test_help_imports_nothing_heavy() -> None:
    heavy = {"grpc", "rich", "pydantic", "cryptography", "asyncio", "structlog", "google.protobuf"}
    script = f"""
import sys, phantomband_cli.main as m
try:
    m.main(["--help"])
except SystemExit:
    print(sorted({heavy!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "testnet" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
