"""Secret keys in files: mode 0600 in a directory of mode 0700, written whole or not at all.

Each service keeps its own directory, so that in containers none can read another's. The node id, which is public,
stands in the sockets' directory for all of them.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Malformed, UserError
from phantomband.core.ids import NodeId
from phantomband.runtime.directories import make_private

NODE_ID_FILE = "node_id"
WAIT_SECONDS = 30.0
"""How long a service waits for its node's directory to say who the node is."""


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces `path` by `data` atomically: both are on disk when it returns, and a crash leaves the old or the new."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)  # or half a file would take the room that is lacking
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


ZEROED = bytes(16)
"""So many zeros in a row are in no key that was drawn. After a power cut a file system may give a file its
size, and zeros for bytes; taken as a key, it would be one that everybody knows."""


def load_or_create(path: Path, size: int, random: RandomSource) -> bytes:
    """The secret in `path`; a new one of `size` random bytes if there is no such file.

    Raises:
        UserError: others may read the file, or it is not a key of ours, or it is damaged.
    """
    make_private(path.parent)
    if not path.exists():
        write_whole(path, random(size))
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path}: others may read this key. Run: chmod 600 {path}")
    secret = path.read_bytes()
    if len(secret) != size:
        raise UserError(f"{path}: has {len(secret)} bytes, a key has {size}. Restore it, or remove it for a new one")
    if ZEROED in secret:
        raise UserError(f"{path}: is damaged, zeros stand in it. Restore it, or remove it for a new one")
    return secret


def publish_node_id(sockets: Path, node_id: NodeId) -> None:
    """Tells the node's other services who the node is."""
    make_private(sockets)
    write_whole(sockets / NODE_ID_FILE, str(node_id).encode())


def forget_node_id(sockets: Path) -> None:
    """Before a node's services start together: if its identity was replaced meanwhile, the others would else find the
    old id before the directory has written the new one, and answer for a node that is no more."""
    with suppress(OSError):
        (sockets / NODE_ID_FILE).unlink()


def wait_node_id(sockets: Path) -> NodeId:
    """The node's id, as soon as its directory service has written it. A damaged one is as none: it is written anew.

    Raises:
        UserError: it has not come within 30 s.
    """
    path = sockets / NODE_ID_FILE
    end = time.monotonic() + WAIT_SECONDS
    while (node_id := _node_id(path)) is None:
        if time.monotonic() > end:
            raise UserError(f"{path}: still missing or damaged. Start the directory service of this node")
        time.sleep(0.02)
    return node_id


def _node_id(path: Path) -> NodeId | None:
    """What stands in the file, if it is a node's id."""
    try:
        return NodeId.parse(path.read_text().strip())
    except (FileNotFoundError, UnicodeDecodeError, Malformed):
        return None
