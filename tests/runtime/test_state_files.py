"""State survives a full disk and a damaged file; what cannot be written ends nobody."""

from __future__ import annotations

import asyncio
import errno
import json
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import UserError
from phantomband.runtime import state_files
from phantomband.runtime.keystore import write_whole
from phantomband.runtime.state_files import COPY, RETRY_SECONDS, StateFiles
from virtual import run_virtual


class Disk:
    """Writes while there is room; counts attempts."""

    def __init__(self) -> None:
        self.full = False
        self.attempts = 0

    def write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        self.attempts += 1
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_whole(path, data, mode)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(state_files, "write_whole", disk.write)
    return disk


def test_what_is_written_is_read(tmp_path: Path, disk: Disk) -> None:
    files = StateFiles(tmp_path)
    files.write("a", b"[1]")
    files.write("b", b"[2]", copy=True)
    assert files.read("a", json.loads) == [1]
    assert files.read("b", json.loads, copy=True) == [2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "b" + COPY]
    assert files.read("c", json.loads) is None
    assert files.read("c", json.loads, copy=True) is None
    assert not files.problem


def test_a_full_disk_is_said_and_what_is_newest_is_written_once_there_is_room(tmp_path: Path, disk: Disk) -> None:
    async def main() -> None:
        files = StateFiles(tmp_path)
        files.write("a", b"old")
        keeping = asyncio.ensure_future(files.keep())
        disk.full = True
        for i in range(50):
            files.write("a", b"new %d" % i)
        files.write("b", b"other", copy=True)
        assert "No space left" in files.problem
        assert "Make room" in files.problem
        before = disk.attempts
        await asyncio.sleep(3600)
        assert disk.attempts - before <= 3600 / RETRY_SECONDS[1] + 10, "later and later"
        assert (tmp_path / "a").read_bytes() == b"old"
        disk.full = False
        await asyncio.sleep(RETRY_SECONDS[1] + 1)
        assert [(tmp_path / n).read_bytes() for n in ("a", "b", "b" + COPY)] == [b"new 49", b"other", b"other"]
        assert not files.problem
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    run_virtual(main())


def test_half_a_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    StateFiles(tmp_path).write("a", b"old")
    monkeypatch.setattr("os.fsync", fail)
    StateFiles(tmp_path).write("a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[" * 100_000, b"\xff", bytes(9)])
def test_of_a_damaged_file_the_copy_is_used_and_put_back(tmp_path: Path, damage: bytes) -> None:
    files = StateFiles(tmp_path)
    files.write("a", b"[7]", copy=True)
    (tmp_path / "a").write_bytes(damage)
    assert files.read("a", json.loads, copy=True) == [7]
    assert (tmp_path / "a").read_bytes() == b"[7]"
    (tmp_path / ("a" + COPY)).write_bytes(damage)
    assert files.read("a", json.loads, copy=True) == [7]
    (tmp_path / "a").write_bytes(damage)
    with pytest.raises(UserError, match=r"is damaged.*removing"):
        files.read("a", json.loads, copy=True)


@pytest.mark.parametrize("damage", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_what_can_be_had_again_is_had_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a").write_bytes(damage)
    assert StateFiles(tmp_path).read("a", json.loads) is None
    (tmp_path / "b").mkdir()
    assert StateFiles(tmp_path).read("b", json.loads) is None


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        StateFiles(tmp_path).read("a", json.loads, copy=True)


def test_a_file_of_any_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_files, "MAX_STATE_BYTES", 10)

    def whole(data: bytes) -> Any:
        return len(data)

    (tmp_path / "a").write_bytes(bytes(11))
    assert StateFiles(tmp_path).read("a", whole) is None
    (tmp_path / "a").write_bytes(bytes(10))
    assert StateFiles(tmp_path).read("a", whole) == 10
