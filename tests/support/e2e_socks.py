"""A SOCKS5 client in plain sockets (RFC 1928, RFC 1929), with RESOLVE (Tor's socks-extensions)."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

CONNECT = 1
RESOLVE = 0xF0
RESOLVE_PTR = 0xF1


class SocksFailed(Exception):
    """The proxy's reply code was not 0."""

    def __init__(self, code: int) -> None:
        super().__init__(f"SOCKS reply {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of a proxy or server."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        host, _, port = text.rpartition(":")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def receive(s: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes."""
    parts = b""
    while len(parts) < size:
        part = s.recv(size - len(parts))
        if not part:
            raise EOFError(f"{len(parts)} of {size} bytes")
        parts += part
    return parts


def receive_all(s: socket.socket) -> bytes:
    """Everything until the other side's end."""
    parts = []
    while part := s.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def connect(proxy: Address, host: str, port: int, user: str = "", timeout: float = 60.0) -> socket.socket:
    """A connection to host:port through the proxy. Raises: SocksFailed."""
    s, _ = _request(proxy, CONNECT, host, port, user, timeout)
    return s


def resolve(proxy: Address, host: str, timeout: float = 60.0) -> str:
    """An address of a name, or the name of an address. Raises: SocksFailed."""
    command = RESOLVE_PTR if _packed(host)[0] != 3 else RESOLVE
    s, answer = _request(proxy, command, host, 0, "", timeout)
    s.close()
    return answer


def _request(
    proxy: Address, command: int, host: str, port: int, user: str, timeout: float
) -> tuple[socket.socket, str]:
    s = socket.create_connection((proxy.host, proxy.port), timeout)
    try:
        _log_in(s, user.encode())
        kind, address = _packed(host)
        s.sendall(bytes((5, command, 0, kind)) + address + port.to_bytes(2, "big"))
        return s, _reply(s)
    except BaseException:
        s.close()
        raise


def _log_in(s: socket.socket, user: bytes) -> None:
    s.sendall(b"\5\1\2" if user else b"\5\1\0")
    method = receive(s, 2)[1]
    if method == 2:
        s.sendall(bytes((1, len(user))) + user + b"\1x")
        assert receive(s, 2) == b"\1\0"
    else:
        assert method == 0


def _packed(host: str) -> tuple[int, bytes]:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return 3, bytes((len(host),)) + host.encode("ascii")
    return (1 if ip.version == 4 else 4), ip.packed


def _reply(s: socket.socket) -> str:
    version, code, _, kind = receive(s, 4)
    assert version == 5
    raw = receive(s, {1: 4, 4: 16}.get(kind) or receive(s, 1)[0])
    receive(s, 2)
    if code:
        raise SocksFailed(code)
    return raw.decode("ascii") if kind == 3 else str(ipaddress.ip_address(raw))
