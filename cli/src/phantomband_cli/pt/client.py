"""The client's role: a SOCKS5 proxy on the loopback interface for each transport."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from phantomband.core.errors import Malformed, Refused
from phantomband.transports.base import Address, Connection, Receiver, Transport
from phantomband.transports.managed.stream import NegotiatedConnection, Refusing
from phantomband.transports.obfs4.identity import Certificate
from phantomband.transports.tcp.connection import StreamConnection, read_buffer

from phantomband_cli.pt.role import DIAL_SECONDS, Role
from phantomband_cli.pt.socks import FAILURE, SUCCEEDED, Accepting, Wanted, reply
from phantomband_cli.pt.splice import Half

LOOPBACK = "127.0.0.1"

NEGOTIATION_SECONDS = 20.0
MAX_NEGOTIATIONS = 256


class ClientRole(Role):
    """Takes applications' connections and dials with the transports."""

    async def listen(self, transport: Transport) -> int:
        """Returns: the port of its SOCKS5 proxy. Raises: OSError."""
        loop = asyncio.get_running_loop()
        buffer = read_buffer()
        negotiating: set[asyncio.TimerHandle] = set()

        def connected() -> StreamConnection:
            connection: NegotiatedConnection
            if self.full or len(negotiating) >= MAX_NEGOTIATIONS:
                return StreamConnection(Refusing, buffer)
            negotiation = Accepting()
            patience = loop.call_later(NEGOTIATION_SECONDS, lambda: connection.abort())
            negotiating.add(patience)

            def settled(error: Exception | None) -> None:
                patience.cancel()
                negotiating.discard(patience)

            def accept(lower: Connection) -> Receiver:
                wanted = negotiation.wanted
                half = self.half(lower)
                if wanted is not None:
                    self.spawn(half, self._dial(half, transport, wanted))
                return half

            connection = NegotiatedConnection(negotiation, accept, settled, buffer)
            return connection

        server = await loop.create_server(connected, LOOPBACK, 0, backlog=1024)
        self.listens(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _dial(self, half: Half, transport: Transport, wanted: Wanted) -> None:
        made: list[Half] = []

        def accept(connection: Connection) -> Half:
            made.append(self.half(connection))
            return made[0]

        try:
            address = Address(transport.name, wanted.host, wanted.port, parameters_untrusted(transport, wanted))
            await transport.dial(address, accept, DIAL_SECONDS)
        except (Refused, Malformed) as e:
            self.talk.connect_failed(transport.name, str(e))
            half.connection.write(reply(FAILURE))
            half.connection.close()
            return
        except BaseException:
            for other in made:
                other.connection.abort()
            raise
        half.connection.write(reply(SUCCEEDED))
        half.join(made[0])


def parameters_untrusted(transport: Transport, wanted: Wanted) -> Mapping[str, str]:
    """By our names. Old obfs4 bridge lines have `node-id` and `public-key` instead of `cert`. Raises: Malformed."""
    found = {name.replace("-", "_"): value for name, value in wanted.arguments.items()}
    if transport.name == "obfs4" and "cert" not in found and {"node_id", "public_key"} <= found.keys():
        try:
            node, key = (bytes.fromhex(found.pop(name)) for name in ("node_id", "public_key"))
        except ValueError:
            raise Malformed("node-id and public-key are hex digits") from None
        found["cert"] = Certificate.parse_untrusted(Certificate(node, key).text).text
    return found
