"""Real obfs4 programs (obfs4proxy, lyrebird) run as Tor runs them: managed proxies of pt-spec, sections 3.2 and 3.3.

A client process is a SOCKS5 proxy that takes the bridge's arguments as user name and password; a server process
listens for obfs4 and connects each client to one local port in the clear.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxies import exactly

LOOPBACK = "127.0.0.1"
PATIENCE = 60.0

PROGRAMS = tuple(name for name in ("obfs4proxy", "lyrebird") if shutil.which(name))
"""Those that are installed."""


@dataclass(frozen=True, slots=True)
class Method:
    """Where a managed proxy listens; for a server also what its clients need."""

    port: int
    arguments: Mapping[str, str]
    pid: int


@contextmanager
def server(program: str, state: Path, target: int, options: str = "") -> Iterator[Method]:
    """`program` as an obfs4 server in front of `target`, a port of the loopback interface.

    Args: options: such as `iat-mode=1`, with semicolons between.
    """
    extra = {
        "TOR_PT_SERVER_TRANSPORTS": "obfs4",
        "TOR_PT_SERVER_BINDADDR": f"obfs4-{LOOPBACK}:0",
        "TOR_PT_ORPORT": f"{LOOPBACK}:{target}",
    }
    if options:
        extra["TOR_PT_SERVER_TRANSPORT_OPTIONS"] = ";".join(f"obfs4:{option}" for option in options.split(";"))
    with _managed(program, state, extra, "SMETHOD") as (pid, words):
        listed = next((w for w in words if w.startswith("ARGS:")), "ARGS:")[5:]
        pairs = (pair.partition("=") for pair in listed.split(",") if pair)
        yield Method(int(words[2].rpartition(":")[2]), {key: value for key, _, value in pairs}, pid)


@contextmanager
def client(program: str, state: Path) -> Iterator[Method]:
    """`program` as an obfs4 client: a SOCKS5 proxy, for `dial`."""
    with _managed(program, state, {"TOR_PT_CLIENT_TRANSPORTS": "obfs4"}, "CMETHOD") as (pid, words):
        yield Method(int(words[3].rpartition(":")[2]), {}, pid)


@contextmanager
def _managed(program: str, state: Path, extra: Mapping[str, str], word: str) -> Iterator[tuple[int, list[str]]]:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    common = {
        "PATH": os.environ.get("PATH", ""),
        "TOR_PT_MANAGED_TRANSPORT_VER": "1",
        "TOR_PT_STATE_LOCATION": str(state),
        "TOR_PT_EXIT_ON_STDIN_CLOSE": "1",
    }
    process = subprocess.Popen(
        shlex.split(program), env=common | dict(extra), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.pid, _method(process, word)
    finally:
        process.kill()
        process.communicate()


def _method(process: subprocess.Popen[str], word: str) -> list[str]:
    assert process.stdout is not None
    for line in process.stdout:
        words = line.split()
        if words[:2] == [word, "obfs4"]:
            return words
        assert not words[0].endswith("ERROR"), line
    raise AssertionError("the program ended before it listened")


def dial(proxy: int, port: int, arguments: Mapping[str, str]) -> socket.socket:
    """A connection through a client process at port `proxy` to the obfs4 server at `port`; blocking, with patience.

    Raises:
        ConnectionError: the proxy could not connect.
    """
    s = socket.create_connection((LOOPBACK, proxy), PATIENCE)
    try:
        line = ";".join(f"{key}={value}" for key, value in arguments.items()).encode()
        name, password = line[:255], line[255:] or b"\0"
        s.sendall(b"\x05\x01\x02")
        assert exactly(s, 2) == b"\x05\x02"
        s.sendall(b"\x01" + bytes([len(name)]) + name + bytes([len(password)]) + password)
        assert exactly(s, 2) == b"\x01\x00"
        s.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(LOOPBACK) + port.to_bytes(2, "big"))
        answer = exactly(s, 10)
        if answer[1]:
            raise ConnectionError(f"SOCKS5 reply {answer[1]}")
    except BaseException:
        s.close()
        raise
    return s
