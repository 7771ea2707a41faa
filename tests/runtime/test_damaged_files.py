"""Whatever stands in a file of ours, its reader makes of it values, nothing, or an error for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from phantomband.core.errors import UserError
from phantomband_cli.pt import obfs4_state
from phantomband_directory.store import FileStore
from phantomband_relay.capacity import Capacity

DAMAGED = (
    b"", b"\xff", b"[]", b"7", b"null", b'"text"', b"[" * 50_000, b'{"a":' * 10_000, b"1" * 5000,
    b'{"network": "' + b"00" * 32 + b'", "voted": [1e999], "signed": [], "voted_to": 0, "signed_to": 0}',
    b'{"network": 5}', b'{"network": "00", "voted_epoch": {}}', b'{"hours": [[1e999, 1]]}', b'{"hours": [[1, {}]]}',
    b'{"hours": 1}', b'{"node-id": []}', b'{"iat-mode": {}}',
)  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: data[:20].decode("latin-1"))
def test_no_damaged_file_is_a_traceback_at_the_start(tmp_path: Path, data: bytes) -> None:
    for name in ("memory.json", "capacity", obfs4_state.STATE_FILE):
        (tmp_path / name).write_bytes(data)
    store = FileStore.__new__(FileStore)
    store._directory, store._network_id = tmp_path, bytes(32)
    with pytest.raises(UserError, match="damaged"):
        store.load_memory()
    assert Capacity(tmp_path / "capacity", lambda: 0.0).most == 0
    with pytest.raises(UserError):
        obfs4_state.load(tmp_path, {}, bytes)
