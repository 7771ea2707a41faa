"""The tables of docs/explanation/anonymity.md are those of the last full run of bench/anonymity."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_document_has_the_figures_of_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench/anonymity"))
    import tables

    results = json.loads((ROOT / "bench/results/anonymity.json").read_text())
    document = (ROOT / "docs/explanation/anonymity.md").read_text()
    assert not results["quick"]
    assert results["size"]["networks"] >= 20
    named = set(re.findall(r"<!-- figures: (\w+) -->", document))
    assert named == set(tables.parts(results))
    assert tables.filled(document, results) == document
    sys.modules.pop("tables")
