"""Nothing leaks: no target in any log or file, and no DNS query from the client's host."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from dns_server import dns_server
from e2e_lonely_host import splice
from e2e_net import Network, need, run, succeed
from e2e_net import network as start
from e2e_servers import content, echo, sha256, tcp
from e2e_servers import web as serve
from e2e_socks import SocksFailed, connect, receive, resolve

pytestmark = pytest.mark.e2e

ADDRESS = "127.77.66.55"
UNREACHABLE = "2001:db8:77:66::55"
SUPPORT = Path(__file__).parents[1] / "support"
ONLY_AT_THE_EXIT = "only-the-exit-knows.test"
FORBIDDEN_AT_THE_EXIT = "forbidden-at-the-exit.test"


def _visit(network: Network, host: str, port: int, user: str) -> None:
    with suppress(SocksFailed):
        connect(network.socks, host, port, user).close()


def test_no_log_or_file_tells_a_target(network: Network) -> None:
    word = secrets.token_hex(6)
    name, user, closed = f"name-{word}.invalid", f"user-{word}", 1 + secrets.randbelow(1000)
    with tcp(echo, ADDRESS) as target:
        with connect(network.socks, ADDRESS, target.port, user) as s:
            s.sendall(f"payload-{word}".encode())
            assert receive(s, 8) == b"payload-"
        for host, port in (
            (name, target.port),
            (ADDRESS, closed),
            (UNREACHABLE, 80),
            (f"{word}.localhost", closed),
        ):
            _visit(network, host, port, user)
        with suppress(SocksFailed):
            resolve(network.socks, name)
        with socket.create_connection((network.http.host, network.http.port), 30) as s:
            s.sendall(f"CONNECT {name}:80 HTTP/1.1\r\nX: {word}\r\n\r\n".encode())
            s.recv(1000)
    texts = {f: f.read_text(errors="replace") for f in network.directory.rglob("*") if f.is_file()}
    assert any("starting" in texts[f] for f in network.logs()), "there are no logs to look at"
    words = [word, ADDRESS, UNREACHABLE]
    found = [f"{w} in {file}" for file, text in texts.items() for w in words if w in text]
    port_seen = re.compile(rf"(?<![\d.]){target.port}(?!\d)")
    found += [f"{target.port} in {file}" for file in network.logs() if port_seen.search(texts[file])]
    assert not found, "\n".join(found)


# ---- names ----


def _unshare(*flags: str) -> list[str]:
    """A command that runs another one in namespaces of its own; skips where the system does not allow it."""
    command = [need("unshare", "util-linux"), *(() if os.geteuid() == 0 else ("--map-root-user",)), *flags]
    if run(*command, "true").returncode:
        pytest.skip("NOT SHOWN HERE: needs namespaces (root with CAP_SYS_ADMIN, or user namespaces for everybody)")
    return command


@contextmanager
def _forwarder(path: Path, port: int) -> Iterator[None]:
    """A Unix socket that leads to a TCP port: the only way out of a host without a network."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    splice(near, socket.create_connection(("127.0.0.1", port)))

        threading.Thread(target=accept, daemon=True).start()
        yield
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _lonely(network: Network, directory: Path, wants: dict[str, Any]) -> dict[str, Any]:
    """Runs a client and curl on a host whose resolver counts; e2e_lonely_host.py says what comes back."""
    ports = network.gateways("tls")
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(_forwarder(directory / f"{port}", port))
        plan = {
            "directory": str(directory),
            "ports": ports,
            "genesis": str(network.directory / "genesis.json"),
            **wants,
        }
        said = succeed(
            *_unshare("--net", "--mount"),
            sys.executable,
            SUPPORT / "e2e_lonely_host.py",
            json.dumps(plan),
            seconds=110,
        )
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


@pytest.mark.slow
def test_the_clients_host_asks_no_resolver(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The client and curl run on a host (a network namespace) whose only way out are the gateways.

    Every DNS query there is counted. The names are known to the exits alone.
    """
    need("curl", "curl")
    resolv = tmp_path_factory.mktemp("resolv") / "resolv.conf"
    mount = f'mount --bind {resolv} "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    exits = [*_unshare("--mount"), "sh", "-c", mount, "sh"]
    changes = {"exits": {"relay": {"exit_policy": ["reject 127.66.0.0/16:*", "accept *:*"]}}}
    with ExitStack() as stack:
        names = {ONLY_AT_THE_EXIT: ADDRESS, FORBIDDEN_AT_THE_EXIT: "127.66.0.1"}
        resolv.write_text(f"nameserver {stack.enter_context(dns_server(names))}\n")
        web = stack.enter_context(serve(ADDRESS))
        network = stack.enter_context(start("--nodes", "6", wrapper=exits, changes=changes))
        wants = {
            "urls": [f"http://{ONLY_AT_THE_EXIT}:{web.port}/bytes/{size}" for size in (100, 300_000)],
            "failing": [
                f"http://{ONLY_AT_THE_EXIT}:1/",
                "http://nobody-knows.invalid/",
                f"http://{FORBIDDEN_AT_THE_EXIT}/",
            ],
        }
        with _short_directory() as directory:
            said = _lonely(network, directory, wants)
    assert said["control"] > 0, "the counting resolver does not count"
    assert said["fetched"] == [sha256(content(100)), sha256(content(300_000))]
    assert said["socks_codes"] == [5, 4, 2]
    assert said["resolved"] == ADDRESS
    assert said["queries"] == []


@contextmanager
def _short_directory() -> Iterator[Path]:
    """Paths of Unix sockets are short."""
    with tempfile.TemporaryDirectory(prefix="pbl-", dir="/tmp") as directory:
        yield Path(directory)
