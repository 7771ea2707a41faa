"""Descriptors, contacts and evidence on disk: one SQLite file, `directory.db`.

    meta          key | value                       network, and the time of our newest descriptor
    descriptors   digest | stamp | signed descriptor | check
    convictions   node id | until | stamp, descriptor of each of the two | check
    contacts      contact (core/dht/contact.py)
    evidence      name | first | second

The rollback journal is used, not WAL: there is one connection and writes come in batches, so WAL would gain nothing,
and could not be read from a disk that is full or read-only. `check` is the start of a SHA3-256 over the row: what is
read back was verified before it was written, so it is not verified again, but a disk may have changed it.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from phantomband.core.crypto.kdf import sha3_256
from phantomband.core.errors import UserError
from phantomband.core.ids import NodeId
from phantomband.core.wire import lv32

from phantomband_directory.parts import Batch, Saved, SavedConviction

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE_BYTES = 4096
MAX_PAGES = 65_536
"""256 MiB: more than the limits of pool, convictions and evidence come to, each row rounded up to whole pages."""

MAX_EVIDENCE, MAX_EVIDENCE_BYTES = 256, 32 * 1024 * 1024
"""Rows of evidence, and bytes of all: two votes may have 3 MB. Beyond it more is only counted: a liar must not fill the
disk."""

CHECK_BYTES = 8

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS descriptors (digest BLOB PRIMARY KEY, stamp BLOB NOT NULL, encoded BLOB NOT NULL,
    checked BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS convictions (node BLOB PRIMARY KEY, until REAL NOT NULL, first_stamp BLOB NOT NULL,
    first BLOB NOT NULL, second_stamp BLOB NOT NULL, second BLOB NOT NULL, checked BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS contacts (contact BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS evidence (name TEXT PRIMARY KEY, first BLOB NOT NULL, second BLOB NOT NULL);
"""
TABLES = _SCHEMA.count("CREATE TABLE")


class _DamagedError(sqlite3.DatabaseError):
    """SQLite's own check found something."""


class RecordsDb:
    """The file. Every method may raise OSError when the disk does not do its part; then nothing was changed."""

    def __init__(self, path: Path, network_id: bytes) -> None:
        self._path, self._network_id = path, network_id
        self._db: sqlite3.Connection | None = None
        self._set_asides = 0
        self._checked = False

    def load(self) -> Saved:
        """All that can be read.

        Raises:
            UserError: it belongs to another network.
            OSError: it cannot be read now.
        """
        return self._with(self._load)

    def save(self, batch: Batch) -> bool:
        """Writes a batch in one transaction. Returns: whether the file is a new one, all before is lost."""
        before = self._set_asides
        self._with(lambda db: _write(db, batch))
        return self._set_asides != before

    def save_published(self, published: int) -> None:
        """Remembers the time that our newest descriptor names: no other is ever signed for it."""
        self._with(lambda db: _put_meta(db, "published", str(published).encode()))

    def save_evidence(self, name: str, first: bytes, second: bytes) -> None:
        def write(db: sqlite3.Connection) -> None:
            count, size = db.execute("SELECT count(*), total(length(first) + length(second)) FROM evidence").fetchone()
            if count < MAX_EVIDENCE and size + len(first) + len(second) <= MAX_EVIDENCE_BYTES:
                db.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)", (name, first, second))

        self._with(write)

    def evidence(self) -> dict[str, tuple[bytes, bytes]]:
        """All that is kept, by name."""
        rows = self._with(lambda db: db.execute("SELECT name, first, second FROM evidence").fetchall())
        return {name: (first, second) for name, first, second in rows}

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Does `work` in a transaction. A damaged file is set aside, once, and the work done on a new one."""
        for last in (False, True):
            try:
                if self._db is None:
                    self._db = self._open()
                with self._db:
                    return work(self._db)
            except sqlite3.Error as e:
                self.close()
                if last or not _damaged(e):
                    raise OSError(_errno(e), f"{self._path.name}: {e}") from e
                self._set_aside(e)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=1.0)
        try:
            db.execute("PRAGMA journal_mode = TRUNCATE")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA max_page_count = {MAX_PAGES}")
            self._check(db)
            if db.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone() < (TABLES,):
                self._path.chmod(0o600)
                db.executescript(_SCHEMA)
            network = _meta(db, "network")
            if network is None:
                with db:
                    _put_meta(db, "network", self._network_id)
            elif network != self._network_id:
                raise UserError(f"{self._path}: belongs to another network. Give this node its own state directory.")
        except BaseException:
            db.close()
            raise
        return db

    def _check(self, db: sqlite3.Connection) -> None:
        """Once for each file: it reads all of it."""
        if self._checked:
            return
        if (found := db.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
            raise _DamagedError(f"malformed: {found}")
        self._checked = True

    def _load(self, db: sqlite3.Connection) -> Saved:
        rows = db.execute("SELECT digest, stamp, encoded, checked FROM descriptors").fetchall()
        records = [(stamp, raw) for *_, stamp, raw, _ in filter(_whole, rows)]
        found = db.execute(
            "SELECT node, first_stamp, first, second_stamp, second, checked, until FROM convictions"
        ).fetchall()
        convictions = [
            SavedConviction(float(until), (one_stamp, one), (other_stamp, other))
            for node, one_stamp, one, other_stamp, other, mark, until in found
            if _whole((node, one_stamp, one, other_stamp, other, mark)) and isinstance(until, float | int)
        ]
        contacts = [one for (one,) in db.execute("SELECT contact FROM contacts") if isinstance(one, bytes)]
        published = _meta(db, "published") or b""
        if len(records) < len(rows) or len(convictions) < len(found):
            log.warning("some records on disk are damaged and were left out")
        return Saved(records, convictions, contacts, int(published) if published.isdigit() else -1)

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(self._path.name + ".damaged")
        log.error("%s is damaged (%s); set aside as %s, a new one is made", self._path.name, error, aside.name)
        self._path.with_name(self._path.name + "-journal").unlink(missing_ok=True)
        self._path.replace(aside)
        self._set_asides += 1
        self._checked = False


def _write(db: sqlite3.Connection, batch: Batch) -> None:
    db.executemany("DELETE FROM descriptors WHERE digest = ?", [(digest,) for digest in batch.gone])
    db.executemany(
        "INSERT OR REPLACE INTO descriptors VALUES (?, ?, ?, ?)",
        [(digest, stamp, raw, _mark(digest, stamp, raw)) for digest, (stamp, raw) in batch.descriptors.items()],
    )
    db.executemany("DELETE FROM convictions WHERE node = ?", [(bytes(node),) for node in batch.acquitted])
    db.executemany("INSERT OR REPLACE INTO convictions VALUES (?, ?, ?, ?, ?, ?, ?)", _rows(batch.convicted.items()))
    if batch.contacts is not None:
        db.execute("DELETE FROM contacts")
        db.executemany("INSERT OR IGNORE INTO contacts VALUES (?)", [(contact,) for contact in batch.contacts])


def _rows(convicted: Iterable[tuple[NodeId, SavedConviction]]) -> list[tuple[object, ...]]:
    return [
        (bytes(node), one.until, *one.first, *one.second, _mark(node, *one.first, *one.second))
        for node, one in convicted
    ]


def _meta(db: sqlite3.Connection, key: str) -> bytes | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row is not None and isinstance(row[0], bytes) else None


def _put_meta(db: sqlite3.Connection, key: str, value: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _whole(row: tuple[object, ...]) -> bool:
    """Whether the last column is the mark of the others, as it was when they were written."""
    parts = [part for part in row if isinstance(part, bytes)]
    return len(parts) == len(row) and parts[-1] == _mark(*parts[:-1])


def _mark(*parts: bytes) -> bytes:
    return sha3_256(b"phantomband-directory-row\x00", *map(lv32, parts))[:CHECK_BYTES]


def _damaged(error: sqlite3.Error) -> bool:
    """Whether the file is to blame, not the disk or its room."""
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_ERROR)
    return isinstance(error, _DamagedError) or _code(error) in codes


def _errno(error: sqlite3.Error) -> int:
    return {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}.get(_code(error), errno.EIO)


def _code(error: sqlite3.Error) -> int:
    """Of SQLite, without its details; 0 if it is an error of the module's."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
