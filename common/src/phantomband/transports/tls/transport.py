"""TLS over TCP. The port is an ordinary web site's, as nginx has it (`website/port.py`), to whoever does not begin
with the server's secret.

The client's ClientHello is Chrome's (`browser/tls.py`). It does not verify the server's certificate: the Noise
handshake inside authenticates the node, and a certificate that could be verified would name it. So TLS here is
camouflage, never the source of security.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Accept, Address, Connection, Listener, Receiver, Transport, one_setting
from phantomband.transports.browser.persona import Persona
from phantomband.transports.browser.tls import PROFILE, Use, client_context
from phantomband.transports.dialing import dial_over
from phantomband.transports.layered import Settled
from phantomband.transports.tcp.connection import StreamConnection, read_buffer
from phantomband.transports.tcp.proxy import Proxy
from phantomband.transports.tcp.transport import TcpTransport
from phantomband.transports.tls_layer.connection import TlsConnection
from phantomband.transports.tls_layer.identity import RandomSource, hostname
from phantomband.transports.website.knock import (
    KNOCK_BYTES,
    KNOCK_PARAMETER,
    SNI_PARAMETER,
    Doorkeeper,
    Secret,
    knock_untrusted,
    secret_for,
)
from phantomband.transports.website.options import Options
from phantomband.transports.website.port import WebPort
from phantomband.transports.website.server import Door, HttpConnection

KNOWN = ("site", "cert", "key", KNOCK_PARAMETER, SNI_PARAMETER)
"""Parameters of a listening address; `website/options.py` says what they mean."""


class TlsTransport(Transport):
    """TLS over TCP.

    Args:
        random: source of secrets, of names for servers that published none, and of record cuts.
        clock: seconds since 1970.
        proxy: dialled instead of each server, see `tcp.proxy`.
        persona: the browser whose ClientHello a client sends.
    """

    name = "tls"

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
        self._client = client_context(Use.HTTPS, persona.tls if persona is not None else PROFILE)
        self._options = Options()
        self._secret: Secret | None = None

    def configure(self, folder: Path, options: Mapping[str, str]) -> None:
        """The secret is that in `folder`/tls.secret; options: `KNOWN`."""
        parsed, secret = Options.parse(options, self.name, KNOWN), secret_for(self.name, folder, options, self._random)
        one_setting(self.name, self._secret and (self._options, self._secret), (parsed, secret))
        self._options, self._secret = parsed, secret

    def parameters(self) -> Mapping[str, str]:
        return self._secret.parameters if self._secret is not None else {}

    async def dial(self, address: Address, accept: Accept, timeout: float) -> Connection:
        try:
            knock = knock_untrusted(address.parameters)
        except Malformed as e:
            raise Refused(str(e)) from None
        name = address.parameters.get(SNI_PARAMETER) or hostname(self._random)

        def knocking(connection: Connection) -> Receiver:
            assert isinstance(connection, TlsConnection)  # noqa: S101  (made below)
            connection.together = KNOCK_BYTES  # the server looks at the first record, and waits for no other
            connection.write(knock)
            return accept(connection)

        def over(lower: StreamConnection, settled: Settled) -> TlsConnection:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = self._client.wrap_bio(incoming, outgoing, server_hostname=name)
            return TlsConnection(lower, tls, incoming, outgoing, knocking, settled, self._buffer, self._random)

        return await dial_over(self._tcp, address, timeout, "TLS handshake", over, TlsConnection.start)

    async def listen(self, host: str, port: int, accept: Accept) -> Listener:
        secret = self._secret = self._secret or secret_for(self.name, None, {}, self._random)

        def speak(connection: TlsConnection, door: Door, lower: StreamConnection) -> Doorkeeper:
            def tunnel() -> Receiver:
                door.visitors.drop(lower)
                connection.cuts = True
                return accept(connection)

            return Doorkeeper(connection, secret.knock, tunnel, lambda: HttpConnection(connection, door, lower))

        web = WebPort(self.name, self._options, secret.name, self._random, self._clock, self._buffer)
        return await web.listen(self._tcp, host, port, speak)
