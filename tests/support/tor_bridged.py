"""A local Tor network with a bridge behind a pluggable transport, and a client that begins at it. bench/tor_network.py
has the network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

BENCH = Path(__file__).resolve().parents[2] / "bench" / "tor_network.py"

BRIDGE = """
SocksPort 0
ORPort 127.0.0.1:{orport}
ExtORPort {extended}
BridgeRelay 1
PublishServerDescriptor 0
AssumeReachable 1
ExitPolicy reject *:*
ServerTransportPlugin {transport} exec {program}
ServerTransportListenAddr {transport} 127.0.0.1:{port}
"""

CLIENT = """
SocksPort 127.0.0.1:{socks}
UseBridges 1
ClientTransportPlugin {transport} exec {program}
Bridge {line}
"""


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tor_network", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Bridged:
    """A Tor client that has come up through its bridge."""

    socks: int
    home: Path
    """Of the client."""
    bridge: Path
    """Of the bridge."""


class TorWithBridges:
    """A Tor network; `bridged` adds a bridge and its client."""

    def __init__(self, root: Path) -> None:
        self._tor = _load()
        self._root = root
        self.network = self._tor.TorNetwork(root / "tor", relays=2)

    @contextmanager
    def bridged(
        self, name: str, transport: str, server: str, client: str, options: str = "", *, extended: bool = True
    ) -> Iterator[Bridged]:
        """`server` and `client` are the command lines of the transport programs."""
        port = self._tor.free_port()
        socks = self._tor.free_port()
        text = BRIDGE.format(
            orport=self._tor.free_port(), transport=transport, program=server, port=port,
            extended="auto" if extended else "0",
        )  # fmt: skip
        if options:
            text += f"ServerTransportOptions {transport} {options}\n"
        bridge, home = self._home(f"{name}-bridge", text), self._root / f"{name}-client"
        with self._running(bridge):
            line = self._line(bridge, transport, port)
            with self._running(self._home(home.name, CLIENT.format(**locals(), program=client))):
                _wait(home / "log", "Bootstrapped 100%", 60)
                yield Bridged(socks, home, bridge)

    def _home(self, name: str, text: str) -> Path:
        home = self._root / name
        home.mkdir(mode=0o700)
        common = self._tor.COMMON.format(dir=home, name=name.replace("-", ""))
        (home / "torrc").write_text(common + text + self.network._lines)
        return home

    def _line(self, bridge: Path, transport: str, port: int) -> str:
        log = _wait(bridge / "log", f"Registered server transport '{transport}'", 30)
        assert f"127.0.0.1:{port}" in log
        fingerprint = (bridge / "fingerprint").read_text().split()[1]
        text = (bridge / "pt_state" / f"{transport}_bridgeline.txt").read_text()
        found = re.search(rf"^Bridge {transport} <IP ADDRESS>:<PORT> <FINGERPRINT> (.+)$", text, re.MULTILINE)
        assert found, text
        arguments = found[1]
        return f"{transport} 127.0.0.1:{port} {fingerprint} {arguments}"

    @contextmanager
    def _running(self, home: Path) -> Iterator[None]:
        process = subprocess.Popen(
            ["tor", "-f", str(home / "torrc")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(log: Path, text: str, seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        said = log.read_text(errors="replace") if log.exists() else ""
        if text in said:
            return said
        time.sleep(0.05)
    raise AssertionError(f"{text!r} not in {log} within {seconds} s:\n{log.read_text(errors='replace')[-3000:]}")
