"""The container network for real: images are built, all is started, used, attacked, and removed.

Runs wherever a container engine answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_compose import Network, containers, docker_run, eventually, leftovers
from phantomband_cli.testnet.options import Options

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(900)]

PROJECT = f"phantomband-test-{os.getpid()}"
SUBNET = "10.87"
"""Not the default: a network that somebody runs is left alone."""
UID = "10001"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with containers(PROJECT, Options(nodes=4, exits=2), SUBNET, tmp_path_factory.mktemp("compose")) as running:
        yield running


def test_all_become_healthy(network: Network) -> None:
    def healthy() -> bool:
        state = network.state()
        done = state.pop("genesis").startswith("Exited (0)")
        return done and len(state) == 18 and all("(healthy)" in s for s in state.values())

    eventually("all services healthy", 120, healthy)


def test_a_page_and_a_file_come_through(network: Network) -> None:
    assert b"three relays" in network.fetch("/")
    assert network.fetches_well()


def test_a_client_reaches_gateways_and_nothing_else(network: Network) -> None:
    assert network.reaches("client", f"{SUBNET}.2.11", 9002)
    assert not network.reaches("client", f"{SUBNET}.1.11", 9001), "the links between gateways"
    assert not network.reaches("client", _address(network, "target", "targets"), 80)
    assert not network.reaches("client", _address(network, "n4-relay", "targets"), 9001)
    routes = network.python("client", "print(open('/proc/net/route').read())").split()
    assert routes, "the default route leads to a bridge that translates nothing"
    access = json.loads(docker_run("docker", "network", "inspect", f"{PROJECT}_access"))[0]
    assert access["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"


def test_a_gateway_does_not_reach_targets_or_the_clients_proxy(network: Network) -> None:
    assert network.reaches("n1-gateway", f"{SUBNET}.1.12", 9001)
    assert not network.reaches("n1-gateway", _address(network, "target", "targets"), 80)
    assert not network.reaches("n1-gateway", _address(network, "client", "clients"), 9150)
    assert not network.reaches("n1-gateway", f"{SUBNET}.3.10", 9150)


def test_only_exits_reach_targets(network: Network) -> None:
    assert network.reaches("n4-relay", "target", 80)
    assert not network.reaches("n4-relay", f"{SUBNET}.1.11", 9001)


@pytest.mark.parametrize("service", ["n1-directory", "n1-mixer", "n1-relay"])
def test_the_others_have_no_network(network: Network, service: str) -> None:
    assert network.inspect(service)["HostConfig"]["NetworkMode"] == "none"
    assert network.python(service, "import socket; print(*(n for _, n in socket.if_nameindex()))").split()[0] == "lo"
    assert not network.reaches(service, f"{SUBNET}.1.11", 9001)


@pytest.mark.parametrize("service", ["client", "n4-gateway", "n4-relay", "n4-mixer", "n4-directory", "target"])
def test_containers_are_locked_down(network: Network, service: str) -> None:
    status = dict(
        line.split(":", 1) for line in network.python(service, "print(open('/proc/1/status').read())").splitlines()
    )
    assert set(status["Uid"].split()) == {UID}
    assert all(int(status[f"Cap{kind}"], 16) == 0 for kind in ("Eff", "Prm", "Bnd", "Inh", "Amb"))
    assert status["NoNewPrivs"].strip() == "1"
    code = "try: open('/app/x', 'w')\nexcept OSError as e: print(e.errno)"
    assert network.python(service, code) in ("30", "13")
    assert network.inspect(service)["HostConfig"]["ReadonlyRootfs"]
    assert network.inspect(service)["HostConfig"]["Memory"] > 0


def test_no_service_sees_anothers_keys(network: Network) -> None:
    code = "import os; print(*sorted(f for _, _, files in os.walk('/data') for f in files))"
    assert network.python("n1-gateway", code) == "link.key quic.secret tls.secret"
    assert network.python("n1-relay", code) == "onion.key"
    assert network.python("n1-mixer", code) == ""
    assert "identity.key" in network.python("n1-directory", code)
    assert "link.key" not in network.python("n1-directory", code)


def test_a_relay_that_is_killed_comes_back_and_fetches_go_on(network: Network) -> None:
    before = network.inspect("n1-relay")
    _kill(before)
    assert network.fetches_well(), "the two exits and another middle are there"
    eventually(
        "n1-relay runs again",
        30,
        lambda: network.inspect("n1-relay")["State"]["Pid"] not in (0, before["State"]["Pid"]),
    )
    eventually("n1-relay is healthy", 60, lambda: "(healthy)" in network.state()["n1-relay"])
    assert network.fetches_well()


def _kill(container: dict[str, Any]) -> None:
    """A crash: the engine restarts what died by itself, and not what it was told to kill."""
    identity, pid = container["Id"], container["State"]["Pid"]
    cgroup = Path(f"/proc/{pid}/cgroup")
    if os.geteuid() == 0 and cgroup.exists() and identity in cgroup.read_text():
        os.kill(pid, 9)
    else:
        docker_run("docker", "kill", identity)
        docker_run("docker", "start", identity)


def _address(network: Network, service: str, on: str) -> str:
    address: str = network.inspect(service)["NetworkSettings"]["Networks"][f"{PROJECT}_{on}"]["IPAddress"]
    assert address
    return address


def test_no_address_or_target_is_logged(network: Network) -> None:
    logs = docker_run(*network.compose, "logs", "--no-color")
    said = [line for line in logs.splitlines() if "target" in line.partition("|")[2] or f"{SUBNET}." in line]
    assert not said, said[:5]


def test_down_leaves_nothing(network: Network) -> None:
    assert leftovers(PROJECT)
    docker_run(*network.compose, "down", "-v", "--remove-orphans")
    assert leftovers(PROJECT) == ""
