"""`phantomband pt` beside obfs4proxy: the same bytes through each as a pair of managed obfs4 programs.

    source -> SOCKS5 -> client program -> obfs4 -> server program -> sink

Rounds are interleaved; MB is 10^6 bytes; CPU seconds are those of the two programs; `up` is the time from the start of
a client program to its CMETHOD line. Needs obfs4proxy (or lyrebird).

Run: python bench/micro_pt.py [MB a transfer, default 64] [rounds, default 5]. The last line is one JSON object.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
import managed_pt

OURS = f"{Path(sys.executable).with_name('phantomband')} pt"
TICKS = os.sysconf("SC_CLK_TCK")
CHUNK = bytes(256 * 1024)


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def transfer(program: str, size: int, root: Path) -> dict[str, float]:
    """Figures of one transfer from client to server."""
    arrived = threading.Event()

    def sink(listener: socket.socket) -> None:
        with listener.accept()[0] as s:
            left = size
            while left:
                left -= len(s.recv(min(left, len(CHUNK))))
            arrived.set()

    with (
        socket.create_server((managed_pt.LOOPBACK, 0)) as listener,
        managed_pt.server(program, root / "server", listener.getsockname()[1], "iat-mode=0") as server,
    ):
        started = time.monotonic()
        with managed_pt.client(program, root / "client") as client:
            up = time.monotonic() - started
            threading.Thread(target=sink, args=(listener,), daemon=True).start()
            with managed_pt.dial(client.port, server.port, server.arguments) as s:
                before, begun = cpu(client.pid) + cpu(server.pid), time.monotonic()
                for at in range(0, size, len(CHUNK)):
                    s.sendall(CHUNK[: size - at])
                arrived.wait()
                seconds = time.monotonic() - begun
                spent = cpu(client.pid) + cpu(server.pid) - before
    return {"mb_s": size / 1e6 / seconds, "cpu_s_gb": spent / (size / 1e9), "up_s": up}


def main() -> None:
    size = int(sys.argv[1] if len(sys.argv) > 1 else 64) * 1_000_000
    rounds = int(sys.argv[2] if len(sys.argv) > 2 else 5)
    programs = {"phantomband pt": OURS, **{name: name for name in managed_pt.PROGRAMS}}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory(prefix="pbb") as folder:
        for _ in range(rounds):
            for at, (name, program) in enumerate(programs.items()):
                found[name].append(transfer(program, size, Path(folder, str(at))))
    result = {}
    for name, figures in found.items():
        result[name] = {key: round(statistics.median(f[key] for f in figures), 3) for key in figures[0]}
        ranges = {key: (min(f[key] for f in figures), max(f[key] for f in figures)) for key in figures[0]}
        said = (
            f"{key} {value:7.2f} ({ranges[key][0]:.2f} to {ranges[key][1]:.2f})" for key, value in result[name].items()
        )
        print(f"{name:16}", "  ".join(said))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
