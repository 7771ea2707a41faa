"""Bytes arrive as they were sent, both ways at once, with half-closes and resets; nothing stays behind."""

from __future__ import annotations

import random
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2e_net import Network, until
from e2e_servers import content, echo, reset, sha256, tcp
from e2e_socks import Address, connect, receive, receive_all

pytestmark = pytest.mark.e2e

FLOOD = 30_000_000
"""More bytes than windows and sockets on the way hold."""
MANY = 1000
WARM = 300
AT_ONCE = 20
FILES_SLACK = 8
"""Links that were not there before; a leak of streams would be hundreds."""
RSS_SLACK = 16 << 20
"""Bytes that a service may have grown: pools and caches. 16 KB for each stream."""


def _exchange(s: socket.socket, data: bytes, sizes: random.Random, first: bool) -> bytes:
    """Sends `data` in pieces while receiving; half-closes `first`, or after the other side did.

    Returns: what came.
    """
    other_ended = threading.Event()

    def send() -> None:
        at = 0
        while at < len(data):
            size = sizes.choice((1, 100, 2048, 10_000, sizes.randrange(1, 200_000)))
            if at + size >= len(data) and not first:
                assert other_ended.wait(60)
            s.sendall(data[at : at + size])
            at += size
        if not first:
            assert other_ended.wait(60)
        s.shutdown(socket.SHUT_WR)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            got = receive_all(s)
        finally:
            other_ended.set()
        sending.result(60)
    return got


@pytest.mark.parametrize("application_first", [True, False], ids=["application-first", "target-first"])
@pytest.mark.parametrize("seed", range(5))
def test_both_directions_and_half_closes(network: Network, seed: int, application_first: bool) -> None:
    chance = random.Random(seed)
    up, down = (content(chance.choice((0, 1, 5000, 1_500_000)))[chance.randrange(9) :] for _ in range(2))
    arrived: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        arrived.append(_exchange(connection, down, random.Random(seed + 100), not application_first))

    with tcp(serve) as target, connect(network.socks, target.host, target.port, f"seed{seed}") as s:
        assert sha256(_exchange(s, up, chance, application_first)) == sha256(down)
        until("the target has everything", lambda: arrived)
        assert sha256(arrived[0]) == sha256(up)


def test_a_reset_of_the_target_reaches_the_application(network: Network) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(receive(connection, 5))
        reset(connection)

    with tcp(serve) as target, connect(network.socks, target.host, target.port) as s:
        s.sendall(b"hello")
        assert receive(s, 5) == b"hello"
        with pytest.raises(ConnectionResetError):
            receive_all(s)


def test_a_reset_of_the_application_reaches_the_target(network: Network) -> None:
    seen: list[str] = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(receive(connection, 5))
        try:
            seen.append(f"{connection.recv(1)!r}")
        except OSError as e:
            seen.append(type(e).__name__)

    with tcp(serve) as target:
        s = connect(network.socks, target.host, target.port)
        s.sendall(b"hello")
        assert receive(s, 5) == b"hello"
        reset(s)
        until("the target hears of it", lambda: seen)
    assert seen == ["ConnectionResetError"]


def test_a_close_is_not_a_reset(network: Network) -> None:
    """The target gets the last bytes and an orderly end, though the application closed right behind them."""
    arrived: list[bytes] = []

    with tcp(lambda c: arrived.append(receive_all(c))) as target:
        s = connect(network.socks, target.host, target.port)
        s.sendall(content(300_000))
        s.close()
        until("the target has everything", lambda: arrived)
    assert sha256(arrived[0]) == sha256(content(300_000))


def _flood_or_echo(connection: socket.socket) -> None:
    if receive(connection, 1) == b"F":
        connection.sendall(content(FLOOD))
    else:
        echo(connection)


def test_a_download_that_nobody_reads_stops_no_other_stream(network: Network) -> None:
    """Both are streams of one circuit; the one that stands still keeps its window and no more."""
    with tcp(_flood_or_echo) as target, connect(network.socks, target.host, target.port, "flood") as stalled:
        stalled.sendall(b"F")
        until("it has begun", lambda: select.select([stalled], [], [], 0)[0])
        for _ in range(3):
            with connect(network.socks, target.host, target.port, "flood") as s:
                s.sendall(b"E" + content(400_000))
                s.shutdown(socket.SHUT_WR)
                assert sha256(receive_all(s)) == sha256(content(400_000))
        assert [c["streams"] for c in network.circuits() if c["streams"]] == [1]
        assert sha256(receive_all(stalled)) == sha256(content(FLOOD))


def test_an_upload_that_nobody_reads_stops_no_other_stream(network: Network) -> None:
    reads, arrived = threading.Event(), []

    def serve(connection: socket.socket) -> None:
        if receive(connection, 1) == b"F":
            reads.wait(60)
            arrived.append(sha256(receive_all(connection)))
        else:
            echo(connection)

    with (
        tcp(serve) as target,
        connect(network.socks, target.host, target.port, "flood") as stalled,
        ThreadPoolExecutor(1) as pool,
    ):
        stalled.sendall(b"F")
        sending = pool.submit(stalled.sendall, content(FLOOD))
        with connect(network.socks, target.host, target.port, "flood") as s:
            s.sendall(b"E" + content(400_000))
            s.shutdown(socket.SHUT_WR)
            assert sha256(receive_all(s)) == sha256(content(400_000))
        assert not sending.done(), "nobody reads it, so it cannot all have gone"
        reads.set()
        sending.result(60)
        stalled.shutdown(socket.SHUT_WR)
        until("the target has everything", lambda: arrived, 30)
    assert arrived == [sha256(content(FLOOD))]


def _short(network: Network, target: Address, number: int) -> None:
    data = content(1 + number % 3000)
    with connect(network.socks, target.host, target.port, f"short{number % 4}") as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert receive_all(s) == data


def _many(network: Network, target: Address, count: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(_short, network, target, n) for n in range(count)]:
            done.result(120)


def _quiet(network: Network) -> bool:
    return network.client()["streams_open"] == 0 and network.total("exit_streams", of="relay") == 0


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _rss(pid: int) -> int:
    """Bytes (proc(5): kB in status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def test_1000_short_streams_leave_nothing_behind(network: Network) -> None:
    with tcp(echo) as target:
        _many(network, target, WARM)
        until("no stream is open", lambda: _quiet(network))
        services = {name: s["pid"] for name, s in network.services().items()}
        files = {name: _open_files(pid) for name, pid in services.items()}
        memory = {name: _rss(pid) for name, pid in services.items()}
        opened = network.total("exit_opened", of="relay")
        _many(network, target, MANY)
        assert network.total("exit_opened", of="relay") - opened == MANY
    until("no stream is open", lambda: _quiet(network))
    until(
        "sockets are closed",
        lambda: all(_open_files(pid) <= files[n] + FILES_SLACK for n, pid in services.items()),
    )
    grown = {n: _rss(pid) - memory[n] for n, pid in services.items() if _rss(pid) - memory[n] > RSS_SLACK}
    assert not grown, f"bytes of memory more than before: {grown}"
    assert {n: s["pid"] for n, s in network.services().items()} == services, "a service was restarted meanwhile"
