"""An exit's way to a target: which of its addresses may be tried, in which order, and what a failure means.

Addresses of both families are raced as RFC 8305 says, so that one that swallows packets does not hide another that
works. What this machine lacks (files, ports, memory, IPv6) is told as RESOURCE, which another exit may not lack.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum, auto

from phantomband.core.stream.messages import EndReason

ATTEMPT_SECONDS = 0.25
"""Before the next address is tried beside those under way ("Connection Attempt Delay", RFC 8305, section 5)."""

WINDOW_BYTES = 1024 * 1024
"""Most that a target may send beyond what we have read: 10 MB/s at 100 ms."""

UNSENT_BYTES = 128 * 1024
"""Bytes for a target that the kernel takes before it has sent them; what is under way is not limited."""

MAX_ATTEMPTS = 4
"""Addresses of one target that are tried."""

EXHAUSTED = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
)
"""This machine has no files, memory, ports or family left for another connection."""


class Route(Enum):
    """Where packets for an address would go."""

    OUT = auto()
    OWN = auto()
    """To this machine itself: the address is one of its interfaces'."""
    NONE = auto()
    """Nowhere: such as an IPv6 address where there is no IPv6."""


def route_to(address: str) -> Route:
    """Asks the kernel, which sends nothing: the source that it would choose for an own address is the address.

    Raises:
        OSError: this machine has no files left.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return Route.NONE
        source = ipaddress.ip_address(probe.getsockname()[0])
    return Route.OWN if source == ipaddress.ip_address(address) else Route.OUT


def in_order(addresses: Sequence[str]) -> list[str]:
    """Families in turn, beginning with that of the first address (RFC 8305, section 4)."""
    first = [a for a in addresses if (":" in a) == (":" in addresses[0])]
    others = [a for a in addresses if (":" in a) != (":" in addresses[0])]
    out = []
    for at in range(max(len(first), len(others))):
        out += first[at : at + 1] + others[at : at + 1]
    return out


async def open_socket(address: str, port: int) -> socket.socket:
    """A connected TCP socket, whose buffers in the kernel have an end: see `shrink`. Raises: OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, WINDOW_BYTES)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def shrink(sock: socket.socket, size: int) -> None:
    """From now on the kernel holds `size` bytes of what comes, and books twice that; it does not adjust it any more.

    Left alone, it lets the buffer of a connection that is not read grow to the system's most, 6 MB and more, and counts
    it for our control group: 700 connections of one client that reads nothing took 900 MB.
    """
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


async def race(
    attempts: Sequence[Callable[[], Awaitable[socket.socket]]], seconds: float = ATTEMPT_SECONDS
) -> tuple[int, socket.socket]:
    """(which attempt, its socket): the first that succeeds. The next begins when one fails, or `seconds` after the
    last; those that lose are cancelled and closed.

    Raises:
        OSError: all failed; the last failure that says something of the target, else the last of all.
    """
    waiting = list(enumerate(attempts))
    under_way: dict[asyncio.Future[socket.socket], int] = {}
    failures: list[OSError] = []
    try:
        while waiting or under_way:
            if waiting:
                number, attempt = waiting.pop(0)
                under_way[asyncio.ensure_future(attempt())] = number
            done, _ = await asyncio.wait(
                under_way, timeout=seconds if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                number = under_way.pop(task)
                error = task.exception()
                if error is None:
                    return number, task.result()
                if not isinstance(error, OSError):
                    raise error
                failures.append(error)
    finally:
        await _give_up(under_way)
    raise next((e for e in reversed(failures) if reason_of(e) is not EndReason.RESOURCE), failures[-1])


async def _give_up(tasks: dict[asyncio.Future[socket.socket], int]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and task.exception() is None:
            task.result().close()  # it had succeeded in the same moment


def reason_of(error: OSError) -> EndReason:
    """What the client is told."""
    if isinstance(error, ConnectionRefusedError):
        return EndReason.REFUSED
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return EndReason.TIMEOUT
    if error.errno in EXHAUSTED:
        return EndReason.RESOURCE
    return EndReason.UNREACHABLE
