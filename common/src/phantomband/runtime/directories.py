"""The directories that a program keeps its state and sockets in: its own, closed to others, used by one at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phantomband.core.errors import UserError

LOCK_FILE = "lock"
"""In the directory: `pid N, DETAILS` of who holds it. It is never removed: a second file of this name is no lock."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.EOPNOTSUPP})
"""Why a lock may be lacking although the directory can be used: a full disk, a file system without locks."""


def make_private(directory: Path) -> Path:
    """The directory, made with mode 0700 if absent, closed to others if it is ours and they could only read it.

    A directory that others own or may write to is refused: they could put keys, guards or sockets of theirs into it.
    One of root's is taken where only root and our own group may write to it, or where it is a mount of our group's
    (a volume of a pod).

    Raises:
        UserError: it cannot be made, or is not ours alone.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as e:
        raise UserError(f"{directory}: cannot be made ({e.strerror}). Choose a directory that you may write") from None
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        group = found.st_gid == os.getegid() and (not mode & 0o002 or directory.is_mount())
        if found.st_uid == 0 and (group or not mode & 0o022):
            return directory
        raise UserError(f"{directory}: belongs to another user. Choose a directory of your own, or chown it")
    if mode & 0o022:
        raise UserError(
            f"{directory}: others may write to it (mode {mode:04o}). Look who put what there, then run: "
            f"chmod 700 {directory}"
        )
    if mode & 0o077:
        try:
            directory.chmod(0o700)
        except OSError as e:
            raise UserError(f"{directory}: cannot be closed to others ({e.strerror}). Choose another one") from None
    return directory


@contextmanager
def held(directory: Path, who: str, details: str = "") -> Iterator[None]:
    """Holds the directory for this process, until the end of the block or of the process.

    Args:
        who: what kind of program we are, `client`.
        details: told to a second one, by which a person finds us.

    Raises:
        UserError: another process holds it, or it cannot be written to.
    """
    path = directory / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        if e.errno not in NO_ROOM:
            raise UserError(
                f"{directory}: cannot be written to ({e.strerror}). Choose a directory that you may write"
            ) from None
        yield
        return
    try:
        _lock(handle, directory, who)
        _describe(handle, f"pid {os.getpid()}{details and f', {details}'}")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, directory: Path, who: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(handle, 200).decode("utf-8", "replace").strip()
        raise UserError(
            f"{directory}: a {who} ({other or 'pid unknown'}) already uses this directory. Stop it, or choose another "
            "directory for this one"
        ) from None
    except OSError as e:
        if e.errno not in NO_ROOM:
            raise UserError(f"{directory / LOCK_FILE}: cannot be locked ({e.strerror}). Choose another place") from None


def _describe(handle: int, text: str) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError:
        return  # a full disk: the lock holds all the same
