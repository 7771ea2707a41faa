"""The service's files: identity, newest view, what was voted and signed, descriptors, evidence.

    identity            64 bytes, secret, mode 0600
    view                certified view (core/netdir/certified.py)
    memory.json         {"network": hex, "voted_epoch": n, "signed_epoch": n, "signed_digest": hex}
    descriptors         (length 4 | signed descriptor) *
    evidence/<name>     length 4 | first | length 4 | second

Every write goes to a new file, is flushed to disk and then takes the old one's name: a crash leaves one or
the other.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.crypto.sign import IDENTITY_PRIVATE_BYTES, IdentityKey
from phantomband.core.errors import Malformed, UserError
from phantomband.core.netdir.certified import MAX_CERTIFIED_BYTES
from phantomband.core.netdir.descriptor import MAX_DESCRIPTOR_BYTES
from phantomband.core.netdir.voting_events import Memory
from phantomband.core.wire import Reader, lv32
from phantomband.runtime.keystore import load_or_create, write_whole

MAX_EVIDENCE_FILES = 256
"""Evidence beyond this is only counted: a liar must not fill the disk."""


def load_or_create_identity(path: Path, random: RandomSource) -> IdentityKey:
    """The node's identity key; made, with mode 0600, when there is none.

    Raises:
        UserError: the file cannot be used; says what to do.
    """
    return IdentityKey(load_or_create(path, IDENTITY_PRIVATE_BYTES, random))


class FileStore:
    """`parts.Store` in one directory."""

    def __init__(self, directory: Path, network_id: bytes) -> None:
        self._directory, self._network_id = directory, network_id
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def load_view(self) -> bytes | None:
        return self._read("view", MAX_CERTIFIED_BYTES)

    def save_view(self, certified: bytes) -> None:
        write_whole(self._directory / "view", certified)

    def load_memory(self) -> Memory:
        """What was voted and signed last.

        Raises:
            UserError: the file is damaged: forgetting could make this directory sign twice.
        """
        raw = self._read("memory.json", 4096)
        if raw is None:
            return Memory()
        path = self._directory / "memory.json"
        try:
            data = json.loads(raw)
            network = bytes.fromhex(data["network"])
            memory = Memory(int(data["voted_epoch"]), int(data["signed_epoch"]), bytes.fromhex(data["signed_digest"]))
        except (ValueError, KeyError, TypeError) as e:
            remedy = "Restore it from a backup, or remove it once the present epoch is over."
            raise UserError(f"{path}: damaged. {remedy}") from e
        if network != self._network_id:
            raise UserError(f"{path}: belongs to another network. Give this node its own state directory.")
        return memory

    def save_memory(self, memory: Memory) -> None:
        data = {
            "network": self._network_id.hex(),
            "voted_epoch": memory.voted_epoch,
            "signed_epoch": memory.signed_epoch,
            "signed_digest": memory.signed_digest.hex(),
        }
        write_whole(self._directory / "memory.json", json.dumps(data).encode())

    def load_descriptors(self) -> list[bytes]:
        """Those that can be read: nodes will hand theirs in again."""
        reader = Reader(self._read("descriptors", 2**31) or b"")
        found: list[bytes] = []
        try:
            while reader.remaining:
                found.append(reader.lv32(MAX_DESCRIPTOR_BYTES))
        except Malformed:
            pass
        return found

    def save_descriptors(self, descriptors: list[bytes]) -> None:
        write_whole(self._directory / "descriptors", b"".join(map(lv32, descriptors)))

    def save_evidence(self, name: str, first: bytes, second: bytes) -> None:
        folder = self._directory / "evidence"
        folder.mkdir(exist_ok=True, mode=0o700)
        if len(list(folder.iterdir())) < MAX_EVIDENCE_FILES:
            write_whole(folder / re.sub(r"[^a-z0-9-]", "-", name.lower()), lv32(first) + lv32(second))

    def _read(self, name: str, limit: int) -> bytes | None:
        path = self._directory / name
        try:
            with path.open("rb") as file:
                return file.read(limit)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise UserError(f"{path}: cannot read: {e.strerror}. Check its owner and mode.") from e
