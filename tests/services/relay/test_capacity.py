"""What a relay says it can carry: the most of the last day, coarse, kept over a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband_relay.capacity import HOUR_SECONDS, SPAN_SECONDS, Capacity, rounded


class Clock:
    now = 500_000 * HOUR_SECONDS

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def carry(capacity: Capacity, clock: Clock, came: int, went: int, seconds: float = SPAN_SECONDS) -> None:
    capacity.came(came)
    capacity.went(went)
    clock.now += seconds
    capacity.end_span()


def test_the_most_of_any_span_and_the_greater_direction(tmp_path: Path, clock: Clock) -> None:
    capacity = Capacity(tmp_path / "c", clock)
    assert capacity.most == 0
    carry(capacity, clock, 10_240, 5)
    assert capacity.most == 1024
    carry(capacity, clock, 7, 20_480)
    assert capacity.most == 2048
    carry(capacity, clock, 100, 100)
    assert capacity.most == 2048


def test_a_span_that_took_longer_counts_as_little_as_it_was(tmp_path: Path, clock: Clock) -> None:
    capacity = Capacity(tmp_path / "c", clock)
    carry(capacity, clock, 1024 * 100, 0, seconds=100)
    assert capacity.most == 1024


def test_after_a_day_it_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    capacity = Capacity(tmp_path / "c", clock)
    carry(capacity, clock, 10_240, 0)
    clock.now += 24 * HOUR_SECONDS - SPAN_SECONDS
    capacity.end_span()
    carry(capacity, clock, 5120, 0)
    assert capacity.most == 1024
    clock.now += HOUR_SECONDS
    capacity.end_span()
    assert capacity.most == 512
    carry(capacity, clock, 5120, 0)
    assert capacity.most == 512


def test_a_restart_remembers_and_a_new_hour_is_on_disk_at_once(tmp_path: Path, clock: Clock) -> None:
    capacity = Capacity(tmp_path / "c", clock)
    capacity.save()
    assert not (tmp_path / "c").exists(), "nothing to say"
    carry(capacity, clock, 10_240, 0)
    clock.now += HOUR_SECONDS
    carry(capacity, clock, 20, 0)
    assert Capacity(tmp_path / "c", clock).most == 1024
    carry(capacity, clock, 40_960, 0)
    capacity.save()
    assert Capacity(tmp_path / "c", clock).most == 4096
    clock.now += 26 * HOUR_SECONDS
    assert Capacity(tmp_path / "c", clock).most == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hours": 3}', '{"hours": [[1]]}', '{"hours": [["x", 1]]}'])
def test_a_broken_file_is_as_none(tmp_path: Path, clock: Clock, text: str) -> None:
    (tmp_path / "c").write_text(text)
    assert Capacity(tmp_path / "c", clock).most == 0


def test_a_disk_that_cannot_be_written_is_no_fault(tmp_path: Path, clock: Clock) -> None:
    capacity = Capacity(tmp_path / "absent" / "c", clock)
    carry(capacity, clock, 10_240, 0)
    capacity.save()
    assert capacity.most == 1024


def test_what_is_said_is_coarse() -> None:
    assert [rounded(v) for v in (0, 1, 7, 15, 16, 17, 1000, 1023, 1024, 123_456_789)] == [
        0, 1, 7, 15, 16, 16, 960, 960, 1024, 117_440_512,
    ]  # fmt: skip
    for value in range(1, 5000, 7):
        assert value * 7 / 8 <= rounded(value) <= value
