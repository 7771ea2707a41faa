"""Guards are few, kept for months, and not replaced because somebody makes them vanish for a while."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.runtime.state_files import StateFiles
from phantomband_client.guards import (
    DAY_SECONDS,
    KEEP_DAYS,
    MAX_SAMPLED,
    SPREAD_DAYS,
    UNLISTED_SECONDS,
    Retries,
    StoredGuards,
)
from world import Seeded

NODES = [NodeId(bytes((i,)) * 32) for i in range(40)]
DAY = float(DAY_SECONDS)


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guards.json"


def stored(path: Path, clock: Clock, seed: int = 1) -> StoredGuards:
    return StoredGuards(StateFiles(path.parent), clock, Seeded(seed))


def ids(guards: StoredGuards) -> list[NodeId]:
    return [guard.node_id for guard in guards.load()]


def test_guards_are_drawn_until_enough_and_kept(path: Path, clock: Clock) -> None:
    assert stored(path, clock).extended(iter(NODES), lambda ids: len(ids) >= 3) == NODES[:3]
    assert stored(path, clock).extended(iter(NODES[10:]), lambda ids: len(ids) >= 3) == NODES[:3]


def test_a_guard_that_is_away_is_not_forgotten(path: Path, clock: Clock) -> None:
    guards = stored(path, clock)
    guards.extended(iter(NODES[:3]), lambda ids: len(ids) >= 3)
    here = {NODES[0], NODES[5], NODES[6]}
    found = guards.extended(iter(NODES[5:]), lambda ids: len(here.intersection(ids)) >= 2)
    assert found == [*NODES[:3], NODES[5]]
    assert guards.extended(iter(NODES), lambda ids: len(ids) >= 3)[:3] == NODES[:3], "back, and first again"


def test_each_is_kept_for_months_and_for_a_time_of_its_own(path: Path, clock: Clock) -> None:
    guards = stored(path, clock)
    guards.extended(iter(NODES), lambda ids: len(ids) >= 10)
    times = [guard.until - guard.since for guard in guards.load()]
    assert all(KEEP_DAYS * DAY <= t < (KEEP_DAYS + SPREAD_DAYS) * DAY for t in times)
    assert len(set(times)) == 10
    clock.now += KEEP_DAYS * DAY - 1
    assert len(guards.load()) == 10
    clock.now += SPREAD_DAYS * DAY
    assert guards.load() == []


def test_one_that_is_missing_from_the_views_for_long_is_dropped(path: Path, clock: Clock) -> None:
    guards = stored(path, clock)
    guards.extended(iter(NODES), lambda ids: len(ids) >= 3)
    first, second, third = NODES[:3]
    guards.noted(lambda node: node != second)
    clock.now += UNLISTED_SECONDS - 1
    guards.noted(lambda node: node not in (second, third))
    assert ids(guards) == [first, second, third]
    clock.now += 2
    guards.noted(lambda node: node not in (second, third))
    assert ids(guards) == [first, third]


def test_one_that_came_back_starts_anew_even_after_long(path: Path, clock: Clock) -> None:
    guards = stored(path, clock)
    guards.extended(iter(NODES), lambda ids: len(ids) >= 2)
    guards.noted(lambda node: node != NODES[0])
    clock.now += 2 * UNLISTED_SECONDS
    assert [g.node_id for g in guards.noted(lambda node: True)] == NODES[:2], "this client was off meanwhile"
    assert ids(guards) == NODES[:2]


def test_an_hour_away_changes_nothing(path: Path, clock: Clock) -> None:
    guards = stored(path, clock)
    guards.extended(iter(NODES), lambda ids: len(ids) >= 3)
    before = path.read_bytes()
    guards.noted(lambda node: False)
    clock.now += 3600
    guards.noted(lambda node: True)
    assert path.read_bytes() == before


def test_whoever_makes_guards_vanish_gains_no_new_ones_beyond_the_sample(path: Path, clock: Clock) -> None:
    guards = stored(path, clock)
    for turn in range(100):
        guards.extended(iter(NODES[turn % 40 :]), lambda ids: False)
    assert ids(guards) == NODES[:MAX_SAMPLED]


def test_the_file_of_an_older_release_is_read(path: Path, clock: Clock) -> None:
    path.write_text(json.dumps([{"id": str(NODES[1]), "since": clock.now - 100 * DAY}]))
    assert ids(stored(path, clock)) == [NODES[1]]
    clock.now += 30 * DAY
    assert ids(stored(path, clock)) == []


DAMAGE = [
    b"", b"{", b"[1]", b'[{"id": "x", "since": 1}]', b'["abc"]', b'[{"since": 3}]', b'[{"id": 3, "since": 1}]',
    b"[" * 100_000, bytes(200), b"\xff\xfe", b'[{"id": "x", "since": 1' + b"0" * 400 + b"}]", b'[{"since": Infinity}]',
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_changes_no_guard(path: Path, clock: Clock, damage: bytes) -> None:
    before = stored(path, clock).extended(iter(NODES), lambda ids: len(ids) >= 3)
    path.write_bytes(damage)
    guards = stored(path, clock, seed=2)
    assert ids(guards) == before
    assert guards.extended(iter(NODES[10:]), lambda ids: len(ids) >= 3) == before
    assert ids(stored(path, clock, seed=3)) == before, "the file is whole again"


@pytest.mark.parametrize("damage", DAMAGE)
def test_when_the_copy_is_damaged_too_a_person_decides(path: Path, clock: Clock, damage: bytes) -> None:
    stored(path, clock).extended(iter(NODES), lambda ids: len(ids) >= 3)
    for one in (path, path.with_name("guards.json.copy")):
        one.write_bytes(damage)
    with pytest.raises(UserError, match=r"guards\.json: is damaged.* removing"):
        stored(path, clock)
    assert path.read_bytes() == damage, "nothing was drawn over it"


def test_a_file_that_is_gone_or_cannot_be_read_changes_no_guard(path: Path, clock: Clock) -> None:
    before = stored(path, clock).extended(iter(NODES), lambda ids: len(ids) >= 3)
    path.unlink()
    assert ids(stored(path, clock, seed=2)) == before
    path.unlink()
    path.mkdir()
    assert ids(stored(path, clock, seed=3)) == before


def test_a_file_with_a_byte_order_mark_is_read(path: Path, clock: Clock) -> None:
    before = stored(path, clock).extended(iter(NODES), lambda ids: len(ids) >= 3)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert ids(stored(path, clock)) == before


def test_what_happens_to_the_file_while_the_client_runs_changes_no_guard(path: Path, clock: Clock) -> None:
    guards = stored(path, clock)
    before = guards.extended(iter(NODES), lambda ids: len(ids) >= 3)
    path.write_bytes(b"")
    assert guards.extended(iter(NODES[10:]), lambda ids: len(ids) >= 3) == before


def test_a_guard_that_does_not_answer_is_tried_again_later_and_later() -> None:
    retries, now = Retries(), 100.0
    assert retries.due(NODES[0], now)
    pauses = []
    for _ in range(10):
        retries.failed(NODES[0], now)
        start = now
        while not retries.due(NODES[0], now):
            now += 10
        pauses.append(now - start)
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]
    retries.worked(NODES[0])
    assert retries.due(NODES[0], now)
    retries.failed(NODES[0], now)
    assert retries.due(NODES[0], now + 10)
