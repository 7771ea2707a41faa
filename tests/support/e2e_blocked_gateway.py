"""A gateway whose way out to some ports is blocked: E2E_BLOCKED names them, separated by commas."""

from __future__ import annotations

import os

from phantomband.core.errors import Refused
from phantomband.transports.base import Accept, Address, Connection
from phantomband.transports.tcp.transport import TcpTransport
from phantomband_gateway.__main__ import main

_BLOCKED = {int(port) for port in os.environ["E2E_BLOCKED"].split(",")}
_dial = TcpTransport.dial


async def _dial_unless_blocked(self: TcpTransport, address: Address, accept: Accept, timeout: float) -> Connection:
    if address.port in _BLOCKED:
        raise Refused("blocked")
    return await _dial(self, address, accept, timeout)


if __name__ == "__main__":
    TcpTransport.dial = _dial_unless_blocked  # type: ignore[method-assign]
    main()
