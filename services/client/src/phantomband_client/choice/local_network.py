"""Which network this machine is on, without asking anybody: the router's hardware address, from what the kernel knows.

What blocks a transport is mostly the network that one is in. Its name here is a keyed hash under a key that never
leaves the client's directory, so the file that remembers networks does not tell which they were.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

ROUTES = Path("/proc/net/route")
NEIGHBOURS = Path("/proc/net/arp")

UNKNOWN = b"unknown"
"""No router: no network, one of IPv6 only, or another system than Linux."""

NAME_BYTES = 16


def local_network(salt: bytes, routes: Path = ROUTES, neighbours: Path = NEIGHBOURS) -> str:
    """A name of the network around us, 32 hex digits."""
    return hmac.new(salt, _router(routes, neighbours), hashlib.sha256).digest()[:NAME_BYTES].hex()


def _router(routes: Path, neighbours: Path) -> bytes:
    """Hardware address of the default router, or its IP address, or `UNKNOWN`."""
    gateway = next((row[2] for row in _rows(routes) if len(row) > 2 and row[1] == "00000000"), None)
    try:
        ip = ".".join(str(byte) for byte in reversed(bytes.fromhex(gateway or "")))
    except ValueError:
        return UNKNOWN
    hardware = next((row[3] for row in _rows(neighbours) if len(row) > 3 and row[0] == ip), None)
    return (hardware or ip).encode() or UNKNOWN


def _rows(file: Path) -> list[list[str]]:
    """Words of all lines but the first."""
    try:
        return [line.split() for line in file.read_text().splitlines()[1:]]
    except OSError:
        return []
