"""Profiles on real networks: what they carry, that they pad when idle, and that a weaker path is never taken."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from e2e_net import Network, need, until
from e2e_net import network as start
from e2e_servers import WebServer, content

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

PROXY_FAILED = 97
"""curl's exit code for a SOCKS5 request that was refused."""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with start("--nodes", "6", "--profile", "balanced") as running:
        yield running


@pytest.fixture(scope="module")
def plain() -> Iterator[Network]:
    """Relays that neither mix nor pad."""
    with start("--nodes", "4") as running:
        yield running


def fetch(net: Network, web: WebServer, size: int, user: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [need("curl", "curl"), "-sS", "--max-time", "200", "--proxy-user", f"{user}:x", "--socks5-hostname",
         str(net.socks), f"http://localhost:{web.port}/bytes/{size}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def fetched(process: subprocess.Popen[bytes]) -> bytes:
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return out


@pytest.mark.parametrize(("user", "size"), [("a", 1_000_000), ("b+balanced", 300_000), ("c+strong", 60_000)])
def test_every_profile_carries_real_bytes(net: Network, web: WebServer, user: str, size: int) -> None:
    out = fetched(fetch(net, web, size, user))
    assert hashlib.sha256(out).digest() == hashlib.sha256(content(size)).digest()
    profile = user.partition("+")[2] or "balanced"
    used = [c for c in net.circuits() if c["profile"] == profile]
    assert used
    assert all(len(c["hops"]) == 3 for c in used)


def test_strong_keeps_few_circuits_whatever_the_destinations(net: Network, web: WebServer) -> None:
    for path in ("localhost", "127.0.0.1"):
        process = subprocess.run(
            [need("curl", "curl"), "-sS", "--max-time", "120", "--proxy-user", "c+strong:x", "--socks5-hostname",
             str(net.socks), f"http://{path}:{web.port}/bytes/2000"],
            capture_output=True, timeout=150,
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        assert process.stdout == content(2000)
    assert sum(c["profile"] == "strong" for c in net.circuits()) <= 2


def test_dummies_and_loops_go_on_while_nothing_is_asked_for(net: Network, web: WebServer) -> None:
    fetched(fetch(net, web, 1000, "idle"))
    before = net.client()
    until("dummies are sent", lambda: net.client()["padding_cells"] >= before["padding_cells"] + 20)
    until("loops come back", lambda: net.client()["loops"]["returned"] > before["loops"]["returned"])


@pytest.mark.parametrize("profile", ["balanced", "strong"])
def test_a_path_weaker_than_the_profile_is_refused_and_nothing_else_is_taken(
    plain: Network, web: WebServer, profile: str
) -> None:
    connections = web.connections
    process = fetch(plain, web, 1000, f"wants+{profile}")
    out, _ = process.communicate(timeout=240)
    assert process.returncode == PROXY_FAILED
    assert out == b""
    assert web.connections == connections
    assert f"profile {profile}" in plain.client()["trouble"]
    assert not [c for c in plain.circuits() if c["profile"] == profile]
    assert fetched(fetch(plain, web, 1000, "wants")) == content(1000)


def test_a_socks_port_of_its_own_for_a_profile(web: WebServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start("--nodes", "4", "--profile", "balanced", changes={"client": {"": {"fast_port": port}}}) as net:
        done = subprocess.run(
            [need("curl", "curl"), "-sS", "--max-time", "60", "--socks5-hostname", f"127.0.0.1:{port}",
             f"http://localhost:{web.port}/bytes/1000"],
            capture_output=True, timeout=90,
        )  # fmt: skip
        assert done.stdout == content(1000), done.stderr
        assert {c["profile"] for c in net.circuits()} == {"balanced", "fast"}
        used = [c for c in net.circuits() if c["state"] == "open"]
        assert [c["profile"] for c in used] == ["fast"]


def test_without_cover_nothing_goes_over_circuits_when_idle(web: WebServer) -> None:
    changes = {"client": {"": {"cover": False}}}
    with start("--nodes", "4", "--profile", "balanced", changes=changes) as net:
        assert fetched(fetch(net, web, 100_000, "a")) == content(100_000)
        before = net.client()
        until("the link is padded all the same", lambda: net.client()["padding_cells"] > before["padding_cells"] + 20)
        assert net.client()["loops"] == {"returned": 0, "lost": 0}


@pytest.mark.parametrize("mix", ["pool", "poisson"])
def test_a_mixer_killed_with_a_full_pool_loses_only_what_it_held_cleanly(web: WebServer, mix: str) -> None:
    with start("--nodes", "6", "--mix", mix) as net:
        running = [fetch(net, web, 2_000_000, f"u{i}") for i in range(10)]
        busy = until("a circuit carries streams", lambda: [c for c in net.circuits() if c["streams"]])
        node = busy[0]["hops"][1]["nickname"]
        until("the mixer holds cells", lambda: net.services()[f"{node}.mixer"]["status"]["held"] > 0, every=0.0)
        os.kill(net.services()[f"{node}.mixer"]["pid"], signal.SIGKILL)
        for process in running:
            out, error = process.communicate(timeout=240)
            assert process.returncode in (0, 18, 52, 56, 97), error
            if process.returncode == 0:
                assert out == content(2_000_000)
        until("a new fetch works", lambda: fetch(net, web, 1000, "after").communicate()[0] == content(1000))
        assert net.total("bugs") == 0
