"""The extended ORPort: how a server program tells where a connection came from. Both ends, sans-io.

    server  AuthTypes 1, 0           client  AuthType 1 | ClientNonce 32
    server  ServerHash 32 | ServerNonce 32
    client  ClientHash 32            server  Status 1
    then    command 2 | length 2 | body      USERADDR "192.0.2.1:80", TRANSPORT "obfs4", DONE -> OKAY

Source: ext-orport-spec.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from phantomband.core.crypto.random_source import RandomSource
from phantomband.core.errors import Forged, Malformed, UserError
from phantomband.core.wire import u16
from phantomband.transports.base import packed_ip
from phantomband.transports.managed.messages import endpoint_untrusted
from phantomband.transports.managed.steps import Steps

HEADER = b"! Extended ORPort Auth Cookie !\x0a"
COOKIE_BYTES = 32
NONCE_BYTES = 32
HASH_BYTES = 32
SAFE_COOKIE = 1
TO_CLIENT = b"ExtORPort authentication server-to-client hash"
TO_SERVER = b"ExtORPort authentication client-to-server hash"

DONE, USERADDR, TRANSPORT = 0x0000, 0x0001, 0x0002
OKAY, DENY = 0x1000, 0x1001

MAX_BODY = 512
"""Bytes of one command. Our choice: an endpoint and a transport's name are shorter."""

MAX_TYPES = 255
"""Ways to authenticate that a server names, one byte each: there are no more numbers."""

MAX_COMMANDS = 16
"""Of one connection before DONE."""


def new_cookie(path: Path, random: RandomSource) -> bytes:
    """Writes a cookie file, mode 0600, and returns its secret. "Tor should regenerate the cookie file on startup"."""
    cookie = random(COOKIE_BYTES)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as f:
        f.write(HEADER + cookie)
    part.rename(path)
    return cookie


def read_cookie(path: Path) -> bytes:
    """The secret in a cookie file.

    Raises:
        UserError: there is none, or it is no cookie file.
    """
    try:
        with path.open("rb") as f:
            data = f.read(len(HEADER) + COOKIE_BYTES + 1)
    except OSError as e:
        raise UserError(f"the cookie file cannot be read ({e.strerror})") from None
    if len(data) != len(HEADER) + COOKIE_BYTES or not data.startswith(HEADER):
        raise UserError("the cookie file is not one of an extended ORPort")
    return data[len(HEADER) :]


class _Machine(Steps):
    """What both ends of the port do alike."""

    def _command_untrusted(self) -> tuple[int, bytes] | None:
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[2:4], "big")
        if length > MAX_BODY:
            raise Malformed("a command of the extended port is too long")
        whole = self._take(4 + length)
        return None if whole is None else (int.from_bytes(whole[:2], "big"), whole[4:])


class Serving(_Machine):
    """Our end, in a gateway. Args: cookie: 32 bytes; random: of the nonce."""

    def __init__(self, cookie: bytes, random: RandomSource) -> None:
        super().__init__()
        self.peer_ip = b""
        """Packed; empty until the program has said it."""
        self._cookie, self._nonce = cookie, random(NONCE_BYTES)
        self._expected = b""
        self._step = self._hello
        self._commands = 0
        self._reply = bytes((SAFE_COOKIE, 0))

    def _hello(self) -> bool | None:
        if self._buffer and self._buffer[0] != SAFE_COOKIE:
            raise Malformed("an unknown way to authenticate")
        taken = self._take(1 + NONCE_BYTES)
        if taken is None:
            return None
        nonces = taken[1:] + self._nonce
        self._expected = hmac.digest(self._cookie, TO_SERVER + nonces, hashlib.sha256)
        self._reply += hmac.digest(self._cookie, TO_CLIENT + nonces, hashlib.sha256) + self._nonce
        self._step = self._proof
        return False

    def _proof(self) -> bool | None:
        taken = self._take(HASH_BYTES)
        if taken is None:
            return None
        if not hmac.compare_digest(taken, self._expected):
            self._reply += b"\0"
            raise Forged("the program does not know the cookie")
        self._reply += b"\1"
        self._step = self._commands_until_done
        return False

    def _commands_until_done(self) -> bool | None:
        command = self._command_untrusted()
        if command is None:
            return None
        self._commands += 1
        if self._commands > MAX_COMMANDS:
            raise Malformed("too many commands")
        number, body = command
        if number == USERADDR:
            host, _ = endpoint_untrusted(body.decode("ascii", "replace"))
            self.peer_ip = packed_ip(host)
        elif number == DONE:
            self._reply += u16(OKAY) + u16(0)
            return True
        return False


class Calling(_Machine):
    """A server program's end.

    Args: cookie: 32 bytes; transport: its name; peer: `IP:PORT` of the client, nothing if not known.
    """

    def __init__(self, cookie: bytes, transport: str, peer: str, random: RandomSource) -> None:
        super().__init__()
        self.peer_ip = b""
        self._cookie, self._transport, self._peer = cookie, transport, peer
        self._nonce = random(NONCE_BYTES)
        self._step = self._types

    def _types(self) -> bool | None:
        end = self._buffer.find(0, 0, MAX_TYPES + 1)
        if end < 0:
            if len(self._buffer) > MAX_TYPES:
                raise Malformed("too many ways to authenticate")
            return None
        if SAFE_COOKIE not in self._buffer[:end]:
            raise Malformed("the extended port does not know SAFE_COOKIE")
        self._buffer = self._buffer[end + 1 :]
        self._reply += bytes((SAFE_COOKIE,)) + self._nonce
        self._step = self._hash
        return False

    def _hash(self) -> bool | None:
        taken = self._take(HASH_BYTES + NONCE_BYTES)
        if taken is None:
            return None
        nonces = self._nonce + taken[HASH_BYTES:]
        if not hmac.compare_digest(taken[:HASH_BYTES], hmac.digest(self._cookie, TO_CLIENT + nonces, hashlib.sha256)):
            raise Forged("the extended port does not know the cookie")
        self._reply += hmac.digest(self._cookie, TO_SERVER + nonces, hashlib.sha256)
        self._step = self._status
        return False

    def _status(self) -> bool | None:
        taken = self._take(1)
        if taken is None:
            return None
        if taken != b"\1":
            raise Forged("the extended port refused our proof")
        for number, text in ((USERADDR, self._peer), (TRANSPORT, self._transport)):
            if text:
                self._reply += u16(number) + u16(len(text)) + text.encode()
        self._reply += u16(DONE) + u16(0)
        self._step = self._answer
        return False

    def _answer(self) -> bool | None:
        command = self._command_untrusted()
        if command is not None and command[0] == DENY:
            raise Malformed("the extended port wants no such connection")
        return None if command is None else command[0] == OKAY
