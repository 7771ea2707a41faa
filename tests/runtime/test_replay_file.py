"""The file of a replay memory: kept over restarts, left out when it cannot be read, never in the way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from phantomband.core.errors import Forged
from phantomband.core.handshake.replay import ReplayCache
from phantomband.runtime import replay_file
from phantomband.runtime.replay_file import SAVE_SECONDS, ReplayFile
from virtual import run_virtual

KEY = b"k" * 32


def test_a_restart_does_not_forget(tmp_path: Path) -> None:
    path = tmp_path / "relay" / "replay"
    before = ReplayCache()
    kept = ReplayFile(path, before)
    before.add_untrusted(KEY, b"12345678")
    kept.save()
    assert path.stat().st_mode & 0o777 == 0o600
    after = ReplayCache()
    assert ReplayFile(path, after).lost == 0
    with pytest.raises(Forged):
        after.add_untrusted(KEY, b"12345678")


def test_it_is_written_while_the_service_runs_when_there_is_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(work: object, *given: object) -> object:
        return work(*given)  # type: ignore[operator]

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    path = tmp_path / "replay"

    async def main() -> None:
        cache = ReplayCache()
        running = asyncio.ensure_future(ReplayFile(path, cache).run())
        await asyncio.sleep(SAVE_SECONDS + 1)
        assert not path.exists()
        cache.add_untrusted(KEY, b"12345678")
        await asyncio.sleep(SAVE_SECONDS)
        assert path.exists()
        running.cancel()

    run_virtual(main())


@pytest.mark.parametrize("data", [b"", b"\7", b"\1" + b"x" * 50])
def test_a_damaged_file_is_left_out(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "replay"
    path.write_bytes(data)
    cache = ReplayCache()
    assert ReplayFile(path, cache).lost == 1
    assert len(cache) == 0


def test_a_disk_that_takes_nothing_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReplayCache()
    kept = ReplayFile(tmp_path / "replay", cache)
    cache.add_untrusted(KEY, b"12345678")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(replay_file, "write_whole", full)
        kept.save()
    assert kept.lost == 1
    kept.save()
    assert (tmp_path / "replay").exists()
