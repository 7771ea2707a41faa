"""Run directories of test networks: short, and gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def short_run_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """pytest's own directories are too long for Unix sockets, so networks would use /tmp itself."""
    with tempfile.TemporaryDirectory(prefix="pbt-", dir="/tmp") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield
