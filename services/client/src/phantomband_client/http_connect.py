"""HTTP CONNECT (RFC 9110, section 9.3.6): a sans-io negotiation of the second proxy port.

Proxy-Authorization (Basic) authenticates nobody: user and password isolate streams, as over SOCKS.
"""

from __future__ import annotations

import base64
import binascii
import re
import string

from phantomband.core.errors import Malformed
from phantomband.core.stream.messages import EndReason, is_name, target

from phantomband_client import socks
from phantomband_client.socks import Command, Request

MAX_HEAD_BYTES = 16 * 1024
"""Request line and header fields; more is refused."""

_TOKEN = frozenset(bytes((c,)) for c in b"!#$%&'*+-.^_`|~" + string.digits.encode() + string.ascii_letters.encode())
"""What a method may consist of (RFC 9110, section 5.6.2)."""

_BARE_LF = re.compile(rb"(?<!\r)\n")

END_OF_HEAD = b"\r\n\r\n"

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_STATUS = {
    EndReason.REFUSED: (502, "the target refused the connection"),
    EndReason.UNREACHABLE: (502, "the target cannot be reached"),
    EndReason.RESOLVE_FAILED: (502, "the name does not resolve"),
    EndReason.TIMEOUT: (504, "the target did not answer in time"),
    EndReason.POLICY: (403, "no exit allows this target"),
}


def answer(status: int, text: str) -> bytes:
    """An error answer in plain text."""
    body = text.encode() + b"\n"
    fields = f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"HTTP/1.1 {status} {text}\r\n{fields}\r\n\r\n".encode() + body


STAYS_HERE = answer(502, "names like this one mean nothing to an exit, and are not sent to one")
"""For names of special use."""


def failure(reason: EndReason) -> bytes:
    """What the application is told when its stream fails."""
    return answer(*_STATUS.get(reason, (502, "no circuit could carry the stream")))


class HttpNegotiation:
    """One application's request: bytes in, in the end a request or an error."""

    def __init__(self) -> None:
        self.reply = b""
        self._buffer = b""

    def take_reply(self) -> bytes:
        reply, self.reply = self.reply, b""
        return reply

    def receive_untrusted(self, data: bytes) -> tuple[Request, bytes] | None:
        """The request and the bytes behind it, once its head is complete.

        Raises:
            Malformed: send `reply`, then close.
        """
        self._buffer += data
        self._refuse_other(self._buffer[:1])
        head, end, rest = self._buffer.partition(END_OF_HEAD)
        if (bare := _BARE_LF.search(head)) is not None and bare.start() <= MAX_HEAD_BYTES:
            self.reply = answer(400, "lines of an HTTP request end with CR LF")
            raise Malformed("an HTTP head with a bare line feed")
        if len(head) > MAX_HEAD_BYTES + (0 if end else len(END_OF_HEAD) - 1):
            self.reply = answer(431, "the request's head is too large")
            raise Malformed("an HTTP head over its limit")
        if not end:
            return None
        lines = head.split(b"\r\n")
        if not lines[0] and len(lines) > 1:  # RFC 9112, section 2.2: an empty line before the request SHOULD be ignored
            del lines[0]
        return self._parse_untrusted(lines), rest

    def _refuse_other(self, first: bytes) -> None:
        """Says at once what cannot become an HTTP request: who speaks first waits for our answer."""
        if first in (b"", b"\r") or first in _TOKEN:
            return
        if first == b"\x16":
            self.reply = answer(400, "this is an HTTP proxy without TLS; write http:// before its address")
            raise Malformed("TLS on the HTTP port")
        if first == b"\5":
            self.reply = bytes((socks.VERSION, socks.METHOD_REFUSED))
        elif first == b"\4":
            self.reply = socks.SOCKS4_REFUSED
        else:
            self.reply = answer(400, "not an HTTP request")
        raise Malformed("not HTTP")

    def _parse_untrusted(self, lines: list[bytes]) -> Request:
        words = lines[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            self.reply = answer(400, "not an HTTP request")
            raise Malformed("not an HTTP request")
        if words[0] != b"CONNECT":
            self.reply = answer(405, "this proxy serves CONNECT only; use https, or the SOCKS5 port")
            raise Malformed("an HTTP method other than CONNECT")
        try:
            host, _, port = words[1].decode("ascii").rpartition(":")
            where = target(host.strip("[]"), int(port))
            if not is_name(where.host.encode()) or not port.isdigit() or not 0 < where.port < 65536:
                raise ValueError
        except ValueError:
            self.reply = answer(400, "CONNECT needs host:port")
            raise Malformed("CONNECT without host and port") from None
        user, password = _credentials(lines[1:])
        return Request(Command.CONNECT, where, user, password)


def _credentials(fields: list[bytes]) -> tuple[bytes, bytes]:
    for line in fields:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"proxy-authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"basic":
                try:
                    user, _, password = base64.b64decode(token, validate=True).partition(b":")
                except binascii.Error:
                    return b"", b""
                return user, password
    return b"", b""
