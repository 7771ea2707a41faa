"""Secrets of transports in files: mode 0600, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from phantomband.core.errors import UserError


def load_or_create(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in `path`; what `make` gives if there is no such file, which is then written.

    Raises:
        UserError: others may read the file.
    """
    if not path.exists():
        _write(path, make())
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path}: others may read this key. Run: chmod 600 {path}")
    return path.read_bytes()


def _write(path: Path, secret: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as f:
        f.write(secret)
        f.flush()
        os.fsync(f.fileno())
    part.rename(path)
