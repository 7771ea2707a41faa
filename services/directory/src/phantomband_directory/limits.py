"""How much a peer may ask and be answered: token buckets of requests and of bytes, in bounded memory.

A key that a link proves is worth nothing by itself: anybody makes up a thousand. So a bucket of its own has a directory
of the set, and a node of the newest view, each of which costs an address that was reached. All others share by where
they come from: a /24 (IPv6 /48), its /16 (/32), all of them; links without an address (DoH through a resolver,
pluggable transports) are one /16. A refusal takes nothing from the wider shares.

Answers count in bytes: a view is three megabytes, its request nine bytes. A bucket of bytes may go below zero by one
answer and refills first.

When strangers have used up what all of them may, each network has a little of a reserve: so many networks have to flood
(1,000 for requests) before one that asks now and then is kept waiting.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from phantomband.core.netdir.public_address import networks

MAX_BUCKETS = 4096
"""Kept of each kind; beyond it the one least recently used is forgotten, and then full again."""

ANY = 1e12

Rule = tuple[float, float]
"""Tokens a second, and at once."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests, or bytes of answers."""

    directory: Rule
    member: Rule
    near: Rule
    far: Rule
    strangers: Rule
    reserve: Rule
    quiet: Rule
    """Of the reserve, one /24."""


REQUESTS = Rates(
    directory=(100.0, 1000.0), member=(10.0, 60.0), near=(10.0, 60.0), far=(40.0, 240.0), strangers=(100.0, 400.0),
    reserve=(100.0, 400.0), quiet=(0.1, 8.0),
)  # fmt: skip

MIB = 1024.0 * 1024.0

BYTES = Rates(
    directory=(4 * MIB, 64 * MIB), member=(MIB / 4, 8 * MIB), near=(MIB / 8, 8 * MIB), far=(MIB / 2, 16 * MIB),
    strangers=(2 * MIB, 32 * MIB), reserve=(2 * MIB, 32 * MIB), quiet=(2048.0, 4 * MIB),
)  # fmt: skip
"""A view of 3.5 MiB twice at once to one /24, and then each half minute; 16 Mbit/s at most to all strangers."""

_FREE = (ANY, ANY)
TEST_NETWORK = Rates(_FREE, (100.0, 1000.0), _FREE, _FREE, (1000.0, 4000.0), (1000.0, 4000.0), _FREE)
TEST_NETWORK_BYTES = Rates(_FREE, _FREE, _FREE, _FREE, (64 * MIB, 256 * MIB), (64 * MIB, 256 * MIB), _FREE)
"""Nodes of a test network share an address."""

_NO_ADDRESS = b"none"
_ALL = b""


class _Buckets:
    """Of one kind."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._held: dict[bytes, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def left(self, key: bytes, now: float) -> float:
        rate, burst = self.rule
        held = self._held.get(key)
        return burst if held is None else min(burst, held[0] + max(0.0, now - held[1]) * rate)

    def take(self, key: bytes, amount: float, now: float) -> None:
        left = self.left(key, now) - amount
        self._held.pop(key, None)
        self._held[key] = (left, now)  # at the end again: the first is the least recently used
        if len(self._held) > MAX_BUCKETS:
            del self._held[next(iter(self._held))]


class _Meter:
    """Requests, or bytes."""

    def __init__(self, rates: Rates) -> None:
        self.directory, self.member = _Buckets(rates.directory), _Buckets(rates.member)
        self.near, self.far = _Buckets(rates.near), _Buckets(rates.far)
        self.strangers, self.reserve, self.quiet = map(_Buckets, (rates.strangers, rates.reserve, rates.quiet))

    def __len__(self) -> int:
        kinds = (self.directory, self.member, self.near, self.far, self.strangers, self.reserve, self.quiet)
        return sum(map(len, kinds))

    def strangers_path(self, near: bytes, far: bytes, least: float, now: float) -> list[tuple[_Buckets, bytes]] | None:
        """The buckets that a stranger draws on; None: one of them is empty."""
        shares = [(self.near, near), (self.far, far)] if near else [(self.far, far)]
        if any(buckets.left(key, now) < least for buckets, key in shares):
            return None
        if self.strangers.left(_ALL, now) >= least:
            return [*shares, (self.strangers, _ALL)]
        last = [(self.quiet, near or far), (self.reserve, _ALL)]
        return [*shares, *last] if all(buckets.left(key, now) >= least for buckets, key in last) else None


class Limits:
    """Of one directory.

    Args:
        directories: link keys of the set.
        members: whether a link key is that of a node of the newest view.
    """

    def __init__(
        self,
        directories: frozenset[bytes],
        members: Callable[[bytes], bool] = lambda peer: False,
        *,
        test_network: bool = False,
    ) -> None:
        self._directories, self._members = directories, members
        self._requests = _Meter(TEST_NETWORK if test_network else REQUESTS)
        self._bytes = _Meter(TEST_NETWORK_BYTES if test_network else BYTES)

    def __len__(self) -> int:
        """Buckets kept."""
        return len(self._requests) + len(self._bytes)

    def allow(self, peer: bytes, now: float, ip: bytes = b"") -> bool:
        """Takes one request of the peer's share.

        Args:
            peer: the link key that its link proved, or empty.
            ip: packed address of the link's other end; empty if there is none.
        """
        path = self._path(self._requests, peer, ip, 1.0, now)
        if path is None or self._path(self._bytes, peer, ip, 1.0, now) is None:
            return False
        for buckets, key in path:
            buckets.take(key, 1.0, now)
        return True

    def answered(self, peer: bytes, ip: bytes, size: int, now: float) -> None:
        """So many bytes went out."""
        for buckets, key in self._path(self._bytes, peer, ip, 1.0, now) or ():
            buckets.take(key, float(size), now)

    def _path(
        self, meter: _Meter, peer: bytes, ip: bytes, least: float, now: float
    ) -> list[tuple[_Buckets, bytes]] | None:
        """The buckets that this peer draws on; None: one of them is empty."""
        if peer in self._directories:
            own = meter.directory
        elif peer and self._members(peer):
            own = meter.member
        else:
            return meter.strangers_path(*share_of(ip), least, now)
        return [(own, peer)] if own.left(peer, now) >= least else None


def share_of(ip: bytes) -> tuple[bytes, bytes]:
    """The networks that a packed address counts for: /24 and /16, or /48 and /32; without one, none
    and the same for all."""
    if not ip:
        return b"", _NO_ADDRESS
    _, near, far = networks(ipaddress.ip_address(ip))
    return near, far
