"""UDP sockets that send and receive many datagrams in one system call (segmentation and receive offload)."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from qh3.asyncio._transport import create_optimized_datagram_transport

SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
"""Of the UDP socket: a burst that finds it full is lost and halves the sender's rate."""


def udp_socket(host: str) -> socket.socket:
    """A non-blocking socket of the family of `host`, an IP address."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    return sock


async def endpoint(make: Callable[[], Any], sock: socket.socket) -> Any:
    """The protocol that `make` gives, on `sock`, which it owns from now on."""
    _, protocol = await create_optimized_datagram_transport(asyncio.get_running_loop(), make, sock)
    return protocol
