"""Logging: the form, the levels, and the type that never shows what it holds."""

from __future__ import annotations

import json

import pytest
import structlog
from phantomband.core.stream.messages import target
from phantomband.runtime.log import configure
from phantomband.transports.base import Address

SECRETS = ["203.0.113.77", "very-secret.example", "4242"]


@pytest.fixture(autouse=True)
def _restore() -> object:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_form_of_a_line_has_an_address(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = configure("relay", "debug", form)
    log.debug(
        "dialling",
        where=Address("tcp", SECRETS[0], 4242),
        target=target(SECRETS[1], 4242),
    )
    line = capsys.readouterr().err
    assert line.count("[scrubbed]") == 2
    assert not any(secret in line for secret in SECRETS)


def test_json_lines_have_level_service_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    configure("relay", "info", "json").info("started", nodes=3)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["service"], line["nodes"]) == ("started", "info", "relay", 3)
    assert "timestamp" in line


@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    log = configure("relay", level, "text")
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("line")
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == shown
    assert not captured.out
