"""Every transport there is, by the name that stands in addresses and configuration."""

from __future__ import annotations

from phantomband.core.errors import UserError
from phantomband.transports.base import Transport
from phantomband.transports.quic.transport import QuicTransport
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls.transport import TlsTransport

TRANSPORTS: dict[str, type[Transport]] = {
    TcpTransport.name: TcpTransport,
    TlsTransport.name: TlsTransport,
    QuicTransport.name: QuicTransport,
}


def make(name: str) -> Transport:
    """A new transport object, for use on one event loop.

    Raises:
        UserError: there is no such transport.
    """
    try:
        return TRANSPORTS[name]()
    except KeyError:
        raise UserError(f"there is no transport {name!r}; there are {', '.join(TRANSPORTS)}") from None
