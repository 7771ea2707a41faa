"""Container networks for end-to-end tests: images built, project started, asked, and removed whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from phantomband_cli.compose import generate
from phantomband_cli.target import stream
from phantomband_cli.testnet.options import Options

ROOT = Path(__file__).resolve().parents[2]
SIZE = 4_000_000


def docker_run(*command: str, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=800
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout.strip()


def eventually(what: str, seconds: float, holds: Callable[[], object]) -> None:
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

    project: str
    compose: tuple[str, ...]
    socks: str

    def container(self, service: str) -> str:
        found = docker_run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}",
                     "--filter", f"label=com.docker.compose.service={service}")  # fmt: skip
        assert found, f"{service} has no container"
        return found.splitlines()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker_run("docker", "inspect", self.container(service)))[0]
        return found

    def state(self) -> dict[str, str]:
        """What the engine says of each service."""
        lines = docker_run("docker", "ps", "-a", "--filter", f"label=com.docker.compose.project={self.project}",
                     "--format", '{{.Label "com.docker.compose.service"}}\t{{.Status}}')  # fmt: skip
        return dict(line.split("\t") for line in lines.splitlines())

    def python(self, service: str, code: str) -> str:
        return docker_run("docker", "exec", self.container(service), "python", "-c", code)

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
        return hashlib.sha256(self.fetch(f"/bytes/{SIZE}")).digest() == expected_digest()


def expected_digest() -> bytes:
    return hashlib.sha256(b"".join(stream(SIZE))).digest()


def leftovers(name: str) -> str:
    """Ids of whatever is left of a project."""
    mine = ("-q", "--filter", f"label=com.docker.compose.project={name}")
    return "".join(docker_run("docker", *kind, *mine) for kind in (("ps", "-a"), ("volume", "ls"), ("network", "ls")))


@contextmanager
def containers(name: str, options: Options, subnet: str, out: Path) -> Iterator[Network]:
    """A project that runs; where no engine answers, the test says so loudly and is skipped."""
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True).returncode:
        pytest.skip("NO CONTAINER ENGINE ANSWERS: the container network is NOT tested here")
    command = _compose_command()
    docker_run("deploy/build.sh")
    file = generate(out, options, subnet)
    port = _free_port()
    compose = (*command, "-f", str(file), "-p", name)
    try:
        docker_run(*compose, "up", "-d", SOCKS_PORT=str(port), HTTP_PORT=str(_free_port()))
        yield Network(name, compose, f"127.0.0.1:{port}")
        for service in ("client", "n1-directory", "n4-relay"):
            print(docker_run(*compose, "logs", "--tail=20", service, check=False))
    finally:
        docker_run(*compose, "down", "-v", "--remove-orphans", check=False)
