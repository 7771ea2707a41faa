"""Ten nodes, seven of them directories; any two of the seven fail or lie. Views go on, never fork, and a client that
fetches all the time never fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from e2e_liars import LIES
from e2e_net import PHANTOMBAND, Network, die_with_parent, need, run, until
from e2e_net import network as start
from e2e_servers import WebServer
from e2e_views import ViewWatch, watching
from phantomband.core.netdir.genesis_file import load_genesis
from phantomband_cli.testnet.ports import free_ports
from phantomband_cli.testnet.prepare import write_toml

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

NODES = [f"n{i}" for i in range(1, 11)]
FAULTY = ("n6", "n7")
"""Two of seven: a quorum is five."""
HONEST = [name for name in NODES if name not in FAULTY]
EPOCHS = 3
"""New views that must come under each fault."""
PATIENCE = 90.0
STARTUP_EPOCHS = 20
"""Of a second each."""


@dataclass
class Setting:
    """The network, its views, and what its liars do."""

    net: Network
    views: ViewWatch
    plan: Path
    fetched: list[int] = field(default_factory=list)

    def tell(self, lie: str) -> None:
        part = self.plan.with_name("plan.part")
        part.write_text(json.dumps(dict.fromkeys(FAULTY, lie)))
        part.rename(self.plan)

    def pid(self, name: str) -> int:
        pid = self.net.services()[f"{name}.directory"]["pid"]
        return int(pid) if pid else 0


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    plan = tmp_path_factory.mktemp("lies") / "plan"
    plan.write_text(json.dumps(dict.fromkeys(FAULTY, "")))
    with (
        start("--nodes", "10", "--directories", "7", "--epoch-seconds", "4", lies=plan) as net,
        watching(net.run_dir, NODES) as views,
    ):
        until("epochs have their full length", lambda: views.newest("n1") > STARTUP_EPOCHS)
        yield Setting(net, views, plan)


@contextmanager
def fetching(setting: Setting, web: WebServer) -> Iterator[list[int]]:
    """Fetches one page after another, each over a circuit of its own. Gives: exit codes of curl, as they come."""
    codes: list[int] = []
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            done = run(
                need("curl", "curl"), "-sS", "-o", os.devnull, "--max-time", "60", "--proxy-user", f"u{number}:x",
                "--socks5-hostname", str(setting.net.socks), f"http://localhost:{web.port}/bytes/100000", seconds=90,
            )  # fmt: skip
            codes.append(done.returncode)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield codes
    finally:
        stop.set()
        thread.join(100)


def views_go_on(setting: Setting, web: WebServer, fault: Callable[[], None]) -> None:
    """While `fault` lasts, honest directories and relays get new views, and the client is served."""
    with fetching(setting, web) as codes:
        until("a first page", lambda: codes)
        fault()
        setting.views.wait_epochs(EPOCHS, HONEST, PATIENCE)
        before = len(codes)
        until("a page under the new view", lambda: len(codes) > before)
    assert set(codes) == {0}, codes
    assert all(len(digests) == 1 for digests in setting.views.digests().values())
    assert setting.views.members("n1") >= set(HONEST)


@pytest.mark.parametrize("lie", LIES)
def test_two_directories_that_lie_change_nothing(setting: Setting, web: WebServer, lie: str) -> None:
    try:
        views_go_on(setting, web, lambda: setting.tell(lie))
        assert setting.views.members("n1") == set(NODES), "who lies as a directory is a relay still"
    finally:
        setting.tell("")


def test_two_directories_that_are_paused_are_missed_by_nobody(setting: Setting, web: WebServer) -> None:
    pids = [setting.pid(name) for name in FAULTY]

    def pause() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    try:
        views_go_on(setting, web, pause)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    setting.views.wait_epochs(1, NODES, PATIENCE)


def test_two_directories_that_are_killed_are_missed_by_nobody_and_come_back(setting: Setting, web: WebServer) -> None:
    def kill() -> None:
        for name in FAULTY:
            os.kill(setting.pid(name), signal.SIGKILL)

    views_go_on(setting, web, kill)
    setting.views.wait_epochs(1, NODES, PATIENCE)


def test_all_directories_killed_at_once_come_back_with_what_they_had(setting: Setting, web: WebServer) -> None:
    before = {name: setting.views.newest(name) for name in NODES}
    pids = [setting.pid(name) for name in NODES]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    epoch = setting.views.wait_epochs(1, NODES, PATIENCE)
    assert epoch > max(before.values())
    assert setting.views.members("n9") >= set(HONEST), "nobody had to be found anew"
    with fetching(setting, web) as codes:
        until("a page", lambda: codes)
    assert codes[0] == 0


def test_a_node_that_joins_is_in_every_view_within_two_epochs(setting: Setting, tmp_path: Path) -> None:
    genesis = load_genesis(setting.net.directory / "genesis.json")
    ports = free_ports(["tcp", "tls", "quic"])
    listen = [f"{name}://127.0.0.1:{port}" for name, port in zip(("tcp", "tls", "quic"), ports)]
    config, runs = tmp_path / "node.toml", Path(tempfile.mkdtemp(prefix="pbj-", dir="/tmp"))
    values = {
        "nickname": "late",
        "genesis": str(setting.net.directory / "genesis.json"),
        "data_dir": str(tmp_path / "data"),
        "run_dir": str(runs),
    }
    write_toml(config, values, {"gateway": {"listen": listen}})
    with subprocess.Popen([*PHANTOMBAND, "node", "--config", str(config)], preexec_fn=die_with_parent) as node:
        try:
            until("its gateway serves", lambda: (runs / "gateway.sock").exists())
            epoch = genesis.clock.epoch_at(time.time())
            until("it is in every view", lambda: all("late" in setting.views.members(name) for name in NODES))
            first = min(
                number
                for number, view in setting.views.views["n1"].items()
                if any(entry.nickname == "late" for entry in view.view.entries)
            )
        finally:
            node.terminate()
            node.wait(30)
            shutil.rmtree(runs)
    assert epoch <= first <= epoch + 2
