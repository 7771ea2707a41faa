"""The service's files: identity, newest view, what was voted and signed, and the records.

    identity            64 bytes, secret, mode 0600
    view                certified view (core/netdir/certified.py)
    memory.json         {"network": hex, "voted": [n], "voted_to": n, "signed": [[n, hex]], "signed_to": n}; older files
                        have {"network", "voted_epoch", "signed_epoch", "signed_digest"}
    changes             (length 4 | change of the directory set) *
    directory.db        descriptors, contacts, evidence (records_db.py)

A write of the first three goes to a new file, is flushed to disk and then takes the old one's name: a crash leaves one
or the other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import IDENTITY_PRIVATE_BYTES, IdentityKey
from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES
from phantomband.core.netdir.changes import MAX_CHANGE_BYTES
from phantomband.core.netdir.descriptor import SUCCESSION_BYTES
from phantomband.core.netdir.voting_events import Memory
from phantomband.core.wire import Reader, lv32
from phantomband.runtime.keystore import load_or_create, write_whole
from phantomband.runtime.state_files import DAMAGE

from phantomband_directory.parts import Batch, Saved
from phantomband_directory.records_db import RecordsDb

SUCCESSION_FILE = "succession"


def load_or_create_identity(path: Path, random: RandomSource) -> IdentityKey:
    """The node's identity key; made, with mode 0600, when there is none.

    Raises:
        UserError: the file cannot be used; says what to do.
    """
    return IdentityKey(load_or_create(path, IDENTITY_PRIVATE_BYTES, random))


def load_succession(home: Path) -> bytes:
    """What the node's previous identity signed, if there was one and it was replaced (`phantomband node
    renew-identity`); else empty.

    Raises:
        UserError: the file is damaged.
    """
    path = home / SUCCESSION_FILE
    if not path.exists():
        return b""
    succession = path.read_bytes()
    if len(succession) != SUCCESSION_BYTES:
        raise UserError(f"{path}: damaged. Restore it, or remove it: the node then begins as a newcomer.")
    return succession


class FileStore:
    """`parts.Store` in one directory."""

    def __init__(self, directory: Path, network_id: bytes) -> None:
        self._directory, self._network_id = directory, network_id
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._records = RecordsDb(directory / "directory.db", network_id)

    def load_view(self) -> bytes | None:
        return self._read("view", MAX_CERTIFIED_BYTES)

    def save_view(self, certified: bytes) -> None:
        write_whole(self._directory / "view", certified)

    def load_memory(self) -> Memory:
        """What was voted and signed last.

        Raises:
            UserError: the file is damaged: forgetting could make this directory sign twice.
        """
        raw = self._read("memory.json", 64 * 1024)
        if raw is None:
            return Memory()
        path = self._directory / "memory.json"
        try:
            data = json.loads(raw)
            network = bytes.fromhex(data["network"])
            memory = _memory_of(data)
        except DAMAGE as e:
            remedy = "Restore it from a backup, or remove it once the present epoch is over."
            raise UserError(f"{path}: damaged. {remedy}") from e
        if network != self._network_id:
            raise UserError(f"{path}: belongs to another network. Give this node its own state directory.")
        return memory

    def save_memory(self, memory: Memory) -> None:
        data = {
            "network": self._network_id.hex(),
            "voted": list(memory.voted),
            "voted_to": memory.voted_to,
            "signed": [[epoch, digest.hex()] for epoch, digest in memory.signed],
            "signed_to": memory.signed_to,
        }
        write_whole(self._directory / "memory.json", json.dumps(data).encode())

    def load_records(self) -> Saved:
        return self._records.load()

    def save_records(self, batch: Batch) -> bool:
        return self._records.save(batch)

    def save_published(self, published: int) -> None:
        self._records.save_published(published)

    def load_changes(self) -> list[bytes]:
        """Those that were kept, in their order.

        Raises:
            UserError: the file is damaged.
        """
        reader, found = Reader(self._read("changes", 2**28) or b""), list[bytes]()
        try:
            while reader.remaining:
                found.append(reader.lv32(MAX_CHANGE_BYTES))
        except Malformed as e:
            raise UserError(f"{self._directory / 'changes'}: damaged. Remove it: others have the changes.") from e
        return found

    def save_changes(self, changes: list[bytes]) -> None:
        write_whole(self._directory / "changes", b"".join(map(lv32, changes)))

    def save_evidence(self, name: str, first: bytes, second: bytes) -> None:
        self._records.save_evidence(name, first, second)

    def _read(self, name: str, limit: int) -> bytes | None:
        path = self._directory / name
        try:
            with path.open("rb") as file:
                return file.read(limit)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise UserError(f"{path}: cannot read: {e.strerror}. Check its owner and mode.") from e


def _memory_of(data: dict[str, Any]) -> Memory:
    """Raises: one of DAMAGE: it is none."""
    if "voted_epoch" in data:
        voted, signed = int(data["voted_epoch"]), int(data["signed_epoch"])
        digest = bytes.fromhex(data["signed_digest"])
        return Memory((voted,) if voted else (), ((signed, digest),) if signed else ())
    signed_views = tuple(sorted((int(epoch), bytes.fromhex(digest)) for epoch, digest in data["signed"]))
    voted_epochs = tuple(sorted(int(epoch) for epoch in data["voted"]))
    return Memory(voted_epochs, signed_views, int(data["voted_to"]), int(data["signed_to"]))
