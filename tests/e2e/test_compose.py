"""The container network for real: images are built, all is started, used, attacked, and removed.

Runs wherever a container engine answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from phantomband_cli.compose import generate
from phantomband_cli.target import stream

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PROJECT = f"phantomband-test-{os.getpid()}"
SUBNET = "10.87"
"""Not the default: a network that somebody runs is left alone."""
UID = "10001"
SIZE = 4_000_000


def _run(*command: str, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=800
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def _until(what: str, seconds: float, holds: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.5)


def _compose_command() -> tuple[str, ...]:
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    pytest.fail("an engine answers, but there is no docker compose. Debian: apt-get install docker-compose")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Network:
    """A running project."""

    compose: tuple[str, ...]
    socks: str

    def container(self, service: str) -> str:
        found = _run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}",
                     "--filter", f"label=com.docker.compose.service={service}")  # fmt: skip
        assert found, f"{service} has no container"
        return found.splitlines()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(_run("docker", "inspect", self.container(service)))[0]
        return found

    def state(self) -> dict[str, str]:
        """What the engine says of each service."""
        lines = _run("docker", "ps", "-a", "--filter", f"label=com.docker.compose.project={PROJECT}",
                     "--format", '{{.Label "com.docker.compose.service"}}\t{{.Status}}')  # fmt: skip
        return dict(line.split("\t") for line in lines.splitlines())

    def python(self, service: str, code: str) -> str:
        return _run("docker", "exec", self.container(service), "python", "-c", code)

    def reaches(self, service: str, host: str, port: int) -> bool:
        code = (
            "import socket; s = socket.socket(); s.settimeout(2)\n"
            f"try: s.connect(({host!r}, {port})); print('yes')\nexcept OSError: print('no')"
        )
        return self.python(service, code) == "yes"

    def fetch(self, path: str) -> bytes:
        return subprocess.run(
            ["curl", "-q", "-sS", "--fail", "--noproxy", "", "--max-time", "60",
             "--socks5-hostname", self.socks, f"http://target{path}"], capture_output=True, check=True,
        ).stdout  # fmt: skip

    def fetches_well(self) -> bool:
        return hashlib.sha256(self.fetch(f"/bytes/{SIZE}")).digest() == _expected()


def _expected() -> bytes:
    return hashlib.sha256(b"".join(stream(SIZE))).digest()


def _leftovers() -> str:
    project = f"label=com.docker.compose.project={PROJECT}"
    return "".join(
        _run("docker", *kind, "-q", "--filter", project) for kind in (("ps", "-a"), ("volume", "ls"), ("network", "ls"))
    )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True).returncode:
        pytest.skip("NO CONTAINER ENGINE ANSWERS: the container network is NOT tested here")
    command = _compose_command()
    _run("deploy/build.sh")
    file = generate(tmp_path_factory.mktemp("compose"), nodes=4, exits=2, subnet=SUBNET)
    port = _free_port()
    compose = (*command, "-f", str(file), "-p", PROJECT)
    try:
        _run(*compose, "up", "-d", SOCKS_PORT=str(port), HTTP_PORT=str(_free_port()))
        yield Network(compose, f"127.0.0.1:{port}")
        for service in ("client", "n1-directory", "n4-relay"):
            print(_run(*compose, "logs", "--tail=20", service, check=False))
    finally:
        _run(*compose, "down", "-v", "--remove-orphans", check=False)


def test_all_become_healthy(network: Network) -> None:
    def healthy() -> bool:
        state = network.state()
        done = state.pop("genesis").startswith("Exited (0)")
        return done and len(state) == 18 and all("(healthy)" in s for s in state.values())

    _until("all services healthy", 120, healthy)


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
    access = json.loads(_run("docker", "network", "inspect", f"{PROJECT}_access"))[0]
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
    assert network.python("n1-gateway", code) == "link.key"
    assert network.python("n1-relay", code) == "onion.key"
    assert network.python("n1-mixer", code) == ""
    assert "identity.key" in network.python("n1-directory", code)
    assert "link.key" not in network.python("n1-directory", code)


def test_a_relay_that_is_killed_comes_back_and_fetches_go_on(network: Network) -> None:
    before = network.inspect("n1-relay")
    _kill(before)
    assert network.fetches_well(), "the two exits and another middle are there"
    _until(
        "n1-relay runs again",
        30,
        lambda: network.inspect("n1-relay")["State"]["Pid"] not in (0, before["State"]["Pid"]),
    )
    _until("n1-relay is healthy", 60, lambda: "(healthy)" in network.state()["n1-relay"])
    assert network.fetches_well()


def _kill(container: dict[str, Any]) -> None:
    """A crash: the engine restarts what died by itself, and not what it was told to kill."""
    identity, pid = container["Id"], container["State"]["Pid"]
    cgroup = Path(f"/proc/{pid}/cgroup")
    if os.geteuid() == 0 and cgroup.exists() and identity in cgroup.read_text():
        os.kill(pid, 9)
    else:
        _run("docker", "kill", identity)
        _run("docker", "start", identity)


def _address(network: Network, service: str, on: str) -> str:
    address: str = network.inspect(service)["NetworkSettings"]["Networks"][f"{PROJECT}_{on}"]["IPAddress"]
    assert address
    return address


def test_no_address_or_target_is_logged(network: Network) -> None:
    logs = _run(*network.compose, "logs", "--no-color")
    said = [line for line in logs.splitlines() if "target" in line.partition("|")[2] or f"{SUBNET}." in line]
    assert not said, said[:5]


def test_down_leaves_nothing(network: Network) -> None:
    assert _leftovers()
    _run(*network.compose, "down", "-v", "--remove-orphans")
    assert _leftovers() == ""
