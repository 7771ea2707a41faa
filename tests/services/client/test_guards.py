"""Guards are kept for months, whoever comes and goes meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband.core.ids import NodeId
from phantomband_client.guards import KEEP_SECONDS, MAX_STORED, StoredGuards

NODES = [NodeId(bytes((i,)) * 32) for i in range(40)]


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def test_guards_are_drawn_until_enough_and_kept(tmp_path: Path) -> None:
    stored = StoredGuards(tmp_path / "guards.json", Clock())
    assert stored.extended(iter(NODES), lambda ids: len(ids) >= 3) == NODES[:3]
    again = StoredGuards(tmp_path / "guards.json", Clock())
    assert again.extended(iter(NODES[10:]), lambda ids: len(ids) >= 3) == NODES[:3]


def test_a_guard_that_is_away_is_not_forgotten(tmp_path: Path) -> None:
    stored = StoredGuards(tmp_path / "guards.json", Clock())
    stored.extended(iter(NODES[:3]), lambda ids: len(ids) >= 3)
    here = {NODES[0], NODES[5], NODES[6]}
    found = stored.extended(iter(NODES[5:]), lambda ids: len(here.intersection(ids)) >= 2)
    assert found == [*NODES[:3], NODES[5]]
    assert stored.extended(iter(NODES), lambda ids: len(ids) >= 3)[:3] == NODES[:3], "back, and first again"


def test_old_guards_are_given_up(tmp_path: Path) -> None:
    clock = Clock()
    stored = StoredGuards(tmp_path / "guards.json", clock)
    stored.extended(iter(NODES[:2]), lambda ids: len(ids) >= 2)
    clock.now += KEEP_SECONDS + 1
    assert stored.load() == []


def test_the_list_is_bounded(tmp_path: Path) -> None:
    stored = StoredGuards(tmp_path / "guards.json", Clock())
    stored.extended(iter(NODES), lambda ids: False)
    assert len(stored.load()) == MAX_STORED


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"id": "x", "since": 1}]', '["abc"]', '[{"since": 3}]'])
def test_a_broken_file_is_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "guards.json").write_text(text)
    assert StoredGuards(tmp_path / "guards.json", Clock()).load() == []
