"""Places: a network namespace for each node and client, on one bridge that is itself in a namespace.

    hub (10.77.0.1/16, bridge, web server, names)
     +- n1  10.77.1.2/16     each with a veth that can be cut, and INPUT rules that can drop
     +- n2  10.77.2.2/16
     +- ...

Nothing here touches the machine's own interfaces. Needs root, `ip` and `iptables`.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
NETWORK = "10.77"
BRIDGE = "hub"
INSIDE = "cable"
"""The name of each place's interface."""


def may_make() -> bool:
    """Whether places can be made here."""
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in ("ip", "iptables", "nsenter"))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _enter(namespace: str) -> None:
    """Moves the calling thread, and no other, into a network namespace."""
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(handle)


@dataclass
class Place:
    """One namespace."""

    namespace: str
    host: str
    thread: ThreadPoolExecutor
    """Its one thread is inside: sockets that it makes belong there, whoever uses them."""

    @property
    def prefix(self) -> list[str]:
        """Before a command that is to run inside, with the same process id."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}"]

    def socket(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this place."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, kind)
            made.setblocking(False)
            return made

        return self.thread.submit(make).result()

    def inside(self, *command: str) -> None:
        _run(*self.prefix, *command)

    def cut(self) -> None:
        """The cable is out: the interface is down, and so are its routes."""
        self.inside("ip", "link", "set", INSIDE, "down")

    def mend_cable(self) -> None:
        self.inside("ip", "link", "set", INSIDE, "up")

    def drop(self, share: float) -> None:
        """Loses so much of what comes and of what goes, without a word; 1.0: a partition."""
        chance = ["-m", "statistic", "--mode", "random", "--probability", str(share)] if share < 1 else []
        for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
            self.inside("iptables", "-w", "-A", chain, way, INSIDE, *chance, "-j", "DROP")

    def mend_rules(self) -> None:
        for chain in ("INPUT", "OUTPUT"):
            self.inside("iptables", "-w", "-F", chain)


@contextmanager
def places(names: Sequence[str]) -> Iterator[dict[str, Place]]:
    """A place for each name, and `hub`."""
    tag = f"pbc{os.getpid()}"
    made: dict[str, Place] = {}
    try:
        made[BRIDGE] = _place(f"{tag}-{BRIDGE}", f"{NETWORK}.0.1")
        hub = made[BRIDGE]
        hub.inside("ip", "link", "add", BRIDGE, "type", "bridge")
        hub.inside("ip", "addr", "add", f"{hub.host}/16", "dev", BRIDGE)
        hub.inside("ip", "link", "set", BRIDGE, "up")
        for i, name in enumerate(names, 1):
            made[name] = place = _place(f"{tag}-{name}", f"{NETWORK}.{i}.2")
            hub.inside(
                "ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", INSIDE, "netns", place.namespace
            )
            hub.inside("ip", "link", "set", f"to-{name}", "master", BRIDGE, "up")
            place.inside("ip", "addr", "add", f"{place.host}/16", "dev", INSIDE)
            place.inside("ip", "link", "set", INSIDE, "up")
        yield made
    finally:
        for place in made.values():
            place.thread.shutdown()
        for left in Path("/run/netns").glob(f"{tag}-*"):
            subprocess.run(["ip", "netns", "del", left.name], check=False)


def _place(namespace: str, host: str) -> Place:
    _run("ip", "netns", "add", namespace)
    place = Place(namespace, host, ThreadPoolExecutor(1, initializer=_enter, initargs=(namespace,)))
    place.inside("ip", "link", "set", "lo", "up")
    return place


class Names:
    """A DNS server's answers: every name is `host`."""

    def __init__(self, host: str) -> None:
        self._host = socket.inet_aton(host)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, query: bytes, where: tuple[str, int]) -> None:
        at = 12
        while at < len(query) and query[at]:
            at += 1 + query[at]
        question = query[12 : at + 5]
        is_a = question[-4:-2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x01\0\4" + self._host if is_a else b""
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
        self._transport.sendto(head + question + answer, where)

    def error_received(self, error: OSError) -> None: ...

    def connection_lost(self, error: Exception | None) -> None: ...
