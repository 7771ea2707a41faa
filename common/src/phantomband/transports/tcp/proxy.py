"""A proxy of the user's own, through which every TCP connection is dialled: HTTP CONNECT or SOCKS5.

HTTP: RFC 9110, section 9.3.6, with basic authentication (RFC 7617). SOCKS5: RFC 1928, with name and password (RFC
1929). Targets are IP addresses; nothing is looked up, neither here nor by the proxy.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from phantomband.core.errors import Malformed, UserError
from phantomband.transports.base import Accept, Address, Buffer
from phantomband.transports.tcp.connection import StreamConnection

MAX_ANSWER = 16 * 1024
"""Bytes of an HTTP proxy's head."""

SOCKS, NO_AUTHENTICATION, PASSWORD, CONNECT = 5, 0, 2, 1
"""RFC 1928, sections 3 and 4."""

REPLIES = {
    1: "it failed", 2: "its rules forbid it", 3: "the network cannot be reached", 4: "the host cannot be reached",
    5: "the connection was refused", 6: "it took too long", 7: "it cannot connect", 8: "it has no such addresses",
}  # fmt: skip
"""Of SOCKS5 (RFC 1928, section 6)."""

FORM = "Write http://IP:PORT, http://USER:PASSWORD@IP:PORT or socks5://... with an IP address"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy is. Its repr has no address and no password."""

    scheme: str = field(repr=False)
    host: str = field(repr=False)
    port: int = field(repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    user_agent: str = field(default="", repr=False)
    """What an HTTP proxy is told; a browser's, so that its log shows nothing else."""

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """From a URL.

        Raises:
            UserError: it cannot be used; the text does not repeat it, for it may hold a password.
        """
        try:
            url = urlsplit(text)
            host, port = str(ipaddress.ip_address(url.hostname or "")), url.port
            user, password = unquote(url.username or ""), unquote(url.password or "")
        except ValueError:
            raise UserError(f"upstream_proxy: there is no IP address and port in it. {FORM}") from None
        if url.scheme not in ("http", "socks5") or not port or url.path not in ("", "/") or url.query:
            raise UserError(f"upstream_proxy: it is no URL of an HTTP or SOCKS5 proxy. {FORM}")
        if max(len(user.encode()), len(password.encode())) > 255 or ":" in user or not (user + password).isprintable():
            raise UserError("upstream_proxy: user and password have at most 255 bytes, and the user has no colon")
        return cls(url.scheme, host, port, user, password)


Shaken = Callable[[Malformed | None], None]


class ProxyHandshake:
    """The receiver of the connection to the proxy until that has connected; then `accept` gives the next.

    Args:
        target: where the proxy is to connect.
        settled: told once: None, or what went wrong.
    """

    def __init__(
        self, connection: StreamConnection, proxy: Proxy, target: Address, accept: Accept, settled: Shaken
    ) -> None:
        self._connection, self._proxy, self._target = connection, proxy, target
        self._accept, self._settled = accept, settled
        self._data = bytearray()
        self._steps = [self._http] if proxy.scheme == "http" else [self._method, self._login, self._reply]
        if proxy.scheme == "socks5" and not proxy.user:
            self._steps.remove(self._login)
        self._over = False

    def start(self) -> None:
        """The client speaks first."""
        if self._proxy.scheme == "http":
            self._send(http_request(self._proxy, self._target))
        else:
            methods = (PASSWORD,) if self._proxy.user else (NO_AUTHENTICATION,)
            self._send(bytes((SOCKS, len(methods), *methods)))

    def _send(self, data: bytes) -> None:
        self._connection.write(data)
        self._connection.flush()

    def received(self, data: Buffer) -> None:
        if self._over:
            return
        self._data += data
        try:
            while self._steps and self._steps[0]():
                self._steps.pop(0)
        except Malformed as error:
            self._end(error)
            return
        if not self._steps:
            self._over = True
            receiver = self._accept(self._connection)
            self._connection.hand_over(receiver)
            self._settled(None)
            if self._data:
                receiver.received(bytes(self._data))

    def writable(self) -> None:
        return

    def closed(self, error: Exception | None) -> None:
        self._end(Malformed("it closed the connection"))

    def _end(self, error: Malformed) -> None:
        if not self._over:
            self._over = True
            self._connection.abort()
            self._settled(error)

    # steps: each returns whether it is done, and takes what it has read; each raises Malformed

    def _take(self, count: int) -> bytes:
        part = bytes(self._data[:count])
        del self._data[:count]
        return part

    def _http(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > MAX_ANSWER or not b"HTTP/1.".startswith(self._data[:7]):
                raise Malformed("its answer is not HTTP")
            return False
        status = self._take(end + 4).split(b"\r\n")[0].split(b" ", 2)
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not (status[1].isdigit() and len(status[1]) == 3):
            raise Malformed("its answer is not HTTP")
        if status[1] == b"407":
            raise Malformed("it wants another user and password (407)")
        if not status[1].startswith(b"2"):
            raise Malformed(f"it does not connect there ({status[1].decode()})")
        return True

    def _method(self) -> bool:
        if len(self._data) < 2:
            return False
        version, method = self._take(2)
        if version != SOCKS:
            raise Malformed("its answer is not SOCKS5")
        if method != (PASSWORD if self._proxy.user else NO_AUTHENTICATION):
            raise Malformed("it wants a user and password" if not self._proxy.user else "it takes no password")
        if self._proxy.user:
            user, password = self._proxy.user.encode(), self._proxy.password.encode()
            self._send(bytes((1, len(user))) + user + bytes((len(password),)) + password)
        else:
            self._send(socks_request(self._target))
        return True

    def _login(self) -> bool:
        if len(self._data) < 2:
            return False
        if self._take(2)[1] != 0:
            raise Malformed("it wants another user and password")
        self._send(socks_request(self._target))
        return True

    def _reply(self) -> bool:
        if len(self._data) < 5:
            return False
        version, reply, _, kind, length = self._data[:5]
        if version != SOCKS or kind not in (1, 3, 4):
            raise Malformed("its answer is not SOCKS5")
        if reply != 0:
            raise Malformed(f"it does not connect there: {REPLIES.get(reply, 'for a reason of its own')}")
        size = 4 + {1: 4, 3: 1 + length, 4: 16}[kind] + 2
        if len(self._data) < size:
            return False
        self._take(size)
        return True


def http_request(proxy: Proxy, target: Address) -> bytes:
    """A CONNECT as Chromium writes it."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{host}:{target.port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", "Proxy-Connection: keep-alive"]
    if proxy.user_agent:
        lines.append(f"User-Agent: {proxy.user_agent}")
    if proxy.user:
        login = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {login}")
    return "\r\n".join((*lines, "", "")).encode()


def socks_request(target: Address) -> bytes:
    ip = ipaddress.ip_address(target.host)
    return bytes((SOCKS, CONNECT, 0, 1 if ip.version == 4 else 4)) + ip.packed + target.port.to_bytes(2, "big")
