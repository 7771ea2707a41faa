"""`doh` in both roles: a tunnel in DNS over HTTPS, to the node itself or through a resolver that only forwards.

The client verifies no certificate, as in `transports/tls`: the link's handshake inside authenticates the node, and a
resolver that lies can only end the session.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from phantomband.core.errors import Malformed, Refused, UserError
from phantomband.transports.base import Accept, Address, Connection, Listener, Transport, one_setting
from phantomband.transports.browser.persona import Persona
from phantomband.transports.doh import identity
from phantomband.transports.doh.client import DIRECT, RESOLVER, ClientSession
from phantomband.transports.doh.dns_client import DnsTcpCarrier, DnsUdpCarrier
from phantomband.transports.doh.dns_server import NameServer
from phantomband.transports.doh.driver import Carrier, ClientDriver, Codec
from phantomband.transports.doh.forward import Forwarder
from phantomband.transports.doh.http2_client import DohClient
from phantomband.transports.doh.packet import SESSION_BYTES, TOKEN_BYTES, Keys
from phantomband.transports.doh.parameters import Options, Target, token_text
from phantomband.transports.doh.service import DohService
from phantomband.transports.doh.tunnel import Tunnel
from phantomband.transports.tcp.proxy import Proxy
from phantomband.transports.tcp.transport import TcpTransport, require_literal
from phantomband.transports.tls_layer.connection import TlsConnection
from phantomband.transports.tls_layer.identity import hostname
from phantomband.transports.tls_layer.layer import TlsLayer, operators_context

RandomSource = Callable[[int], bytes]

DIRECT_OPTIONS = Options.parse({})


class DohTransport(Transport):
    """DNS over HTTPS.

    Args:
        random: source of everything random.
        clock: seconds since 1970, right to an hour.
        proxy: dialled instead of each endpoint or resolver.
        persona: the browser whose ClientHello a client sends.
    """

    name = "doh"

    def __init__(
        self,
        random: RandomSource = os.urandom,
        clock: Callable[[], float] = time.time,
        proxy: Proxy | None = None,
        persona: Persona | None = None,
    ) -> None:
        self._random, self._clock, self._proxy, self._persona = random, clock, proxy, persona
        self._tcp = TcpTransport(proxy)
        self._tls = TlsLayer(random, None, proxy, persona)
        self._token = b""
        self._options = DIRECT_OPTIONS
        self._configured = False

    def configure(self, folder: Path, options: Mapping[str, str]) -> None:
        """The token is that in `folder`/doh.key; options are those of `parameters.Options`."""
        parsed = Options.parse(options)
        one_setting(self.name, self._options if self._configured else None, parsed)
        if parsed.files and not self._configured:
            server = operators_context(*map(Path, parsed.files))
            self._tls = TlsLayer(self._random, server, self._proxy, self._persona)
        self._options, self._configured = parsed, True
        self._token = identity.load_or_create(folder / identity.KEY_FILE, self._random)

    def parameters(self) -> Mapping[str, str]:
        if not self._token:
            return {}
        out = {"token": token_text(self._token), **self._tls.parameters()}
        if self._options.name:
            out["sni"] = self._options.name
        if self._options.path != DIRECT_OPTIONS.path:
            out["path"] = self._options.path
        if self._options.zone:
            out["zone"] = self._options.zone
        return out

    # the client's side

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        require_literal(address.host)
        try:
            target = Target.parse_untrusted(address.parameters)
            name = target.name or hostname(self._random)
            codec = Codec(target, name)
        except Malformed as e:
            raise Refused(str(e)) from None
        keys = Keys(target.token, self._random(SESSION_BYTES))
        pace = RESOLVER if target.via else DIRECT
        now = asyncio.get_running_loop().time()
        session = ClientSession(keys, pace, codec.limit, int(self._clock() // 60), now)

        async def carrier(driver: ClientDriver, seconds: float) -> Carrier:
            if target.via == "udp" and self._proxy is not None:
                raise Refused("via=udp cannot go through upstream_proxy, which carries TCP alone")
            if target.via == "udp":
                return await DnsUdpCarrier.open(self._tcp, address, driver, self._random)
            if target.via == "tcp":
                return await DnsTcpCarrier.dial(self._tcp, address, driver, self._random, seconds)
            return await self._https(address, target, name, driver, seconds)

        return await ClientDriver(session, codec, carrier, accept).open(timeout)

    async def _https(
        self, address: Address, target: Target, name: str, driver: ClientDriver, seconds: float
    ) -> Carrier:
        made: list[DohClient] = []

        def connected(lower: Connection) -> DohClient:
            made.append(DohClient(lower, name, target.path, target.get, driver))
            return made[0]

        place = Address(self.name, address.host, address.port, {"sni": name})
        lower = await self._tls.dial(place, connected, seconds)
        if not isinstance(lower, TlsConnection) or lower.alpn != "h2":
            lower.abort()
            raise Refused("the server does not speak HTTP/2")
        made[0].start()
        return made[0]

    # the server's side

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        self._token = self._token or self._random(TOKEN_BYTES)
        listener = _DohListener()
        options = self._options
        tunnel = Tunnel(self._token, accept, self._clock, listener.idle)
        forwarder = Forwarder(*options.upstream, self._random) if options.upstream else None
        service = DohService(tunnel, forwarder, options.path)

        https = await self._tls.listen(host, port, service.connected)
        listener.begin(https, tunnel, forwarder)
        if options.dns is not None:
            try:
                listener.name_server = await NameServer.listen(*options.dns, options, tunnel)
            except UserError:
                await listener.close()
                raise
        return listener


class _DohListener(Listener):
    """The HTTPS port, and the name server, which stays until no session needs it."""

    def __init__(self) -> None:
        self.name_server: NameServer | None = None
        self._closed = False

    def begin(self, https: Listener, tunnel: Tunnel, forwarder: Forwarder | None) -> None:
        self._https, self._tunnel, self._forwarder = https, tunnel, forwarder

    @property
    def port(self) -> int:
        return self._https.port

    def idle(self) -> None:
        if self._closed and self.name_server is not None:
            self.name_server.close_soon()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._tunnel.open = False
        await self._https.close()
        if self._forwarder is not None:
            self._forwarder.close()
        if self._tunnel.quiet:
            self.idle()
