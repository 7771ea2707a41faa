"""What is around each service: its node's network namespace, a small disk, and a wall clock of its own."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "attacks"))
from limited import Surroundings  # noqa: E402
from phantomband_cli.testnet.layout import Layout  # noqa: E402
from phantomband_cli.testnet.options import Options  # noqa: E402
from phantomband_cli.testnet.prepare import Prepared, write_toml  # noqa: E402
from places import Place  # noqa: E402

DISK_MIB = 24
"""Of each node and client: many times what it writes in an hour."""

CLIENTS = {"client": "tls", "client2": "quic"}
"""By the transport that each is told to prefer."""

CIRCUIT_SECONDS = 60.0
"""For which a circuit takes new streams: so short that those of one round are gone in the next."""

_CLOCK = struct.Struct("=qq")
SECOND_NS = 1_000_000_000


class Around(Surroundings):
    """Args: root: where clocks are; places: by name of node or client; empty: the machine's own network."""

    def __init__(self, root: Path, places: Mapping[str, Place], nodes: Sequence[str]) -> None:
        self.places = places
        self.hosts = [places[name].host for name in nodes] if places else None
        self.disks: dict[str, Path] = {}
        self._clocks = root / "clocks"
        self._clocks.mkdir()
        self._shim = root / "clock_shim.so"
        subprocess.run(
            ["gcc", "-O2", "-shared", "-fPIC", "-o", str(self._shim), str(HERE / "clock_shim.c"), "-ldl"],
            check=True,
        )

    def before(self, layout: Layout, options: Options) -> None:
        if os.geteuid():
            return
        homes = {name: layout.node(name) for name in options.names}
        homes |= {name: layout.root / name for name in CLIENTS}
        for name, home in homes.items():
            home.mkdir(parents=True)
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "pb-chaos", str(home)],
                check=True,
            )
            self.disks[name] = home

    def clients(self, layout: Layout, prepared: Prepared) -> Mapping[str, Path]:
        found = {}
        for i, (name, transport) in enumerate(CLIENTS.items()):
            home = layout.root / name
            found[name] = home / "client.toml"
            values: dict[str, object] = {
                "genesis": str(layout.genesis),
                "data_dir": str(home / "data"),
                "run_dir": str(layout.run / name),
                "socks_port": socks_port(prepared, i),
                "transport": f"{transport},tcp",
                "circuit_lifetime": CIRCUIT_SECONDS,
            }
            write_toml(found[name], values, {})
        return found

    def within(self, name: str, command: list[str]) -> list[str]:
        place = self.places.get(name.split(".")[0])
        return [*place.prefix, *command] if place is not None else command

    def environment(self, name: str) -> Mapping[str, str]:
        self.set_clock(name)
        return {"LD_PRELOAD": str(self._shim), "CHAOS_CLOCK": str(self._clocks / name)}

    def set_clock(self, name: str, wall_seconds: int = 0, boot_seconds: int = 0) -> None:
        """How far a service's clocks are off; its next reading has it."""
        handle = os.open(self._clocks / name, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(handle, _CLOCK.pack(wall_seconds * SECOND_NS, boot_seconds * SECOND_NS), 0)
        finally:
            os.close(handle)

    def after(self) -> None:
        for home in self.disks.values():
            subprocess.run(["umount", "--lazy", str(home)], check=False)
        self.disks.clear()


def socks_port(prepared: Prepared, index: int) -> int:
    """Of the client with this index: next to each other, as both may be on one loopback."""
    return prepared.socks_port + index


def send(pid: int, what: signal.Signals) -> None:
    """A signal to a process that may be gone."""
    if pid:
        try:
            os.kill(pid, what)
        except ProcessLookupError:
            pass
