"""Address validation by Retry (RFC 9000, section 8.1.2), while many handshakes are half done.

A QUIC handshake costs certificates and signatures before the client has shown that its address is its own, and a first
packet with a made-up address leaves a connection that waits for more than a minute. So above a number of half-open
connections the server first answers with a token, at the cost of one MAC and no memory, and goes on only with who sends
it back from the same address. Below that number nobody pays the extra round trip.

    token = seconds 8 | length 1 | the client's first destination id | our id 8 | MAC 16, of these and the address
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from typing import Any

from phantomband.core.crypto.random_source import RandomSource
from phantomband.transports.quic.library import CONNECTION_ID_BYTES

HALF_OPEN = 64
"""Connections whose handshake is not done, above which addresses are validated."""

TOKEN_SECONDS = 10
"""How long a token is good: a round trip or two."""

PRESSED_SECONDS = 2.0 * TOKEN_SECONDS
"""Addresses are validated so long after the number was last exceeded: tokens that are out are still read."""

MAC_BYTES = 16
KEY_BYTES = 32
_TIME_BYTES = 8


class RetryTokens:
    """What `QuicServer` makes and checks tokens with.

    Args:
        clock: seconds; only differences matter.
    """

    def __init__(self, random: RandomSource, clock: Callable[[], float]) -> None:
        self._key, self._clock = random(KEY_BYTES), clock

    def create_token(
        self, addr: Any, original_destination_connection_id: bytes, retry_source_connection_id: bytes
    ) -> bytes:
        """The token for the client at `addr`."""
        length = bytes((len(original_destination_connection_id),))
        time = int(self._clock()).to_bytes(_TIME_BYTES, "big")
        told = time + length + original_destination_connection_id + retry_source_connection_id
        return told + self._mac(addr, told)

    def validate_token(self, addr: Any, token: bytes) -> tuple[bytes, bytes]:
        """(the client's first destination id, our id).

        Raises:
            ValueError: it is none of ours, of another address, or too old.
        """
        told, mac = token[:-MAC_BYTES], token[-MAC_BYTES:]
        if len(told) <= _TIME_BYTES or not hmac.compare_digest(mac, self._mac(addr, told)):
            raise ValueError("not a token of ours for this address")
        if not 0 <= self._clock() - int.from_bytes(told[:_TIME_BYTES], "big") < TOKEN_SECONDS:
            raise ValueError("an old token")
        ids = told[_TIME_BYTES + 1 :]
        at = told[_TIME_BYTES]
        if len(ids) != at + CONNECTION_ID_BYTES:
            raise ValueError("a token of the wrong form")
        return ids[:at], ids[at:]

    def _mac(self, addr: Any, told: bytes) -> bytes:
        host = ipaddress.ip_address(addr[0].partition("%")[0]).packed
        return hmac.digest(self._key, told + host + int(addr[1]).to_bytes(2, "big"), "sha256")[:MAC_BYTES]


class HalfOpen:
    """The connections of one listener whose handshake is not done.

    Args:
        clock: seconds; only differences matter.
    """

    def __init__(self, clock: Callable[[], float], most: int = HALF_OPEN) -> None:
        self._clock, self._most = clock, most
        self._connections: set[object] = set()
        self._until = float("-inf")

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: object) -> None:
        self._connections.add(connection)

    def discard(self, connection: object) -> None:
        """Its handshake is done, or it is gone."""
        self._connections.discard(connection)

    @property
    def pressed(self) -> bool:
        """Whether addresses are to be validated now."""
        now = self._clock()
        if len(self._connections) >= self._most:
            self._until = now + PRESSED_SECONDS
        return now < self._until
