"""A network whose node listens through a transport program, and a client with one of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e_net import PHANTOMBAND, Network, die_with_parent, need, socks_when_up, succeed, until
from e2e_net import network as start
from e2e_servers import PAGE, WebServer
from phantomband_cli.testnet.ports import free_ports


@contextmanager
def bridged(server: str, name: str = "obfs4", options: str = "", port: int = 0) -> Iterator[tuple[Network, str]]:
    """A network whose node n6 has `server` listen for `name`; and the bridge line of that."""
    words = server.split()
    port = port or free_ports(("tcp",))[0]
    (tcp,) = free_ports(("tcp",))
    table = {"transports": [name], "program": words[0], "arguments": words[1:]}
    gateway = {
        "listen": [f"tcp://127.0.0.1:{tcp}", f"{name}://127.0.0.1:{port}{options}"],
        "pluggable": [table],
    }
    with start(changes={"n6": {"gateway": gateway}}) as network:
        out = succeed(*PHANTOMBAND, "bridge", "line", "--dir", network.directory, "--node", "n6", "--transport", name)
        yield network, out.decode().strip()


@contextmanager
def client(network: Network, folder: Path, line: str, plugin: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A client with one bridge line and one program; its SOCKS5 address."""
    run_dir = network.run_dir.parent / "plugged"
    command = [*PHANTOMBAND, "client", "--quiet", "--bridge", line, "--pt", plugin, "--data-dir", folder / "data"]
    settings = ["--set", "socks_port=0", "--set", f"run_dir={run_dir}"]
    with (folder / "log").open("wb") as log, subprocess.Popen(
        [*map(str, command), *settings], stderr=log, preexec_fn=die_with_parent
    ) as process:  # fmt: skip
        try:
            yield until("the client is up", lambda: socks_when_up(run_dir / "client.sock")), process
        finally:
            process.terminate()


def children(pid: int, word: str) -> list[int]:
    """Processes below `pid` whose command line has `word`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid and any(word.encode() in each for each in words):
            found.append(int(entry.name))
    return found


def working_for(state: Path) -> list[int]:
    """Processes that keep their state there."""
    wanted, found = f"TOR_PT_STATE_LOCATION={state}\0".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes() + b"\0"
        except OSError:
            continue
        if wanted in environment:
            found.append(int(entry.name))
    return found


def fetch(socks: str, web: WebServer, *more: str) -> bytes:
    curl = (need("curl", "curl"), "-sS", "--fail", "--max-time", "60", "--noproxy", "", "--socks5-hostname", socks)
    return succeed(*curl, *more)


def fetched(socks: str, web: WebServer) -> bool:
    done = subprocess.run(
        [need("curl", "curl"), "-sS", "--max-time", "20", "--noproxy", "", "--socks5-hostname", socks,
         f"http://localhost:{web.port}/"], capture_output=True, check=False,
    )  # fmt: skip
    return done.stdout.decode() == PAGE
