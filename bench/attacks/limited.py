"""A test network whose services are processes of their own, each in a control group with compose.yaml's memory limit.

    compose.yaml's templates  ->  bytes for each kind of service
    every service             ->  cgroup NAME (memory), restarted when it dies, as a container would be

Without the right to make control groups the limits are not in force; then only what the processes take is compared with
them, and `enforced` is False.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from phantomband_cli.testnet.layout import Layout
from phantomband_cli.testnet.options import Options
from phantomband_cli.testnet.prepare import Prepared, prepare

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("directory", "gateway", "relay", "mixer")
GROUPS = Path("/sys/fs/cgroup")
UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}
SAMPLE_SECONDS = 0.25
PAGE = os.sysconf("SC_PAGE_SIZE")


def limits() -> dict[str, int]:
    """Bytes of each kind of service, from compose.yaml."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    found = {}
    for kind in (*SERVICES, "client"):
        match = re.fullmatch(r"(\d+)([kmg])", compose[f"x-{kind}"]["mem_limit"])
        assert match is not None
        found[kind] = int(match[1]) * UNITS[match[2]]
    return found


@dataclass
class Group:
    """One control group of the memory controller, version 1 or 2."""

    path: Path
    v2: bool

    @classmethod
    def make(cls, name: str, limit: int) -> Group | None:
        """None where that is not allowed."""
        v2 = (GROUPS / "cgroup.controllers").exists()
        path = GROUPS / name if v2 else GROUPS / "memory" / name
        try:
            path.mkdir()
            (path / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(limit))
        except OSError:
            with_no_limit = path.exists() and not any(p.is_dir() for p in path.iterdir())
            if with_no_limit:
                path.rmdir()
            return None
        return cls(path, v2)

    @property
    def tasks(self) -> Path:
        return self.path / "cgroup.procs"

    def used(self) -> int:
        """Bytes that cannot be given back at once: anonymous memory and sockets' buffers, without files' pages."""
        stat = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        if self.v2:
            return int(stat["anon"]) + int(stat.get("sock", 0)) + int(stat.get("slab_unreclaimable", 0))
        try:
            tcp = int((self.path / "memory.kmem.tcp.usage_in_bytes").read_text())
        except OSError:
            tcp = 0
        return int(stat["rss"]) + tcp

    def remove(self) -> None:
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


@dataclass
class Process:
    """One service."""

    name: str
    kind: str
    command: list[str]
    log: Path
    limit: int
    group: Group | None
    environment: Mapping[str, str]
    running: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    peak: int = 0
    """Bytes, since it was last set to 0."""

    def start(self) -> None:
        command = self.command
        if self.group is not None:
            command = ["sh", "-c", f'echo $$ >{self.group.tasks} && exec "$@"', "sh", *command]
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment
            )

    def used(self) -> int:
        """Bytes."""
        if self.group is not None:
            return self.group.used()
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE
        except OSError:
            return 0

    @property
    def pid(self) -> int:
        return self.running.pid if self.running is not None else 0

    def look(self) -> None:
        """Starts it again if it has died, and looks what it takes."""
        if self.running is not None and self.running.poll() is not None:
            self.restarts += 1
            self.start()
        self.peak = max(self.peak, self.used())

    def stop(self) -> None:
        if self.running is not None and self.running.poll() is None:
            self.running.send_signal(signal.SIGTERM)


class Surroundings:
    """Where the services run: the machine's own network, disk and clock, unless a bench makes others."""

    hosts: Sequence[str] | None = None
    """Addresses of the nodes; None: loopback."""

    def before(self, layout: Layout, options: Options) -> None:
        """Called before the first file of a node is written."""

    def clients(self, layout: Layout, prepared: Prepared) -> Mapping[str, Path]:
        """Configurations of the clients, by name."""
        return {"client": layout.client_config}

    def within(self, name: str, command: list[str]) -> list[str]:
        """The command that runs a service in its place."""
        return command

    def environment(self, name: str) -> Mapping[str, str]:
        return {}

    def after(self) -> None:
        """Called when all services have ended."""


@dataclass
class LimitedNetwork:
    """The network; `watch` runs in a thread."""

    layout: Layout
    options: Options
    prepared: Prepared
    processes: dict[str, Process]
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def enforced(self) -> bool:
        return all(p.group is not None for p in self.processes.values())

    @property
    def restarts(self) -> int:
        return sum(p.restarts for p in self.processes.values())

    def watch(self) -> None:
        while not self.over.wait(SAMPLE_SECONDS):
            for process in self.processes.values():
                process.look()

    def begin_peaks(self) -> None:
        for process in self.processes.values():
            process.peak = process.used()

    def worst(self) -> tuple[float, str]:
        """(share of its limit that the worst service took since `begin_peaks`, its name)."""
        return max((p.peak / p.limit, p.name) for p in self.processes.values())

    def used(self) -> dict[str, int]:
        return {name: p.used() for name, p in self.processes.items()}


def _processes(
    layout: Layout, options: Options, resolver: Path | None, clients: Mapping[str, Path], around: Surroundings
) -> Iterator[Process]:
    sizes = limits()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PHANTOMBAND_")}
    tag = f"pb-bench-{os.getpid()}"

    def process(name: str, kind: str, command: list[str]) -> Process:
        named = name.replace(".", "-")
        group = Group.make(f"{tag}-{named}", sizes[kind])
        here = {**environment, **around.environment(name)}
        return Process(name, kind, around.within(name, command), layout.log(named), sizes[kind], group, here)

    # The exits' own /etc/resolv.conf, as a container has it.
    other = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount --bind {resolver} "$(readlink -f /etc/resolv.conf)" && exec "$@"',
    ]
    for name in options.names:
        for kind in SERVICES:
            command = [sys.executable, "-m", f"phantomband_{kind}", "--config", str(layout.node_config(name))]
            if kind == "relay" and resolver is not None:
                command = [*other, "sh", *command]
            yield process(f"{name}.{kind}", kind, command)
    for name, config in clients.items():
        yield process(name, "client", [sys.executable, "-m", "phantomband_client", "--config", str(config)])


@contextmanager
def limited_network(
    root: Path, options: Options, resolver: Path | None, around: Surroundings | None = None
) -> Iterator[LimitedNetwork]:
    """A network under `root`. Args: resolver: a resolv.conf for the relays; None: the machine's."""
    around = around or Surroundings()
    layout = Layout.at(root)
    layout.claim()
    layout.clear()
    try:
        around.before(layout, options)
        prepared = prepare(layout, options, time.time() + 4, os.urandom, hosts=around.hosts)
        clients = around.clients(layout, prepared)
        processes = {p.name: p for p in _processes(layout, options, resolver, clients, around)}
        with _running(LimitedNetwork(layout, options, prepared, processes)) as network:
            yield network
    finally:
        around.after()
        layout.remove_secrets()


@contextmanager
def _running(network: LimitedNetwork) -> Iterator[LimitedNetwork]:
    processes = network.processes.values()
    watcher = threading.Thread(target=network.watch, daemon=True)
    try:
        for process in processes:
            process.start()
        watcher.start()
        yield network
    finally:
        network.over.set()
        if watcher.is_alive():
            watcher.join()
        for process in processes:
            process.stop()
        end = time.monotonic() + 5
        for process in processes:
            if process.running is not None:
                try:
                    process.running.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.running.kill()
                    process.running.wait()
            if process.group is not None:
                process.group.remove()


def may_unshare() -> bool:
    """Whether relays can be given a resolv.conf of their own."""
    return shutil.which("unshare") is not None and os.geteuid() == 0
