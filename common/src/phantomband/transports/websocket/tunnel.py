"""What becomes of a request at the server that has the secret path and asks for a WebSocket."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable

from websockets.protocol import Side

from phantomband.transports.base import Accept, packed_ip
from phantomband.transports.layered import Lower
from phantomband.transports.website import answers
from phantomband.transports.website.http import Request
from phantomband.transports.websocket.connection import WebSocketConnection
from phantomband.transports.websocket.upgrade import accept_of, is_upgrade, same_path


class Tunnel(WebSocketConnection):
    """A server's end, which may know its peer from the reverse proxy in front."""

    forwarded_ip = b""

    @property
    def peer_ip(self) -> bytes:
        return self.forwarded_ip or super().peer_ip


class Opening:
    """Opens tunnels.

    Args:
        path: the secret one.
        accept: makes the receiver of what comes through a tunnel.
        clock: seconds since 1970.
        forwarded: whether X-Forwarded-For says who the peer is: behind a reverse proxy of our own.
    """

    def __init__(self, path: str, accept: Accept, clock: Callable[[], float], forwarded: bool) -> None:
        self._secret = hashlib.sha256(path.encode()).digest()
        self._accept, self._clock, self._forwarded = accept, clock, forwarded

    def __call__(self, request: Request, lower: Lower) -> Tunnel | None:
        """A tunnel whose upgrade is answered, to be started with what came behind the request; None: the request is
        for the site."""
        ours = same_path(request, self._secret)
        if not is_upgrade(request) or not ours:
            return None
        tunnel = Tunnel(lower, Side.SERVER, self._accept, lambda error: None)
        if self._forwarded:
            tunnel.forwarded_ip = forwarded_untrusted(request, lower.peer_ip)
        lower.write(answers.upgraded(accept_of(request.headers["sec-websocket-key"]), self._clock()))
        return tunnel


def forwarded_untrusted(request: Request, proxy: bytes) -> bytes:
    """Who the reverse proxy says the peer is, packed. Nothing if `proxy` is not on this machine or a private network,
    or does not say."""
    if not proxy or not ipaddress.ip_address(proxy).is_private:
        return b""
    last = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    return packed_ip(last) or packed_ip(request.headers.get("x-real-ip", "").strip())
