"""SOCKS5 (RFC 1928, RFC 1929) with Tor's RESOLVE and RESOLVE_PTR commands: a sans-io negotiation.

User name and password authenticate nobody: they isolate streams, as Tor's do. Names are never looked up here.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from phantomband.core.errors import Malformed
from phantomband.core.stream.messages import Answer, EndReason, Kind, Target, is_name, target

VERSION = 5
METHOD_NONE = 0
METHOD_PASSWORD = 2
METHOD_REFUSED = 0xFF
MAX_BYTES = 1 + 255 + 3 + 2 * 255 + 4 + 256 + 2
"""Longest legal negotiation; more bytes before the request is complete are an error."""

SOCKS4_REFUSED = b"\0\x5b" + bytes(6)
"""SOCKS4's "request rejected or failed"."""

NOT_SOCKS = (
    b"HTTP/1.1 501 This is a SOCKS5 proxy, not an HTTP proxy\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks SOCKS5. Set it as the SOCKS host of your program (curl: --socks5-hostname HOST:PORT),\n"
    b"or start the client with http_port for an HTTP proxy.\n"
)


class Command(IntEnum):
    CONNECT = 1
    RESOLVE = 0xF0
    RESOLVE_PTR = 0xF1


class Reply(IntEnum):
    """Reply codes (RFC 1928, section 6)."""

    SUCCEEDED = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_NOT_SUPPORTED = 8


REPLY_FOR = {
    EndReason.REFUSED: Reply.REFUSED,
    EndReason.UNREACHABLE: Reply.HOST_UNREACHABLE,
    EndReason.RESOLVE_FAILED: Reply.HOST_UNREACHABLE,
    EndReason.TIMEOUT: Reply.TTL_EXPIRED,
    EndReason.POLICY: Reply.NOT_ALLOWED,
}
"""What an application is told of each way to fail; every other one is FAILURE."""


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """What the application wants. `user` and `password` are empty when it gave none."""

    command: Command
    target: Target
    user: bytes
    password: bytes


class Stage(Enum):
    GREETING = auto()
    PASSWORD = auto()
    REQUEST = auto()
    DONE = auto()


class Negotiation:
    """One application's negotiation: bytes in, replies out, in the end a request or an error."""

    def __init__(self) -> None:
        self.reply = b""
        """What to send; take it after each `receive`."""
        self._buffer = b""
        self._stage = Stage.GREETING
        self._user = self._password = b""

    def receive_untrusted(self, data: bytes) -> tuple[Request, bytes] | None:
        """The request and the bytes behind it, once it is complete.

        Raises:
            Malformed: not SOCKS5, or a request that cannot be served; send `reply`, then close.
        """
        self._buffer += data
        while self._stage is not Stage.DONE:
            step = {Stage.GREETING: self._greeting, Stage.PASSWORD: self._login, Stage.REQUEST: self._request}
            done = step[self._stage]()
            if done is None:
                if len(self._buffer) > MAX_BYTES:
                    raise Malformed("a SOCKS negotiation over its longest")
                return None
            if isinstance(done, Request):
                self._stage = Stage.DONE
                return done, self._buffer
        return None

    def take_reply(self) -> bytes:
        reply, self.reply = self.reply, b""
        return reply

    def _take(self, size: int) -> bytes:
        out, self._buffer = self._buffer[:size], self._buffer[size:]
        return out

    def _greeting(self) -> bool | None:
        b = self._buffer
        if b and b[0] != VERSION:
            self._refuse_other(b[0])
        if len(b) < 2 or len(b) < 2 + b[1]:
            return None
        methods = self._take(2 + b[1])[2:]
        if METHOD_PASSWORD in methods:
            self.reply += bytes((VERSION, METHOD_PASSWORD))
            self._stage = Stage.PASSWORD
        elif METHOD_NONE in methods:
            self.reply += bytes((VERSION, METHOD_NONE))
            self._stage = Stage.REQUEST
        else:
            self.reply += bytes((VERSION, METHOD_REFUSED))
            raise Malformed("no SOCKS authentication method that this proxy has")
        return True

    def _refuse_other(self, first: int) -> None:
        if first == 4:
            self.reply += SOCKS4_REFUSED
            raise Malformed("SOCKS4: names would be resolved locally; use SOCKS5")
        if 0x41 <= first & 0xDF <= 0x5A:  # a letter of either case
            self.reply += NOT_SOCKS
        raise Malformed("not SOCKS5")

    def _login(self) -> bool | None:
        """RFC 1929: version 1 | length 1 | user | length 1 | password."""
        b = self._buffer
        if b and b[0] != 1:
            self.reply += b"\1\1"
            raise Malformed("unknown version of SOCKS user/password")
        if len(b) < 2 or len(b) < 3 + b[1] or len(b) < 3 + b[1] + b[2 + b[1]]:
            return None
        user_end = 2 + b[1]
        raw = self._take(user_end + 1 + b[user_end])
        self._user, self._password = raw[2:user_end], raw[user_end + 1 :]
        self.reply += b"\1\0"
        self._stage = Stage.REQUEST
        return True

    def _request(self) -> Request | None:
        b = self._buffer
        if len(b) < 5:
            return None
        if b[0] != VERSION:
            raise Malformed("a SOCKS request of another version")
        size = {1: 10, 3: 7 + b[4], 4: 22}.get(b[3])
        if size is None:
            self.reply += failure(Reply.ADDRESS_NOT_SUPPORTED)
            raise Malformed("unknown SOCKS address type")
        if len(b) < size:
            return None
        raw = self._take(size)
        where = _target_untrusted(raw, self)
        try:
            command = Command(raw[1])
        except ValueError:
            self.reply += failure(Reply.COMMAND_NOT_SUPPORTED)
            raise Malformed("only CONNECT, RESOLVE and RESOLVE_PTR are served") from None
        return Request(command, where, self._user, self._password)


def _target_untrusted(raw: bytes, negotiation: Negotiation) -> Target:
    port = int.from_bytes(raw[-2:], "big")
    if raw[3] == 1:
        return Target(Kind.IPV4, str(ipaddress.IPv4Address(raw[4:8])), port)
    if raw[3] == 4:
        return Target(Kind.IPV6, str(ipaddress.IPv6Address(raw[4:20])), port)
    name = raw[5:-2].strip(b"[]")
    if not is_name(name):
        negotiation.reply += failure(Reply.ADDRESS_NOT_SUPPORTED)
        raise Malformed("a SOCKS host name must be printable ASCII")
    return target(name.decode("ascii"), port)


def failure(reply: Reply) -> bytes:
    """A reply without an address."""
    return bytes((VERSION, reply, 0, 1)) + bytes(6)


def success(answer: Answer | None = None) -> bytes:
    """The reply to a CONNECT, or to a RESOLVE with its answer. A CONNECT never tells the bound address."""
    if answer is None:
        return failure(Reply.SUCCEEDED)
    if answer.kind is Kind.NAME:
        name = answer.value.encode("ascii")
        return bytes((VERSION, 0, 0, 3, len(name))) + name + bytes(2)
    packed = ipaddress.ip_address(answer.value).packed
    return bytes((VERSION, 0, 0, 1 if answer.kind is Kind.IPV4 else 4)) + packed + bytes(2)
