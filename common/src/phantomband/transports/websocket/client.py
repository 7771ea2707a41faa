"""A client's WebSocket: the upgrade, then the frames."""

from __future__ import annotations

from websockets.protocol import Side

from phantomband.core.errors import Malformed
from phantomband.transports.base import Accept, Buffer
from phantomband.transports.layered import Lower, Settled
from phantomband.transports.websocket.connection import WebSocketConnection
from phantomband.transports.websocket.upgrade import ClientUpgrade


class ClientConnection(WebSocketConnection):
    """Over TLS whose handshake is done. Args: upgrade: its request is sent at once."""

    _HANDSHAKE = "WebSocket upgrade"

    def __init__(self, lower: Lower, upgrade: ClientUpgrade, accept: Accept, settled: Settled) -> None:
        super().__init__(lower, Side.CLIENT, accept, settled)
        self._upgrade: ClientUpgrade | None = upgrade
        lower.write(upgrade.request)
        self._loop.call_soon(lower.flush)

    def received(self, data: Buffer) -> None:
        if self._upgrade is None:
            super().received(data)
            return
        if self._closing:
            return
        try:
            rest = self._upgrade.receive_untrusted(bytes(data))
        except Malformed as error:
            self._error, self._closing = error, True
            self._lower.close()  # in order, as a browser does
            self._settled(error)
            return
        if rest is not None:
            self._upgrade = None
            self.start(rest)
