"""`phantomband pt` as a program: real bytes through it and obfs4proxy, in both roles; its limits and its end."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import managed_pt
import pytest

OURS = f"{sys.executable} -m phantomband_cli.main pt"
SIZE = 3_000_000
PATIENCE = 60.0

needs_obfs4proxy = pytest.mark.skipif(
    shutil.which("obfs4proxy") is None, reason="obfs4proxy is not installed: our program is not tried with it"
)
PAIRS = [
    pytest.param(OURS, "obfs4proxy", marks=needs_obfs4proxy, id="our client"),
    pytest.param("obfs4proxy", OURS, marks=needs_obfs4proxy, id="our server"),
    pytest.param(OURS, OURS, id="both ours"),
]


def send_and_take(s: socket.socket, data: bytes, count: int) -> bytes:
    """Both at once. Returns: SHA-256 of `count` bytes that came."""
    s.settimeout(PATIENCE)
    sender = threading.Thread(target=s.sendall, args=(data,), daemon=True)
    sender.start()
    digest = hashlib.sha256()
    while count:
        part = s.recv(min(count, 65536))
        assert part, "closed early"
        digest.update(part)
        count -= len(part)
    sender.join()
    return digest.digest()


@pytest.mark.parametrize(("client", "server"), PAIRS)
@pytest.mark.parametrize("transport_options", ["iat-mode=0"])
def test_megabytes_both_ways(client: str, server: str, transport_options: str, tmp_path: Path) -> None:
    forth, back = os.urandom(SIZE), os.urandom(SIZE)
    came: list[bytes] = []
    done = threading.Event()

    def behind(listener: socket.socket) -> None:
        with listener.accept()[0] as s:
            came.append(send_and_take(s, back, SIZE))
            done.wait(PATIENCE)

    with (
        socket.create_server((managed_pt.LOOPBACK, 0)) as listener,
        managed_pt.server(server, tmp_path / "s", listener.getsockname()[1], transport_options) as listening,
        managed_pt.client(client, tmp_path / "c") as proxy,
    ):
        thread = threading.Thread(target=behind, args=(listener,), daemon=True)
        thread.start()
        with managed_pt.dial(proxy.port, listening.port, listening.arguments) as s:
            assert send_and_take(s, forth, SIZE) == hashlib.sha256(back).digest()
            done.set()
            thread.join(PATIENCE)
        assert came == [hashlib.sha256(forth).digest()]


@contextmanager
def running(
    state: Path, more: Mapping[str, str], until: str = "METHODS DONE"
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Our program, and what it said."""
    environment = {
        "PATH": os.environ["PATH"],
        "TOR_PT_MANAGED_TRANSPORT_VER": "1",
        "TOR_PT_STATE_LOCATION": str(state),
        **more,
    }
    with subprocess.Popen(
        OURS.split(), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.rstrip())
                if until in line:
                    break
            yield process, lines
        finally:
            process.kill()


CLIENT = {"TOR_PT_CLIENT_TRANSPORTS": "future,obfs4,tls"}


def port(lines: list[str]) -> int:
    (line,) = (line for line in lines if line.startswith("CMETHOD obfs4"))
    return int(line.rpartition(":")[2])


def test_unknown_transports_are_ignored(tmp_path: Path) -> None:
    with running(tmp_path, CLIENT) as (_, lines):
        assert [line.split(":")[0] for line in lines] == [
            "VERSION 1",
            "CMETHOD obfs4 socks5 127.0.0.1",
            "CMETHOD tls socks5 127.0.0.1",
            "CMETHODS DONE",
        ]
        assert list(tmp_path.iterdir()) == [], "a client keeps nothing"


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "stdin"])
def test_it_ends_when_it_shall(tmp_path: Path, how: str) -> None:
    more = CLIENT | ({"TOR_PT_EXIT_ON_STDIN_CLOSE": "1"} if how == "stdin" else {})
    with running(tmp_path, more) as (process, _):
        if how == "stdin":
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(getattr(signal, how))
        assert process.wait(PATIENCE) == 0


def test_a_closed_standard_input_means_nothing_if_nobody_said_so(tmp_path: Path) -> None:
    with running(tmp_path, CLIENT) as (process, lines):
        assert process.stdin is not None
        process.stdin.close()
        with socket.create_connection((managed_pt.LOOPBACK, port(lines)), PATIENCE) as s:
            s.sendall(b"\5\1\0")
            assert s.recv(2) == b"\5\0"
        assert process.poll() is None


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """A parent that is killed, and had not asked to be watched by the standard input."""
    code = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    environment = {**os.environ, **CLIENT, "TOR_PT_MANAGED_TRANSPORT_VER": "1", "TOR_PT_STATE_LOCATION": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code, *OURS.split()], env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        while "METHODS DONE" not in parent.stdout.readline():
            pass
        parent.kill()
        parent.wait()
        assert parent.stdout.read() == "", "the pipe closes when the program ends"
        end = time.monotonic() + PATIENCE
        while alive(pid):
            assert time.monotonic() < end
            time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_sigint_lets_connections_end_first(tmp_path: Path) -> None:
    with (
        socket.create_server((managed_pt.LOOPBACK, 0)) as behind,
        running(
            tmp_path,
            {"TOR_PT_SERVER_TRANSPORTS": "tls", "TOR_PT_ORPORT": f"127.0.0.1:{behind.getsockname()[1]}",
             "TOR_PT_SERVER_BINDADDR": "tls-127.0.0.1:0"},
        ) as (server, listening),
        running(tmp_path, {"TOR_PT_CLIENT_TRANSPORTS": "tls"}) as (_, lines),
    ):  # fmt: skip
        (method,) = (line for line in listening if line.startswith("SMETHOD tls"))
        arguments = dict(pair.split("=", 1) for pair in method.split("ARGS:")[1].split(","))
        assert set(arguments) == {"knock", "sni"}
        at = int(method.split()[2].rpartition(":")[2])
        with managed_pt.dial(int(lines[1].rpartition(":")[2]), at, arguments) as s, behind.accept()[0] as app:
            s.sendall(b"before")
            assert app.recv(10) == b"before"
            server.send_signal(signal.SIGINT)
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection((managed_pt.LOOPBACK, at), PATIENCE).close()
                except ConnectionRefusedError:
                    break
                except ConnectionResetError:
                    pass  # it was on the way when the port closed
                assert time.monotonic() < end
            app.sendall(b"after")
            assert s.recv(10) == b"after"
            assert server.poll() is None
        assert server.wait(PATIENCE) == 0


def test_a_dial_that_fails_is_answered_and_told_without_its_address(tmp_path: Path) -> None:
    with running(tmp_path, CLIENT) as (process, lines), socket.socket() as closed:
        closed.bind((managed_pt.LOOPBACK, 0))
        arguments = {"cert": "A" * 70, "iat-mode": "0"}
        with pytest.raises(ConnectionError, match="reply 1"):
            managed_pt.dial(port(lines), closed.getsockname()[1], arguments)
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        said = process.stdout.readline()
        assert said.startswith("STATUS TRANSPORT=obfs4 CONNECT=Failed ERRSTR=")
        assert "127.0.0.1" not in said


def test_a_server_that_cannot_listen_says_so_and_others_do(tmp_path: Path) -> None:
    with socket.create_server((managed_pt.LOOPBACK, 0)) as taken:
        used = taken.getsockname()[1]
        more = {
            "TOR_PT_SERVER_TRANSPORTS": "obfs4,tls,future",
            "TOR_PT_SERVER_BINDADDR": f"obfs4-127.0.0.1:{used},tls-127.0.0.1:0",
            "TOR_PT_ORPORT": "127.0.0.1:1",
        }
        with running(tmp_path, more) as (_, lines):
            assert [" ".join(line.split()[:2]) for line in lines] == [
                "VERSION 1",
                "SMETHOD-ERROR obfs4",
                "SMETHOD tls",
                "SMETHODS DONE",
            ]


def test_a_reader_that_pauses_holds_its_writer_back(tmp_path: Path) -> None:
    """What is on the way is in the kernel's buffers and a little of ours, and all of it arrives."""
    with (
        socket.create_server((managed_pt.LOOPBACK, 0)) as behind,
        managed_pt.server(OURS, tmp_path / "s", behind.getsockname()[1]) as server,
        managed_pt.client(OURS, tmp_path / "c") as client,
        managed_pt.dial(client.port, server.port, server.arguments) as s,
        behind.accept()[0] as app,
    ):
        memory = resident(client.pid) + resident(server.pid)
        s.settimeout(1.0)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 256_000_000:
                sent += s.send(bytes(65536))
        assert resident(client.pid) + resident(server.pid) - memory < 24_000_000
        came = 0
        app.settimeout(PATIENCE)
        while came < sent:
            came += len(app.recv(1_000_000))
        s.sendall(b"more")
        assert app.recv(100).endswith(b"more")


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_negotiations_are_bounded(tmp_path: Path) -> None:
    with running(tmp_path, CLIENT) as (_, lines):
        held = [socket.create_connection((managed_pt.LOOPBACK, port(lines)), PATIENCE) for _ in range(256)]
        for s in held:
            s.sendall(b"\5")
        with socket.create_connection((managed_pt.LOOPBACK, port(lines)), PATIENCE) as over:
            try:
                assert over.recv(1) == b""
            except ConnectionResetError:
                pass
        for s in held:
            s.close()
        end = time.monotonic() + PATIENCE
        while True:
            with socket.create_connection((managed_pt.LOOPBACK, port(lines)), PATIENCE) as s:
                try:
                    s.sendall(b"\5\1\0")
                    if s.recv(2) == b"\5\0":
                        break
                except ConnectionError:
                    pass
            assert time.monotonic() < end


def test_the_server_tells_the_parent_who_came(tmp_path: Path) -> None:
    """The extended ORPort, with Tor's part played by our gateway's."""
    from phantomband.transports.managed.extended_port import Serving, new_cookie

    secret = new_cookie(tmp_path / "cookie", os.urandom)
    with socket.create_server((managed_pt.LOOPBACK, 0)) as behind:
        more = {
            "TOR_PT_SERVER_TRANSPORTS": "obfs4",
            "TOR_PT_SERVER_BINDADDR": "obfs4-127.0.0.1:0",
            "TOR_PT_EXTENDED_SERVER_PORT": f"127.0.0.1:{behind.getsockname()[1]}",
            "TOR_PT_AUTH_COOKIE_FILE": str(tmp_path / "cookie"),
        }
        with (
            running(tmp_path / "s", more) as (_, lines),
            managed_pt.client(OURS, tmp_path / "c") as client,
        ):
            method = lines[1].split()
            arguments = dict(pair.split("=", 1) for pair in method[3][5:].replace("\\=", "=").split(","))
            s = managed_pt.dial(client.port, int(method[2].rpartition(":")[2]), arguments)
            with s, behind.accept()[0] as app:
                app.settimeout(PATIENCE)
                serving = Serving(secret, os.urandom)
                rest = None
                while rest is None:
                    if reply := serving.take_reply():
                        app.sendall(reply)
                    rest = serving.receive_untrusted(app.recv(1000))
                assert serving.peer_ip == b"\x7f\0\0\1"
                app.sendall(serving.take_reply() + b"hello")
                assert s.recv(10) == b"hello"
