"""The state file and the lock of a test network.

The lock says whether one runs: the supervisor holds it for life; the kernel releases it however that ends.

    lock         {"pid": n, "started": ticks}
    state.json   {"version": 1, "phase": "running" | "stopping", "run_dir": path,
                  "socks": "host:port", "http": "host:port" | null, "options": {...},
                  "services": [{"name": "n1.relay", "node": "n1", "service": "relay", "pid": n | null,
                                "started": ticks, "state": "running" | "waiting" | "failing", "restarts": n,
                                "log": path}]}
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from phantomband.core.errors import UserError

from phantomband_cli.process import ProcessId
from phantomband_cli.testnet.layout import Layout, demo_directory
from phantomband_cli.testnet.options import Options

VERSION = 1


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One process of the network; the client's is `client.client`."""

    name: str
    node: str
    service: str
    pid: int | None
    started: int
    state: str
    restarts: int
    log: str


@dataclass(frozen=True, slots=True)
class State:
    """What the supervisor last wrote."""

    phase: str
    run_dir: str
    socks: str
    http: str | None
    options: Options
    services: tuple[ServiceState, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "phase": self.phase,
            "run_dir": self.run_dir,
            "socks": self.socks,
            "http": self.http,
            "options": self.options.to_json(),
            "services": [asdict(s) for s in self.services],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> State:
        return cls(
            data["phase"],
            data["run_dir"],
            data["socks"],
            data["http"],
            Options.from_json(data["options"]),
            tuple(ServiceState(**s) for s in data["services"]),
        )

    def socket_of(self, service: ServiceState) -> Path:
        return Path(self.run_dir) / service.node / f"{service.service}.sock"


def write_state(layout: Layout, state: State) -> None:
    """Replaces the state file: readers see the old one or the new one."""
    part = layout.state.with_name(".state.json")
    part.write_text(json.dumps(state.to_json(), indent=1) + "\n")
    part.replace(layout.state)


def read_state(layout: Layout) -> State | None:
    """The last state written, or None if there is none.

    Raises:
        UserError: the file was written by another release, or damaged.
    """
    try:
        data = json.loads(layout.state.read_text())
        if data["version"] != VERSION:
            raise ValueError("another version")
        return State.from_json(data)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{layout.state}: cannot be used. Run: phantomband testnet down") from None


def take_lock(layout: Layout) -> BinaryIO | None:
    """The lock, as long as the file stays open; None if a network runs here."""
    handle = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    file = os.fdopen(handle, "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate()
    file.write(json.dumps(asdict(ProcessId.of(os.getpid()))).encode())
    file.flush()
    return file


def supervisor_of(layout: Layout) -> ProcessId | None:
    """The supervisor of the network that runs here, or None if none does."""
    try:
        file = layout.lock.open("rb")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file)
    return None


def find(directory: Path | None) -> Layout:
    """The network that is meant: that in `directory`; without one, `testnet up`'s, else the demo's."""
    usual, demo = Layout.at(directory), Layout.at(demo_directory())
    if directory is None and supervisor_of(usual) is None and supervisor_of(demo) is not None:
        return demo
    return usual


def client_socket(layout: Layout) -> Path:
    """Where the client of the network that runs here answers; the state file knows best."""
    state = read_state(layout)
    return Path(state.run_dir) / "client" / "client.sock" if state else layout.client_socket


def _holder(file: BinaryIO) -> ProcessId | None:
    try:
        return ProcessId(**json.loads(file.read()))
    except (ValueError, TypeError):  # taken this instant, not written yet
        return ProcessId(0, 0)
