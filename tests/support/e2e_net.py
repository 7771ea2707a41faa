"""Real test networks for end-to-end tests: started, asked, and ended whatever happens to the tests."""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e_socks import Address
from phantomband_cli.control import ClientControl, NoAnswer, ask_services, circuit_json, status_json

PHANTOMBAND = (sys.executable, "-m", "phantomband_cli.main")
WITH_CHANGES = Path(__file__).with_name("e2e_up.py")
UP_SECONDS = 90.0
"""`testnet up` itself gives up after 60."""
PR_SET_PDEATHSIG = 1
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
_LIBC = ctypes.CDLL(None)


def need(program: str, package: str) -> str:
    """The path of a program. Without it the test fails where CI must have it, and is skipped elsewhere."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    return found or lacking(f"{program} is missing: install {package}")


def need_newer(program: str, package: str) -> str:
    """The path of a program that Debian 12 has not. Without it the test is skipped, and says so, in CI too."""
    return shutil.which(program) or pytest.skip(f"{program} is missing: tools/newer_debian.sh sid FOLDER {package}")


def lacking(what: str) -> Any:
    """What these tests need is not here."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(what)
    pytest.skip(what)


def until(what: str, holds: Callable[[], Any], seconds: float = 60.0, every: float = 0.05) -> Any:
    """Waits until `holds()` is true and returns what it was; fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(every)
    return found


def run(*command: str | Path, seconds: float = 60.0, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs a program to its end; its output is in the result."""
    return subprocess.run([str(c) for c in command], capture_output=True, timeout=seconds, **options)


def succeed(*command: str | Path, seconds: float = 60.0, **options: Any) -> bytes:
    """Runs a program that must succeed; returns its standard output."""
    done = run(*command, seconds=seconds, **options)
    if done.returncode:
        text = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
        pytest.fail(f"{command[0]} ended with {done.returncode}\n{text}")
    return done.stdout


def die_with_parent() -> None:
    """In a child: nothing of a test outlives the tests, even if they are killed."""
    _LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def socks_when_up(control: Path) -> str | None:
    """The SOCKS5 address of the client with this control socket; None until it is up."""
    try:
        with ClientControl(control) as client:
            status = client.status()
    except NoAnswer:
        return None
    return str(status.socks_address) if status.bootstrap.percent == 100 else None


@dataclass(frozen=True, slots=True)
class Network:
    """A running test network."""

    directory: Path
    run_dir: Path
    socks: Address
    http: Address

    def ask(self, *command: str) -> Any:
        """The JSON answer of a `phantomband` command about this network."""
        return json.loads(succeed(*PHANTOMBAND, *command, "--json", "--dir", self.directory))

    def status(self) -> Any:
        return self.ask("testnet", "status")

    def services(self) -> dict[str, dict[str, Any]]:
        """All services by name, the client's too, as `testnet status` describes them."""
        status = self.status()
        every = [*(s for node in status["nodes"] for s in node["services"]), status["client"]]
        return {s["name"]: s for s in every}

    def circuits(self) -> list[dict[str, Any]]:
        """As `phantomband circuits --json` has them, without the time to start a command."""
        with ClientControl(self.run_dir / "client" / "client.sock") as client:
            return [circuit_json(c) for c in client.circuits(timeout=20).circuits]

    def client(self) -> dict[str, Any]:
        """As `phantomband status --json` has it."""
        with ClientControl(self.run_dir / "client" / "client.sock") as client:
            return status_json(client.status(timeout=20))

    def total(self, counter: str, *, of: str = "*") -> int:
        """The sum of a counter over all services of one kind that answer and have it."""
        sockets = {str(path): path for path in self.run_dir.glob(f"*/{of}.sock")}
        answers = ask_services(sockets, timeout=20)
        return sum(int(a.values.get(counter, 0)) for a in answers.values() if a is not None)

    def logs(self) -> list[Path]:
        return sorted((self.directory / "logs").iterdir())

    def gateways(self, transport: str) -> list[int]:
        """The ports on 127.0.0.1 on which the gateways offer a transport."""
        texts = [f.read_text() for f in sorted((self.directory / "nodes").glob("*/node.toml"))]
        return [int(port) for text in texts for port in re.findall(rf'"{transport}://127\.0\.0\.1:(\d+)"', text)]


Changes = Mapping[str, Mapping[str, Any]]
"""Settings to change, by section, for nodes by name, or for all "exits"."""


@contextmanager
def network(
    *options: str,
    debug: bool = False,
    changes: Mapping[str, Changes] | None = None,
    wrapper: Sequence[str] = (),
    tap: Path | None = None,
    lies: Path | None = None,
) -> Iterator[Network]:
    """A test network with these options of `testnet up`.

    Args: debug: log everything; wrapper: a command that runs the one given behind it; tap: the plan of a tap; lies:
        that of directories that lie (e2e_liars.py).
    """
    with tempfile.TemporaryDirectory(prefix="pbt-", dir="/tmp") as base:
        directory, err = Path(base, "net"), Path(base, "err")
        Path(base, "run").mkdir(mode=0o700)
        environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": f"{base}/run",
            "E2E_CHANGES": json.dumps(changes or {}),
            "E2E_TAP": str(tap or ""),
            "E2E_LIES": str(lies or ""),
        }
        if debug:
            environment["PHANTOMBAND_LOG__LEVEL"] = "debug"
        ports = ["--socks-port", "0", "--http-port", "0"]
        command = [
            *wrapper,
            sys.executable,
            str(WITH_CHANGES),
            "testnet",
            "up",
            "--json",
            "--dir",
            str(directory),
        ]
        with err.open("wb") as errors, subprocess.Popen(
            [*command, *ports, *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            preexec_fn=die_with_parent,
        ) as process:  # fmt: skip
            try:
                yield _came_up(process, directory, err)
            finally:
                _end(process, directory, environment)


def _came_up(process: subprocess.Popen[bytes], directory: Path, err: Path) -> Network:
    assert process.stdout is not None
    handle = process.stdout.fileno()
    if not select.select([handle], [], [], UP_SECONDS)[0] or not (line := os.read(handle, 65_536)):
        pytest.fail(f"testnet up did not come up\n{err.read_text(errors='replace')[-4000:]}")
    said, state = json.loads(line), json.loads((directory / "state.json").read_bytes())
    return Network(directory, Path(state["run_dir"]), Address.parse(said["socks"]), Address.parse(said["http"]))


def _end(process: subprocess.Popen[bytes], directory: Path, environment: Mapping[str, str]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        run(*PHANTOMBAND, "testnet", "down", "--quiet", "--dir", directory, env=environment)
