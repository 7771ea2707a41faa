"""Free ports for listeners: below the range from which the kernel takes ports for outgoing connections.

A port inside that range may be taken by one node's outgoing connection before another node binds it.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Sequence
from pathlib import Path

from phantomband.core.errors import UserError

LOOPBACK = "127.0.0.1"
_LOWEST = 20_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(transports: Sequence[str]) -> list[int]:
    """A free port for each of `transports`, all different.

    Raises:
        UserError: there are none.
    """
    candidates = list(range(_LOWEST, _highest()))
    random.shuffle(candidates)
    found: list[int] = []
    for transport in transports:
        while candidates and not can_bind(port := candidates.pop(), transport):
            pass
        if not candidates:
            raise UserError(f"no free ports on {LOOPBACK}. Stop what listens there")
        found.append(port)
    return found


def can_bind(port: int, transport: str = "tcp") -> bool:
    """Whether `port` of the loopback interface is free."""
    kind = socket.SOCK_DGRAM if transport == "quic" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as s:
        if transport != "quic":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def proxy_port(flag: str, wanted: int) -> int:
    """`wanted`, or a free port if that is 0.

    Raises:
        UserError: it is taken.
    """
    if wanted == 0:
        return free_ports(["tcp"])[0]
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((LOOPBACK, wanted))
        except OSError as e:
            why = "is taken by another program" if e.errno == errno.EADDRINUSE else f"cannot be used ({e.strerror})"
            raise UserError(
                f"port {wanted} of {LOOPBACK} {why}. Choose another with {flag} (0: any free one)"
            ) from None
    return wanted


def _highest() -> int:
    try:
        return max(_LOWEST + 1000, int(_EPHEMERAL.read_text().split()[0]))
    except (OSError, ValueError):
        return 32_768
