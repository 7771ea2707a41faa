"""`phantomband sim`: table, then one JSON line; a file with the same; a mistake is one line."""

from __future__ import annotations

import json
import sys
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


def test_the_fast_model_gives_the_same_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--model", "fast", "--interval", "0.05"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert result["model"] == "fast"
    assert [(r["strategy"], r["interval"]) for r in result["rows"]] == [("none", None), ("timed", 0.05)]
    assert all(r["whole"]["value"] is None for r in result["rows"])


def test_the_fast_model_measures_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--model", "fast", "--profile", "strong"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [r["strategy"] for r in rows] == ["none", "strong"]


def test_without_numpy_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("phantomband_cli.sim.fast")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert run([*QUICK, "--model", "fast"]) == 2
    assert "phantomband-cli[sim]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--model", "nonsense"],
        ["--profile", "strong"],
        ["--model", "fast", "--profile", "nonsense"],
        ["--model", "fast", "--loss", "0.1"],
        ["--loss", "1"],
        ["--spread", "-1"],
    ],
)
def test_options_that_do_not_fit_are_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, *wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --")
    assert error.count("\n") == 1
