"""What is on disk: records that come back, disks that are full or read-only, files that are damaged."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.core.netdir import replies, requests
from phantomband.core.netdir.pool import DescriptorPool
from phantomband.core.netdir.voting_events import BallotKind, Broadcast, Evidence, FetchView, Memory, Remember
from phantomband_directory import records_db
from phantomband_directory.parts import Batch, Saved, SavedConviction
from phantomband_directory.records_db import RecordsDb
from phantomband_directory.storage import Storage
from phantomband_directory.store import FileStore

NETWORK = b"n" * 32
NODE = NodeId(b"i" * 32)
BATCH = Batch(
    descriptors={b"d1": (b"", b"one"), b"d2": (b"stamp", b"two")},
    convicted={NODE: SavedConviction(7.5, (b"", b"a"), (b"s", b"b"))},
    contacts=(b"c1", b"c2"),
)


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    db = RecordsDb(path, NETWORK)
    assert db.load() == Saved()
    assert db.save(BATCH) is False
    db.save_published(99)
    db.save_evidence("VOTE-3-9", b"x", b"y")
    db.save_evidence("VOTE-3-9", b"z", b"z")
    db.close()
    assert path.stat().st_mode & 0o077 == 0
    again = RecordsDb(path, NETWORK)
    found = again.load()
    assert sorted(found.descriptors) == [(b"", b"one"), (b"stamp", b"two")]
    assert found.convictions == [BATCH.convicted[NODE]]
    assert sorted(found.contacts) == [b"c1", b"c2"]
    assert found.published == 99
    assert again.evidence() == {"VOTE-3-9": (b"x", b"y")}
    again.save(Batch(gone={b"d1"}, acquitted={NODE}))
    found = again.load()
    assert (found.descriptors, found.convictions, sorted(found.contacts)) == ([(b"stamp", b"two")], [], [b"c1", b"c2"])
    again.save(Batch(contacts=()))
    assert again.load().contacts == []
    with pytest.raises(UserError, match="another network"):
        RecordsDb(path, b"m" * 32).load()


def test_evidence_on_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_db, "MAX_EVIDENCE", 5)
    db = RecordsDb(tmp_path / "directory.db", NETWORK)
    for index in range(9):
        db.save_evidence(f"vote-{index}", b"x", b"y")
    assert len(db.evidence()) == 5


@pytest.mark.parametrize("damage", ["junk", "middle", "empty", "schema"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "directory.db"
    db = RecordsDb(path, NETWORK)
    db.save(replace(BATCH, descriptors={bytes([i]) * 8: (b"", bytes([i]) * 3000) for i in range(200)}))
    db.close()
    raw = bytearray(path.read_bytes())
    match damage:
        case "junk":
            path.write_bytes(b"this is no database" * 1000)
        case "middle":
            raw[8192:200_000] = os.urandom(200_000 - 8192)
            path.write_bytes(raw)
        case "empty":
            path.write_bytes(b"")
        case "schema":
            path.unlink()
            with sqlite3.connect(path) as other:
                for name in ("meta", "descriptors", "convictions", "contacts", "evidence"):
                    other.execute(f"CREATE TABLE {name} (x)")
    again = RecordsDb(path, NETWORK)
    assert again.load() == Saved()
    again.save(BATCH)
    assert len(again.load().descriptors) == 2
    if damage != "empty":
        assert (tmp_path / "directory.db.damaged").exists()
        assert "set aside" in caplog.text


def test_a_file_damaged_while_in_use_is_written_whole_again(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    db = RecordsDb(path, NETWORK)
    db.save(BATCH)
    db.close()
    path.write_bytes(b"this is no database" * 1000)
    assert db.save(Batch(contacts=(b"c",))) is True, "the caller must save all anew"
    assert db.load() == Saved([], [], [b"c"], -1)


def test_a_row_that_the_disk_changed_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "directory.db"
    db = RecordsDb(path, NETWORK)
    db.save(BATCH)
    db.close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE descriptors SET encoded = ? WHERE digest = ?", (b"tw0", b"d2"))
        other.execute("UPDATE convictions SET second = 7")
        other.execute("INSERT INTO contacts VALUES ('text')")
        other.execute("INSERT INTO meta VALUES ('published', x'ff')")
    found = RecordsDb(path, NETWORK).load()
    assert found.descriptors == [(b"", b"one")]
    assert found.convictions == []
    assert sorted(found.contacts) == [b"c1", b"c2"]
    assert found.published == -1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_and_mends(small_disk: Path) -> None:
    store = FileStore(small_disk / "state", NETWORK)
    store.save_records(BATCH)
    store.save_memory(Memory((1,), ((1, b"d" * 32),)))
    with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError) as full:
        while True:
            filler.write(bytes(512))
    assert full.value.errno == errno.ENOSPC
    big = Batch(descriptors={bytes([i]) * 8: (b"", os.urandom(4000)) for i in range(20)})
    with pytest.raises(OSError, match=r"directory\.db") as full:
        store.save_records(big)
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as full:
        store.save_memory(Memory((2,), ((2, b"e" * 32),)))
    assert full.value.errno == errno.ENOSPC
    assert store.load_memory() == Memory((1,), ((1, b"d" * 32),)), "reads go on"
    assert len(store.load_records().descriptors) == 2
    (small_disk / "filler").unlink()
    store.save_records(big)
    store.save_memory(Memory((2,), ((2, b"e" * 32),)))
    assert len(FileStore(small_disk / "state", NETWORK).load_records().descriptors) == 22


def test_a_read_only_disk_is_read(small_disk: Path) -> None:
    before = RecordsDb(small_disk / "state" / "directory.db", NETWORK)
    (small_disk / "state").mkdir()
    before.save(BATCH)
    before.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store = FileStore(small_disk / "state", NETWORK)
    assert len(store.load_records().descriptors) == 2
    with pytest.raises(OSError) as refused:
        store.save_records(Batch(contacts=()))
    assert refused.value.errno == errno.EROFS
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    store.save_records(Batch(contacts=()))
    assert store.load_records().contacts == []


def test_what_is_not_remembered_is_not_sent(network_of: Any) -> None:
    store = network_of(1).node(0).store
    storage = Storage(store, DescriptorPool())
    vote, echo, share = (Broadcast(kind, b"") for kind in (BallotKind.VOTE, BallotKind.ECHO, BallotKind.SIGNATURE))
    fetch = FetchView(1)
    assert list(storage.sendable([Remember(Memory((1,))), vote, echo])) == [vote, echo]
    store.full = True
    assert list(storage.sendable([Remember(Memory((2,))), vote, fetch, echo])) == [fetch]
    assert not storage.may_vote
    assert "No space left" in storage.problem
    assert list(storage.sendable([Remember(Memory((2,), ((2, b"d" * 32),))), share])) == []
    evidence = Evidence(1, BallotKind.VOTE, b"a", b"b")
    assert list(storage.sendable([evidence])) == [evidence]
    store.full = False
    assert list(storage.sendable([])) == [vote, echo, share]
    assert store.memory == Memory((2,), ((2, b"d" * 32),)), "all is remembered before any of it is sent"
    assert storage.may_vote
    assert storage.problem == ""


def test_a_directory_with_a_full_disk_reads_on_and_votes_again_when_there_is_room(
    network_of: Any, virtual: Any
) -> None:
    async def main() -> None:
        network = network_of(4)
        network.start(*range(6))
        await network.run_to(11)
        store, service = network.nodes[2].store, network.nodes[2].service
        before, written = store.memory, len(store.writes)
        store.full = True
        network.calls.clear()
        await network.run_to(13)
        ballots = {requests.Kind.VOTE, requests.Kind.ECHO, requests.Kind.SIGNATURE}
        assert not [call for call in network.calls if call[0] == 2 and call[2] in ballots]
        assert (store.memory, len(store.writes)) == (before, written)
        status = service.status()
        assert "No space left" in status.storage
        assert status.view_epoch >= 12, "it takes the view that the others have certified"
        vote = requests.encode_request(requests.GetVotes(13, ()))
        assert replies.decode_reply_untrusted(service.answer(vote, b"")) == replies.Votes(())
        store.full = False
        await network.run_to(15)
        assert [call for call in network.calls if call[0] == 2 and call[2] in ballots]
        assert service.status().storage == ""
        assert store.memory.signed_epoch == 15
        assert set(network.view_epochs().values()) <= {14, 15}

    virtual(main())


def test_batches_not_single_records(network_of: Any, virtual: Any) -> None:
    async def main() -> None:
        network = network_of(1)
        saves: list[Batch] = []
        store = network.node(0).store
        save = store.save_records

        def counted(batch: Batch) -> bool:
            saves.append(batch)
            return bool(save(batch))

        store.save_records = counted
        network.start(0, *range(1, 20))
        await asyncio.sleep(5)
        assert sum(len(batch.descriptors) for batch in saves) == 20
        assert len(saves) <= 3

    virtual(main())


def test_the_pool_is_written_whole_again_after_a_loss(network_of: Any, virtual: Any, tmp_path: Path) -> None:
    async def main() -> None:
        network = network_of(1)
        network.start(0, 1, 2)
        await network.run_to(3)
        pool = network.nodes[0].service._pool
        storage = Storage(FileStore(tmp_path / "state", NETWORK), pool)
        pool._changes.added |= set(pool.digests())
        storage.flush()
        path = tmp_path / "state" / "directory.db"
        assert len(FileStore(tmp_path / "state", NETWORK).load_records().descriptors) == 3
        storage._store._records.close()
        path.write_bytes(b"this is no database" * 1000)
        storage.flush((b"c",))
        assert len(FileStore(tmp_path / "state", NETWORK).load_records().descriptors) == 3

    virtual(main())
