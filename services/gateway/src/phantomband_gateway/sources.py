"""Where links come from, as far as places are shared by it: an IPv4 /24, an IPv6 /48, or not known.

One host has any number of IPv6 addresses and often some of an IPv4 network, so single addresses are no shares.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from typing import Protocol, TypeVar

from phantomband.core.crypto.random_source import RandomSource

IPV4_BYTES = 3
IPV6_BYTES = 6
"""Of an address: /24 and /48."""

NUMBER_BYTES = 4
KEY_BYTES = 32

NOWHERE = b""
"""The source of links whose address is not known, or is a program on this machine: a reverse proxy, a pluggable
transport, a test network."""


def source_of(ip: bytes) -> bytes:
    """The prefix of a packed address (`transports.base.packed_ip`)."""
    if len(ip) not in (4, 16) or ipaddress.ip_address(ip).is_loopback:
        return NOWHERE
    return ip[: IPV4_BYTES if len(ip) == 4 else IPV6_BYTES]


class SourceNumbers:
    """Names sources to the relay, which learns no address: numbers under a key that this process alone has."""

    def __init__(self, random: RandomSource) -> None:
        self._key = random(KEY_BYTES)

    def of(self, ip: bytes) -> int:
        """Below 2^32; 0: not known."""
        source = source_of(ip)
        if source == NOWHERE:
            return 0
        return int.from_bytes(hmac.digest(self._key, source, "sha3_256")[:NUMBER_BYTES], "big") or 1


class Placed(Protocol):
    """Who has a place in a bounded table."""

    @property
    def place(self) -> tuple[bytes, str]:
        """(source, transport)."""


P = TypeVar("P", bound=Placed)


def crowded(placed: Iterable[P]) -> list[P]:
    """Of those that hold places, the ones of the source that holds most; where several hold as many, of the transport
    among these that holds most. In their order."""
    everyone = list(placed)
    sources: dict[bytes, int] = {}
    for one in everyone:
        sources[one.place[0]] = sources.get(one.place[0], 0) + 1
    most = max(sources.values(), default=0)
    heavy = [one for one in everyone if sources[one.place[0]] == most]
    transports: dict[tuple[bytes, str], int] = {}
    by_name: dict[str, int] = {}
    for one in heavy:
        transports[one.place] = transports.get(one.place, 0) + 1
        by_name[one.place[1]] = by_name.get(one.place[1], 0) + 1
    worst = max(transports, key=lambda place: (by_name[place[1]], transports[place]), default=None)
    return [one for one in heavy if one.place == worst]
