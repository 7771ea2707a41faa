"""Two network namespaces and between them a path with a delay and a loss: packets go through this process.

    near 10.99.0.1 (tun) == this process: waits, drops == (tun) 10.99.0.2 far

Needs root and /dev/net/tun. The kernel's own TCP and UDP run at both ends over 1,500-byte packets, so what is lost is
repaired by whoever speaks, and nothing ends in between as with a proxy.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
NEAR, FAR = "10.99.0.1", "10.99.0.2"
MAX_WAITING = 4000
"""Packets under way in one direction: what a router holds; more are dropped."""


@dataclass(frozen=True)
class Path:
    """What a packet meets. Args: delay: seconds each way; loss: share of packets lost, each way."""

    delay: float
    loss: float
    near: str = "near"
    far: str = "far"

    def command(self, where: str, *command: str) -> list[str]:
        """A command that runs at one end."""
        return ["ip", "netns", "exec", where, *command]


def available() -> bool:
    """Whether such a path can be made here."""
    return os.geteuid() == 0 and os.access("/dev/net/tun", os.R_OK | os.W_OK)


@contextmanager
def lossy_path(delay: float, loss: float, seed: int = 1) -> Iterator[Path]:
    """A path that lasts as long as the block."""
    path = Path(delay, loss, f"pb-near-{os.getpid()}", f"pb-far-{os.getpid()}")
    try:
        for name in (path.near, path.far):
            subprocess.run(["ip", "netns", "add", name], check=True)
        plan = json.dumps([path.near, path.far, delay, loss, seed])
        with subprocess.Popen([sys.executable, __file__, plan], stdout=subprocess.PIPE) as forwarder:
            assert forwarder.stdout is not None
            forwarder.stdout.readline()
            try:
                yield path
            finally:
                forwarder.kill()
    finally:
        for name in (path.near, path.far):
            subprocess.run(["ip", "netns", "del", name], check=False)


def _tun(namespace: str, address: str, peer: str) -> int:
    """A device in `namespace`; the calling process is in it afterwards."""
    with open(f"/run/netns/{namespace}") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"path", IFF_TUN | IFF_NO_PI))
    for command in (
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", address, "peer", peer, "dev", "path"],
        ["ip", "link", "set", "path", "up", "mtu", "1500", "txqueuelen", "10000"],
    ):
        subprocess.run(command, check=True)
    return device


def forward(near: str, far: str, delay: float, loss: float, seed: int) -> None:
    """Until killed."""
    devices = [_tun(near, NEAR, FAR), _tun(far, FAR, NEAR)]
    dice = random.Random(seed)
    waiting: list[tuple[float, int, int, bytes]] = []
    held, number = [0, 0], 0
    selector = selectors.DefaultSelector()
    for index, device in enumerate(devices):
        selector.register(device, selectors.EVENT_READ, index)
    print("up", flush=True)
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            held[to] -= 1
            try:
                os.write(devices[to], packet)
            except BlockingIOError:
                pass  # lost, as in a full queue
        ready: Any = selector.select(max(0.0, waiting[0][0] - now) if waiting else None)
        now = time.monotonic()
        for key, _ in ready:
            to = 1 - key.data
            for _ in range(64):
                try:
                    packet = os.read(key.fd, 65536)
                except BlockingIOError:
                    break
                if dice.random() >= loss and held[to] < MAX_WAITING:
                    held[to] += 1
                    number += 1
                    heapq.heappush(waiting, (now + delay, number, to, packet))


if __name__ == "__main__":
    forward(*json.loads(sys.argv[1]))
