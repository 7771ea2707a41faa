"""`phantomband sim`: table, then one JSON line; a file with the same; a mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from phantomband_cli.main import main

QUICK = ["sim", "--flows", "4", "--seconds", "5", "--nodes", "3", "--seeds", "2"]


def run(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as e:
        main(arguments)
    return e.value.code


def test_prints_a_table_and_a_json_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sim.json"
    assert run([*QUICK, "--interval", "0.05", "--interval", "0.5", "--json", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert json.loads(file.read_text()) == result
    assert [(r["strategy"], r["interval"]) for r in result["rows"]] == [("none", None), ("timed", 0.05), ("timed", 0.5)]
    assert result["seeds"] == [1, 2]
    assert [line.split("|")[1].strip() for line in lines[:-1]] == ["strategy", "---", "none", "timed", "timed"]


@pytest.mark.parametrize("wrong", [["--mix", "nonsense"], ["--interval", "-1"]])
def test_a_mistake_is_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, *wrong]) == 2
    assert capsys.readouterr().err.startswith(f"error: {wrong[0]} {wrong[1]}")
