"""WebSocket over TLS in both roles; the server's port is an ordinary web site's to whoever has not its secret path.

The server looks like nginx without HTTP/2: TLS, answers, times (`website/`). The client looks like Chrome:
ClientHello and headers are those of a persona.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport, one_setting
from phantomband.transports.browser import persona as personas
from phantomband.transports.browser.persona import Persona
from phantomband.transports.browser.tls import Use, client_context
from phantomband.transports.dialing import dial_over
from phantomband.transports.layered import Settled
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.proxy import Proxy
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls_layer.connection import TlsConnection
from phantomband.transports.tls_layer.identity import hostname
from phantomband.transports.website.options import Options
from phantomband.transports.website.port import WebPort
from phantomband.transports.website.site import HTTPS_PORT
from phantomband.transports.websocket.client import ClientConnection
from phantomband.transports.websocket.secret import (
    HOST_PARAMETER,
    PATH_PARAMETER,
    SNI_PARAMETER,
    Secret,
    Target,
    secret_for,
)
from phantomband.transports.websocket.tunnel import Opening
from phantomband.transports.websocket.upgrade import ClientUpgrade

RandomSource = Callable[[int], bytes]

KNOWN = ("site", "cert", "key", "plain", "forwarded", PATH_PARAMETER, HOST_PARAMETER, SNI_PARAMETER)
"""Parameters of a listening address; `website/options.py` says what they mean."""


class WebSocketTransport(Transport):
    """WebSocket over TLS over TCP.

    Args:
        random: source of everything random here.
        clock: seconds since 1970, for Date headers.
        proxy: dialled instead of each server, see `tcp.proxy`.
        persona: the browser that a client looks like; by default one for this object.
    """

    name = "websocket"

    def __init__(
        self,
        random: RandomSource = os.urandom,
        clock: Callable[[], float] = time.time,
        proxy: Proxy | None = None,
        persona: Persona | None = None,
    ) -> None:
        self._tcp = TcpTransport(proxy)
        self._random, self._clock = random, clock
        self._buffer = read_buffer()
        self._persona = persona or personas.choose(personas.load_all(), random)
        self._client = client_context(Use.WEBSOCKET, self._persona.tls)
        self._options = Options()
        self._secret: Secret | None = None

    def configure(self, folder: Path, options: Mapping[str, str]) -> None:
        """The secret path is that in `folder`/websocket.secret; options: `KNOWN`."""
        parsed, secret = Options.parse(options, self.name, KNOWN), secret_for(folder, options, self._random)
        one_setting(self.name, self._secret and (self._options, self._secret), (parsed, secret))
        self._options, self._secret = parsed, secret

    def parameters(self) -> Mapping[str, str]:
        if self._secret is None:
            return {}
        return {PATH_PARAMETER: self._secret.path, SNI_PARAMETER: self._secret.name}

    # the client's side

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        try:
            target = Target.parse_untrusted(address.parameters)
        except Malformed as e:
            raise Refused(str(e)) from None
        name = target.sni or target.host or hostname(self._random)
        host = target.host or (name if address.port == HTTPS_PORT else f"{name}:{address.port}")
        upgrade = ClientUpgrade(self._persona, host, target.path, self._random)
        upper: list[ClientConnection] = []

        def over(lower: StreamConnection, settled: Settled) -> TlsConnection:
            def shaken(connection: Connection) -> ClientConnection:
                assert isinstance(connection, TlsConnection)  # noqa: S101  (made below)
                connection.cuts = False  # a browser's request is one record
                upper.append(ClientConnection(connection, upgrade, accept, settled))
                return upper[0]

            def failed(error: Exception | None) -> None:
                if error is not None:
                    settled(error)

            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = self._client.wrap_bio(incoming, outgoing, server_hostname=name)
            return TlsConnection(lower, tls, incoming, outgoing, shaken, failed, self._buffer, self._random)

        await dial_over(self._tcp, address, timeout, "WebSocket", over, TlsConnection.start)
        return upper[0]

    # the server's side

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        self._secret = self._secret or secret_for(None, {}, self._random)
        web = WebPort(self.name, self._options, self._secret.name, self._random, self._clock, self._buffer)
        opening = Opening(self._secret.path, accept, self._clock, self._options.forwarded)
        return await web.listen(self._tcp, host, port, opens=opening)
