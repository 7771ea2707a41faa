"""Faults: services killed, stopped and flooded while real downloads run. Others go on, and the network heals."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from e2e_net import Network, need, until
from e2e_net import network as start
from e2e_servers import WebServer, content
from e2e_socks import Address, SocksFailed, connect

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

DOWNLOADS = 20
SIZE = 8_000_000
HEAL_SECONDS = 15.0
"""Until a new fetch works after a kill; the machine is also busy with the downloads that go on."""


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with start("--nodes", "6") as running:
        yield running


def download(net: Network, web: WebServer, user: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [need("curl", "curl"), "-sS", "--max-time", "120", "--proxy-user", f"{user}:x", "--socks5-hostname",
         str(net.socks),
         f"http://localhost:{web.port}/bytes/{SIZE}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def outcomes(downloads: list[subprocess.Popen[bytes]]) -> tuple[int, list[str]]:
    """(whole downloads, errors of the others). A wrong byte or a hang (curl's 28) fails the test: clean errors only."""
    expected = hashlib.sha256(content(SIZE)).digest()
    whole, errors = 0, []
    for process in downloads:
        out, error = process.communicate(timeout=150)
        if process.returncode == 0:
            assert hashlib.sha256(out).digest() == expected
            whole += 1
        else:
            assert process.returncode in (18, 52, 56, 97), error
            errors.append(error.decode(errors="replace"))
    return whole, errors


def fetch_works(net: Network, web: WebServer, user: str) -> bool:
    process = download(net, web, user)
    out, _ = process.communicate(timeout=150)
    return process.returncode == 0 and len(out) == SIZE


def names(net: Network) -> list[str]:
    """Nicknames on the path of a circuit that carries streams, guard first."""
    busy = until("a circuit carries streams", lambda: [c for c in net.circuits() if c["streams"]])
    return [hop["nickname"] for hop in busy[0]["hops"]]


def settle(net: Network) -> None:
    """Every service is back, and nothing is left of the streams."""
    until("all services serve", lambda: all(s["state"] == "serving" for s in net.services().values()), 60)
    until("no stream is left at the client", lambda: net.client()["streams_open"] == 0)
    until("no stream is left at an exit", lambda: net.total("exit_streams", of="relay") == 0)
    assert net.total("bugs") == 0
    for log in net.logs():
        assert "Traceback" not in log.read_text(errors="replace"), log.name


@pytest.mark.parametrize("service", ["relay", "mixer", "gateway", "directory"])
@pytest.mark.parametrize("hop", [0, 1, 2], ids=["guard", "middle", "exit"])
def test_kill_of_any_service_while_downloads_run(net: Network, web: WebServer, service: str, hop: int) -> None:
    running = [download(net, web, f"{service}{hop}u{i}") for i in range(DOWNLOADS)]
    node = names(net)[hop]
    before = net.services()[f"{node}.{service}"]
    os.kill(before["pid"], signal.SIGKILL)
    killed = time.monotonic()
    until(
        "a new fetch works",
        lambda: fetch_works_within(net, web, f"new{service}{hop}{time.monotonic()}", 10),
        HEAL_SECONDS,
    )
    healed = time.monotonic() - killed
    whole, errors = outcomes(running)
    print(f"{node}.{service}: healed in {healed:.1f} s, {whole} of {DOWNLOADS} whole")
    assert whole + len(errors) == DOWNLOADS
    if service == "directory":
        assert whole == DOWNLOADS
    settle(net)
    assert net.services()[f"{node}.{service}"]["pid"] != before["pid"]


def test_a_relay_that_stops_reading_stalls_only_its_own_circuits(net: Network, web: WebServer) -> None:
    running = [download(net, web, f"stall{i}") for i in range(DOWNLOADS)]
    path = names(net)
    services = net.services()
    stopped = [services[f"{path[1]}.{s}"]["pid"] for s in ("gateway", "relay", "mixer")]
    memory = {name: rss(s["pid"]) for name, s in services.items()}
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert any(fetch_works_within(net, web, f"other{i}", 20) for i in range(8)), (
            "nothing works beside the stopped relay"
        )
        for name, service in net.services().items():
            grown = rss(service["pid"]) - memory[name]
            assert grown < 200_000_000, f"{name} grew by {grown} bytes"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    outcomes(running)
    settle(net)


def fetch_works_within(net: Network, web: WebServer, user: str, seconds: float) -> bool:
    process = download(net, web, user)
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    return process.returncode == 0 and len(out) == SIZE


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_streams_at_once_are_bounded_and_counted(net: Network, web: WebServer) -> None:
    """One application opens 10,000 streams; what is beyond the limits is refused, nothing hangs or stays behind."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = {name: rss(s["pid"]) for name, s in net.services().items()}
    with collector() as target, ThreadPoolExecutor(48) as pool:
        opened = [s for s in pool.map(lambda i: open_one(net, target, i), range(10_000)) if s is not None]
        print(f"{len(opened)} of 10,000 streams were opened at once")
        assert len(opened) >= 4000, "an exit takes 1,024 streams a circuit and 4,096 altogether"
        held = {name: rss(s["pid"]) - before[name] for name, s in net.services().items()}
        assert max(held.values()) < 400_000_000, held
        assert net.total("exit_refused", of="relay") > 0
        for s in opened[::50]:  # two exits may be all that this client's guard leaves, and both are full
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()  # with a reset: the target never closes its side, so half-closed streams would stay
        until("a fetch works meanwhile", lambda: fetch_works(net, web, "meanwhile"))
        for s in opened:
            s.close()
    assert fetch_works(net, web, "afterwards")
    settle(net)


COLLECTOR = """
import socket, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
listener, taken = socket.create_server(("127.0.0.1", 0), backlog=4096), []
print(listener.getsockname()[1], flush=True)
while True:
    taken.append(listener.accept()[0])
"""


@contextmanager
def collector() -> Iterator[Address]:
    """A TCP server, a process of its own, that takes connections and keeps them."""
    with subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Address("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.kill()


def open_one(net: Network, target: Address, number: int) -> socket.socket | None:
    """A stream that stays open; four users, each of which fills more than one circuit."""
    try:
        return connect(net.socks, target.host, target.port, user=f"flood{number % 4}", timeout=120)
    except (SocksFailed, OSError, EOFError):  # EOFError: the client itself has its most, and closes unanswered
        return None
