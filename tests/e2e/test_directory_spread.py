"""Directories of real nodes: restarts of all at once, and a node that reaches no directory that certifies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e_net import Network, die_with_parent, until
from e2e_net import network as start
from phantomband_cli.control import ask_services
from phantomband_cli.testnet.ports import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

NODES, CERTIFYING = 6, 4
GATEWAY = Path(__file__).parents[1] / "support" / "e2e_blocked_gateway.py"


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with start("--nodes", str(NODES), "--directories", str(CERTIFYING)) as running:
        yield running


def values(net: Network, node: str) -> dict[str, float]:
    """What a node's directory says of itself; nothing while it does not answer."""
    path = net.run_dir / node / "directory.sock"
    (answer,) = ask_services({"directory": path}, timeout=5).values()
    return {} if answer is None else dict(answer.values)


def names() -> list[str]:
    return [f"n{index + 1}" for index in range(NODES)]


def test_every_directory_holds_every_descriptor_and_knows_the_others(net: Network) -> None:
    def spread() -> bool:
        found = [values(net, name) for name in names()]
        return all(
            one.get("descriptors") == NODES and one["table_contacts"] == NODES - 1 and one["gossip_rounds"] > 0
            for one in found
        )

    until("every directory holds all", spread)
    for name in names()[:CERTIFYING]:
        found = values(net, name)
        assert (found["reached"], found["unreached"], found["storage_ok"]) == (NODES - 1, 0, 1)


def test_directories_that_are_killed_at_once_have_all_from_disk(net: Network) -> None:
    until("all hold all", lambda: all(values(net, name).get("descriptors") == NODES for name in names()))
    files = [net.directory / "nodes" / name / "data/directory/state/directory.db" for name in names()]
    until("it is on disk", lambda: all(path.stat().st_size > NODES * 5000 for path in files))
    epoch = max(values(net, name)["view_epoch"] for name in names())
    before = {name: net.services()[f"{name}.directory"]["pid"] for name in names()}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    first: dict[str, dict[str, float]] = {}

    def back() -> bool:
        for name in names():
            if name not in first and (found := values(net, name)):
                first[name] = found
        return len(first) == NODES

    until("they answer again", back, every=0.02)
    assert all(net.services()[f"{name}.directory"]["pid"] != pid for name, pid in before.items())
    for found in first.values():
        assert found["descriptors"] == NODES, "the first that it says after its start"
        assert found["view_epoch"] >= epoch - 1
    until("they certify on", lambda: all(values(net, name).get("view_epoch", 0) > epoch for name in names()), 150)
    assert values(net, "n1")["view_nodes"] == NODES


def test_a_node_that_reaches_no_certifying_directory_gets_into_the_view(net: Network, tmp_path: Path) -> None:
    """It has a view from a friend, and its gateway's way to the four directories' ports is blocked."""
    home = net.directory / "nodes" / "n6"
    late = tmp_path / "late"
    state = late / "data" / "directory" / "state"
    state.mkdir(parents=True, mode=0o700)
    (late / "data" / "directory").chmod(0o700)
    (late / "data").chmod(0o700)
    shutil.copy(home / "data" / "directory" / "state" / "view", state / "view")
    ports = iter(free_ports(("tcp", "tls", "quic")))
    text = (home / "node.toml").read_text().replace(str(home / "data"), str(late / "data"))
    text = re.sub(r"(\w+)://127\.0\.0\.1:\d+", lambda found: f"{found[1]}://127.0.0.1:{next(ports)}", text)
    text = text.replace(str(net.run_dir / "n6"), str(net.run_dir / "late")).replace('"n6"', '"late"')
    (late / "node.toml").write_text(text)
    blocked = [re.findall(r'"tcp://127\.0\.0\.1:(\d+)"', (net.directory / "nodes" / name / "node.toml").read_text())
               for name in names()[:CERTIFYING]]  # fmt: skip
    environment = {**os.environ, "E2E_BLOCKED": ",".join(port for ports in blocked for port in ports)}
    with ExitStack() as stack, (tmp_path / "log").open("wb") as log:
        for service in ("directory", "relay", "mixer", "gateway"):
            program = [str(GATEWAY)] if service == "gateway" else ["-m", f"phantomband_{service}"]
            process = subprocess.Popen(
                [sys.executable, *program, "--config", str(late / "node.toml")],
                stdout=log, stderr=log, env=environment, preexec_fn=die_with_parent,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
        try:
            until("it is in the view", lambda: values(net, "n1").get("view_nodes") == NODES + 1, 240)
        except BaseException as e:
            e.add_note((tmp_path / "log").read_text(errors="replace")[-4000:])
            raise
        assert values(net, "late")["table_contacts"] > 0
        until("it gossips", lambda: values(net, "late").get("gossip_rounds", 0) > 0, 60)
