"""A host of its own, as a program: `unshare --net --mount python e2e_lonely_host.py PLAN`.

It has no network but loopback, and no names but localhost; its resolver is ours and counts. Gateways are
reached by Unix sockets `directory`/PORT that somebody outside leads on. On it run a PhantomBand client and
curl. PLAN is JSON:

    directory, ports, genesis: where the sockets are, which, and the network's genesis file
    urls: to fetch; failing: URLs that must fail

The last line of output is JSON:

    control: number of queries of a program that does resolve names
    queries: all others, by name
    fetched: SHA-256 of each of `urls`
    socks_codes: of each of `failing`
    resolved: the first URL's host, by SOCKS RESOLVE
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
"""linux/sockios.h, linux/if.h"""
DNS_PORT = 53
SOCKS_PORT = 9150
UP_SECONDS = 60.0


def splice(one: socket.socket, other: socket.socket) -> None:
    """Leads two connections into each other, in threads, until one ends."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for s in (source, sink):
            with suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    for pair in ((one, other), (other, one)):
        threading.Thread(target=copy, args=pair, daemon=True).start()


class CountingResolver:
    """Answers every DNS query (RFC 1035, section 4.1.1) with "no such name", and notes what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", DNS_PORT))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, sender = self._socket.recvfrom(4096)
            self.asked.append(_question(query))
            self._socket.sendto(query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:], sender)


def _question(query: bytes) -> str:
    labels, at = [], 12
    while at < len(query) and (size := query[at]):
        labels.append(query[at + 1 : at + 1 + size].decode("ascii", "replace"))
        at += 1 + size
    return ".".join(labels)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", request, 16)
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def _own_names(directory: Path) -> None:
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("hosts", "127.0.0.1 localhost\n")):
        (directory / name).write_text(text)
        subprocess.run(["mount", "--bind", str(directory / name), f"/etc/{name}"], check=True)


def _lead_out(directory: Path, port: int) -> None:
    listener = socket.create_server(("127.0.0.1", port))

    def accept() -> None:
        while True:
            near, _ = listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(directory / str(port)))
            splice(near, far)

    threading.Thread(target=accept, daemon=True).start()


def _curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["curl", "-sS", "--max-time", "60", "--noproxy", "", *arguments], capture_output=True, check=False
    )


def _client(plan: Any) -> subprocess.Popen[bytes]:
    """A client that has bootstrapped."""
    directory = Path(plan["directory"])
    config = directory / "client.toml"
    config.write_text(
        f'genesis = "{plan["genesis"]}"\ndata_dir = "{directory}/data"\n'
        f'socks_port = {SOCKS_PORT}\n[log]\nlevel = "debug"\n'
    )
    client = subprocess.Popen(
        [sys.executable, "-m", "phantomband_cli.main", "client", "--config", str(config)],
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    timer = threading.Timer(UP_SECONDS, client.kill)
    timer.daemon = True
    timer.start()
    for line in client.stdout:
        if b"100%" in line:
            timer.cancel()
            return client
    raise SystemExit("the client did not bootstrap")


def _work(plan: Any, resolver: CountingResolver) -> dict[str, Any]:
    from e2e_socks import Address, resolve

    proxy = Address("127.0.0.1", SOCKS_PORT)
    answer: dict[str, Any] = {"fetched": [], "socks_codes": []}
    before = len(resolver.asked)
    for url in plan["urls"]:
        done = _curl("--fail", "--socks5-hostname", str(proxy), url)
        answer["fetched"].append(
            hashlib.sha256(done.stdout).hexdigest() if not done.returncode else done.stderr.decode()
        )
    for url in plan["failing"]:
        done = _curl("--socks5-hostname", str(proxy), url)
        code = re.search(rb"\((\d+)\)\s*$", done.stderr)
        answer["socks_codes"].append(int(code.group(1)) if code else done.stderr.decode())
    answer["resolved"] = resolve(proxy, str(urlsplit(plan["urls"][0]).hostname))
    answer["queries"] = resolver.asked[before:]
    return answer


def main() -> None:
    plan = json.loads(sys.argv[1])
    directory = Path(plan["directory"])
    _loopback_up()
    _own_names(directory)
    resolver = CountingResolver()
    for port in plan["ports"]:
        _lead_out(directory, port)
    _curl("http://control.example.org/")
    control, resolver.asked = len(resolver.asked), []
    client = _client(plan)
    try:
        started, resolver.asked = list(resolver.asked), []
        answer = _work(plan, resolver)
    finally:
        client.kill()
    print(json.dumps({**answer, "control": control, "queries": started + answer["queries"]}))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
