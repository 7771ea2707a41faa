"""SOCKS5 as a parent process speaks it to us: CONNECT to an IP address, with arguments. A sans-io negotiation.

    arguments   user name and password (pt-spec, section 3.5); or a JSON parameter block, method 9: length 4 | JSON
                (PT 2.x, Dispatcher IPC Interface)

Source: RFC 1928, RFC 1929. Names are never looked up: CONNECT to one is refused.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass

from phantomband.core.errors import Malformed
from phantomband.transports.managed.arguments import MAX_ARGUMENTS, of_credentials_untrusted

VERSION, LOGIN_VERSION = 5, 1
NO_LOGIN, LOGIN, JSON_BLOCK, REFUSED = 0, 2, 9, 0xFF
CONNECT = 1
IPV4, NAME, IPV6 = 1, 3, 4

SUCCEEDED, FAILURE, COMMAND_UNKNOWN, ADDRESS_UNKNOWN = 0, 1, 7, 8
"""Reply codes (RFC 1928, section 6)."""

MAX_JSON = 8192
"""Bytes. Our choice."""

MAX_BYTES = 2 + 255 + 4 + MAX_JSON + 4 + 256 + 2
"""Of a whole negotiation."""


@dataclass(frozen=True, slots=True, repr=False)
class Wanted:
    """Where to connect, and the arguments by the names that parents use."""

    host: str
    port: int
    arguments: dict[str, str]


def reply(code: int) -> bytes:
    """The answer to CONNECT; the bound address is not told."""
    return bytes((VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0))


class Accepting:
    """One application's negotiation, up to its request. The reply to that is the caller's."""

    peer_ip = b""

    def __init__(self) -> None:
        self.wanted: Wanted | None = None
        self._arguments: dict[str, str] = {}
        self._buffer = b""
        self._reply = b""
        self._step: Callable[[], bool | None] = self._greeting

    def take_reply(self) -> bytes:
        taken, self._reply = self._reply, b""
        return taken

    def receive_untrusted(self, data: bytes) -> bytes | None:
        """What came behind the request, once that is whole; send `take_reply` after each call.

        Raises:
            Malformed: no SOCKS5, or nothing that we do; send `take_reply`, then close.
        """
        self._buffer += data
        while True:
            done = self._step()
            if done is None:
                if len(self._buffer) > MAX_BYTES:
                    raise Malformed("a SOCKS negotiation over its longest")
                return None
            if done:
                return self._buffer

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _greeting(self) -> bool | None:
        b = self._buffer
        if b and b[0] != VERSION:
            raise Malformed("not SOCKS5")
        if len(b) < 2 or len(b) < 2 + b[1]:
            return None
        methods = self._take(2 + b[1])[2:]
        steps = {LOGIN: self._login, JSON_BLOCK: self._json, NO_LOGIN: self._request}
        chosen = next((method for method in steps if method in methods), REFUSED)
        self._reply += bytes((VERSION, chosen))
        if chosen == REFUSED:
            raise Malformed("no way to authenticate that we know")
        self._step = steps[chosen]
        return False

    def _login(self) -> bool | None:
        b = self._buffer
        if b and b[0] != LOGIN_VERSION:
            raise Malformed("an unknown version of the password's form")
        if len(b) < 2 or len(b) < 3 + b[1] or len(b) < 3 + b[1] + b[2 + b[1]]:
            return None
        user = self._take(2 + b[1])[2:]
        password = self._take(1 + self._buffer[0])[1:]
        try:
            self._arguments = of_credentials_untrusted(user, password)
        except Malformed:
            self._reply += bytes((LOGIN_VERSION, FAILURE))
            raise
        self._reply += bytes((LOGIN_VERSION, SUCCEEDED))
        self._step = self._request
        return False

    def _json(self) -> bool | None:
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if length > MAX_JSON:
            raise Malformed("too many arguments")
        if len(self._buffer) < 4 + length:
            return None
        self._arguments = _json_untrusted(self._take(4 + length)[4:])
        self._step = self._request
        return False

    def _request(self) -> bool | None:
        b = self._buffer
        if len(b) < 5:
            return None
        if b[0] != VERSION or b[2]:
            self._reply += reply(FAILURE)
            raise Malformed("a request that is none")
        sizes = {IPV4: 4, IPV6: 16, NAME: 1 + b[4]}
        if b[1] != CONNECT or b[3] not in sizes:
            self._reply += reply(COMMAND_UNKNOWN if b[1] != CONNECT else ADDRESS_UNKNOWN)
            raise Malformed("a request that we do not serve")
        if len(b) < 4 + sizes[b[3]] + 2:
            return None
        taken = self._take(4 + sizes[b[3]] + 2)
        host = self._literal(taken[5:-2] if taken[3] == NAME else taken[4:-2], taken[3] == NAME)
        self.wanted = Wanted(host, int.from_bytes(taken[-2:], "big"), self._arguments)
        return True

    def _literal(self, raw: bytes, as_text: bool) -> str:
        try:
            return str(ipaddress.ip_address(raw.decode("ascii") if as_text else raw))
        except ValueError:
            self._reply += reply(ADDRESS_UNKNOWN)
            raise Malformed("the host is a name, and names are not looked up here") from None


def _json_untrusted(block: bytes) -> dict[str, str]:
    try:
        found = json.loads(block)
    except (ValueError, RecursionError):
        raise Malformed("the arguments are not JSON") from None
    if not isinstance(found, dict) or len(found) > MAX_ARGUMENTS:
        raise Malformed("the arguments are not one object of JSON, or too many")
    if not all(isinstance(value, str | int) for value in found.values()):
        raise Malformed("the arguments are not text")
    return {key: str(value) for key, value in found.items()}
