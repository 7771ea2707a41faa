"""The upgrade to a WebSocket over HTTP/1.1 (RFC 6455, section 4), at the client and at the server."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

from phantomband.core.errors import Malformed
from phantomband.transports.browser.persona import Persona, as_request
from phantomband.transports.website.http import Request, parse_headers_untrusted, tokens

RandomSource = Callable[[int], bytes]

KEY_BYTES = 16
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""

MAX_ANSWER = 16 * 1024
"""Bytes of an answer's head."""


def accept_of(key: str) -> str:
    """Value of Sec-WebSocket-Accept. SHA-1 is no protection here, but the protocol's form."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()


class ClientUpgrade:
    """The client's. Args: random: 16 bytes are taken."""

    def __init__(self, persona: Persona, host: str, path: str, random: RandomSource) -> None:
        key = base64.b64encode(random(KEY_BYTES)).decode()
        self.request = as_request(f"GET {path} HTTP/1.1", persona.websocket(host, key))
        self._accept = accept_of(key)
        self._answer = bytearray()

    def receive_untrusted(self, data: bytes) -> bytes | None:
        """Takes what the server sends. Returns: what came behind the answer, once there is one that agrees.

        Raises:
            Malformed: the server does not agree, or this is no answer.
        """
        self._answer += data
        end = self._answer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._answer) > MAX_ANSWER:
                raise Malformed("the answer's head is too long")
            return None
        status, _, lines = bytes(self._answer[:end]).partition(b"\r\n")
        if status[:12] != b"HTTP/1.1 101":
            shown = status[9:12].decode() if status[9:12].isdigit() else "no status"
            raise Malformed(f"the server gives no WebSocket there ({shown})")
        headers = parse_headers_untrusted(lines)
        if not hmac.compare_digest(headers.get("sec-websocket-accept", "").encode(), self._accept.encode()):
            raise Malformed("the server's answer is for another request")
        if "websocket" not in tokens(headers.get("upgrade", "")):
            raise Malformed("the server's answer is no upgrade")
        if "sec-websocket-extensions" in headers:
            raise Malformed("the server wants an extension of WebSocket")
        return bytes(self._answer[end + 4 :])


def is_upgrade(request: Request) -> bool:
    """Whether `request` is a whole WebSocket upgrade that can be accepted."""
    try:
        key = base64.b64decode(request.headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        return False
    return (
        request.method == "GET"
        and request.version == (1, 1)
        and len(key) == KEY_BYTES
        and request.headers.get("sec-websocket-version") == "13"
        and "websocket" in tokens(request.headers.get("upgrade", ""))
        and "upgrade" in tokens(request.headers.get("connection", ""))
    )


def same_path(request: Request, secret: bytes) -> bool:
    """Whether the path is the secret one. In a time that depends on neither. Args: secret: its SHA-256."""
    return hmac.compare_digest(hashlib.sha256(request.target.encode()).digest(), secret)
