"""What the directory may hold adds up below its file and its container, and honest newcomers are saved."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES
from phantomband.core.netdir.newcomers import MAX_NEWCOMER_BYTES
from phantomband.core.netdir.pool import MAX_CONVICTED, MAX_POOL_BYTES
from phantomband_directory import records_db
from phantomband_directory.parts import Batch
from phantomband_directory.records_db import MAX_EVIDENCE_BYTES, MAX_PAGES, PAGE_BYTES, RecordsDb
from phantomband_directory.table_driver import MAX_RECORDS
from phantomband_directory.view_archive import KEPT, KEPT_SMALL, SMALL_BYTES

MIB = 1024 * 1024
LEAST_DESCRIPTOR = 5600
BASE_BYTES = 70 * MIB
"""A directory that holds nothing: Python, gRPC, the core (measured)."""

IN_MEMORY = 2.0
"""Bytes of memory for one of an encoded descriptor: it, its fields, its object (measured: 1.7 to 1.9)."""


def test_the_file_has_room_for_all_that_may_be_held() -> None:
    held = MAX_POOL_BYTES + MAX_NEWCOMER_BYTES
    rows = held / LEAST_DESCRIPTOR + 2 * MAX_CONVICTED + 256
    pages = (held + 2 * MAX_CONVICTED * MAX_DESCRIPTOR_BYTES + MAX_EVIDENCE_BYTES) / PAGE_BYTES + 2 * rows
    assert pages < 0.75 * MAX_PAGES, "a page begun for each row, and one of index for each"


def test_all_that_may_be_held_fits_the_container() -> None:
    compose = (Path(__file__).parents[3] / "compose.yaml").read_text()
    limits = [int(size) for size in re.findall(r"mem_limit: (\d+)m", compose)]
    held = IN_MEMORY * (MAX_POOL_BYTES + MAX_NEWCOMER_BYTES + MAX_CONVICTED * MAX_DESCRIPTOR_BYTES / 4)
    table = MAX_RECORDS * LEAST_DESCRIPTOR
    archive = max(KEPT * MAX_CERTIFIED_BYTES, KEPT_SMALL * SMALL_BYTES)
    assert BASE_BYTES + held + table + archive < min(limits) * MIB


def test_honest_newcomers_are_saved_when_all_is_full(tmp_path: Path, monkeypatch: Any) -> None:
    """The same file a hundredth as large, with as much in it as pool and evidence may come to."""
    monkeypatch.setattr(records_db, "MAX_PAGES", MAX_PAGES // 100)
    monkeypatch.setattr(records_db, "MAX_EVIDENCE_BYTES", MAX_EVIDENCE_BYTES // 100)
    db = RecordsDb(tmp_path / "directory.db", b"n" * 32)
    for index in range(300):
        db.save_evidence(f"VOTE-{index}", os.urandom(15_000), os.urandom(15_000))
    assert sum(len(one) + len(other) for one, other in db.evidence().values()) <= MAX_EVIDENCE_BYTES // 100
    count = (MAX_POOL_BYTES + MAX_NEWCOMER_BYTES) // 100 // LEAST_DESCRIPTOR
    held = [os.urandom(32) for _ in range(count)]
    db.save(Batch({digest: (b"", os.urandom(LEAST_DESCRIPTOR)) for digest in held}))
    for turn in range(300):
        new = os.urandom(32)
        gone = {held[turn % count]}
        held[turn % count] = new
        db.save(Batch({new: (b"", os.urandom(LEAST_DESCRIPTOR))}, gone))
    db.save_published(7)
    assert len(db.load().descriptors) == count
