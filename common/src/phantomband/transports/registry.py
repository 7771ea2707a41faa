"""Every transport there is, by the name that stands in addresses and configuration."""

from __future__ import annotations

from dataclasses import replace

from phantomband.core.errors import UserError
from phantomband.transports.base import Transport
from phantomband.transports.browser.persona import Persona
from phantomband.transports.doh.transport import DohTransport
from phantomband.transports.obfs4.transport import Obfs4Transport
from phantomband.transports.quic.transport import QuicTransport
from phantomband.transports.tcp.proxy import Proxy
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls.transport import TlsTransport
from phantomband.transports.websocket.transport import WebSocketTransport

TRANSPORTS: dict[str, type[Transport]] = {
    TcpTransport.name: TcpTransport,
    TlsTransport.name: TlsTransport,
    QuicTransport.name: QuicTransport,
    Obfs4Transport.name: Obfs4Transport,
    WebSocketTransport.name: WebSocketTransport,
    DohTransport.name: DohTransport,
}

THROUGH_PROXY = frozenset(
    (TcpTransport.name, TlsTransport.name, Obfs4Transport.name, WebSocketTransport.name, DohTransport.name)
)
"""Those that a proxy of the user's can carry."""


def make(name: str, proxy: Proxy | None = None, persona: Persona | None = None) -> Transport:
    """A new transport object, for use on one event loop.

    Args:
        proxy: dialled instead of each address.
        persona: the browser that clients look like, where they look like one.

    Raises:
        UserError: there is no such transport, or it cannot go through a proxy.
    """
    if name not in TRANSPORTS:
        raise UserError(
            f"there is no transport {name!r}; there are {', '.join(TRANSPORTS)}, and what a program does (pluggable)"
        )
    if proxy is None and persona is None:
        return TRANSPORTS[name]()
    if proxy is not None and name not in THROUGH_PROXY:
        raise UserError(
            f"{name} cannot go through upstream_proxy, which carries TCP alone. Choose another transport, or remove "
            "upstream_proxy"
        )
    if proxy is not None and persona is not None:
        proxy = replace(proxy, user_agent=persona.user_agent)
    match name:
        case TcpTransport.name:
            return TcpTransport(proxy)
        case TlsTransport.name:
            return TlsTransport(proxy=proxy, persona=persona)
        case Obfs4Transport.name:
            return Obfs4Transport(proxy=proxy)
        case WebSocketTransport.name:
            return WebSocketTransport(proxy=proxy, persona=persona)
        case DohTransport.name:
            return DohTransport(proxy=proxy, persona=persona)
    return TRANSPORTS[name]()
