"""Where the files of a test network are.

DIR/marker              says that the directory is ours to empty
DIR/lock                held by the supervisor as long as it lives; has its pid and start time
DIR/state.json          what runs (state.py)
DIR/genesis.json
DIR/nodes/NAME/         node.toml, data/
DIR/client/             client.toml, data/
DIR/logs/NAME.log       one for each service, and supervisor.log
RUN/NAME/SERVICE.sock   RUN is short, because the path of a Unix socket has at most 107 bytes
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from phantomband.core.errors import UserError
from phantomband.runtime.directories import make_private

_MARKER = "marker"
_MARKER_TEXT = "A PhantomBand test network. This directory is emptied when the next one starts.\n"

_LONGEST_RUN = 64
"""Bytes of the run directory's path that leave room for NAME/SERVICE and a lane's socket."""


def default_directory() -> Path:
    """`phantomband/testnet` where this user's programs keep their state."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "phantomband" / "testnet"


def demo_directory() -> Path:
    """Where `demo` has its network, beside that of `testnet up`."""
    return default_directory().with_name("demo")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one test network."""

    root: Path

    @classmethod
    def at(cls, directory: Path | None) -> Layout:
        return cls((directory or default_directory()).expanduser().absolute())

    @property
    def flag(self) -> str:
        """What commands need to mean this network: nothing if it is where they look anyway."""
        return "" if self.root == default_directory().absolute() else f" --dir {self.root}"

    @property
    def run(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        if runtime and len(os.fsencode(runtime)) < _LONGEST_RUN - 12 and Path(runtime).is_dir():
            return Path(runtime) / f"pb-{digest}"
        return Path(f"/tmp/pb-{os.getuid()}-{digest}")  # noqa: S108 - made with mode 0700, its owner is checked

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def genesis(self) -> Path:
        return self.root / "genesis.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def node(self, name: str) -> Path:
        return self.root / "nodes" / name

    def node_config(self, name: str) -> Path:
        return self.node(name) / "node.toml"

    @property
    def client(self) -> Path:
        return self.root / "client"

    @property
    def client_config(self) -> Path:
        return self.client / "client.toml"

    @property
    def client_socket(self) -> Path:
        return self.run / "client" / "client.sock"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    @property
    def claimed(self) -> bool:
        """Whether the directory is a test network's."""
        return (self.root / _MARKER).exists()

    def claim(self) -> None:
        """Makes the directory.

        Raises:
            UserError: it cannot be made, or holds something that is not ours.
        """
        make_private(self.root)
        try:
            foreign = not self.claimed and any(self.root.iterdir())
        except OSError as e:
            raise UserError(f"{self.root}: cannot be made ({e.strerror}). Choose another with --dir") from None
        if foreign:
            raise UserError(f"{self.root}: is neither empty nor a test network's. Choose another with --dir")
        (self.root / _MARKER).write_text(_MARKER_TEXT)

    def clear(self) -> None:
        """Removes the last network's files; keys and configurations of test networks are never used twice."""
        self.remove_secrets()
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(mode=0o700)

    def remove_secrets(self) -> None:
        """Removes all but the logs."""
        for part in ("nodes", "client"):
            shutil.rmtree(self.root / part, ignore_errors=True)
        self.state.unlink(missing_ok=True)
        self.genesis.unlink(missing_ok=True)
        if _is_ours(self.run):
            shutil.rmtree(self.run, ignore_errors=True)

    def make_run(self) -> None:
        """Makes the run directory, mode 0700 and nobody else's.

        Raises:
            UserError: somebody else was there first.
        """
        self.run.mkdir(mode=0o700, exist_ok=True)
        if not _is_ours(self.run):
            raise UserError(f"{self.run}: belongs to somebody else. Remove it")
        self.run.chmod(0o700)


def _is_ours(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
