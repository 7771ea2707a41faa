"""The UDP port of a listener: which connection a datagram is for, how many connections there may be, and when a client
has to show first that its address is its own (retry.py).
"""

from __future__ import annotations

from typing import Any, cast

from qh3.asyncio.server import QuicServer

from phantomband.transports.base import Listener
from phantomband.transports.quic.gate import GateProtocol
from phantomband.transports.quic.library import CONNECTION_ID_BYTES
from phantomband.transports.quic.link import LinkProtocol, guarded
from phantomband.transports.quic.retry import HalfOpen, RetryTokens

MAX_CONNECTION_IDS = 65536
"""Connection ids of one listener; a connection has up to ten, so this is at least 6,500 connections: as many links as a
gateway has by default, and as many visitors as a listener."""


class Server(QuicServer):
    """Takes no new connections once it is retiring, and goes with the last one it has."""

    retiring = False

    def __init__(self, *, tokens: RetryTokens, half_open: HalfOpen, **named: Any) -> None:
        super().__init__(**named)
        self._tokens = tokens
        self.half_open = half_open
        self._lengths = {CONNECTION_ID_BYTES}
        """Of connection ids: 8, and what clients without an id of their own made up for us (8 to 20)."""

    def retire(self) -> None:
        self.retiring = True
        self._create_protocol = self._refuse
        self._leave_if_idle()

    def limit(self) -> None:
        """No more than MAX_CONNECTION_IDS are remembered; a new connection beyond that gets no answer."""
        create = self._create_protocol

        def limited(quic: Any, **named: Any) -> Any:
            if len(self._protocols) >= MAX_CONNECTION_IDS:
                raise ConnectionRefusedError
            self._lengths.add(len(quic.original_destination_connection_id))
            protocol = create(quic, **named)
            if quic._retry_source_connection_id is not None:  # what the client now calls us by
                protocol.ids.add(quic._retry_source_connection_id)
            self.half_open.add(protocol)
            return protocol

        self._create_protocol = limited

    @property
    def port(self) -> int:
        """The port that is bound."""
        assert self._transport is not None  # noqa: S101  (there is one from the beginning)
        return int(self._transport.get_extra_info("sockname")[1])

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        known = self._known(data) if isinstance(data, bytes) else None
        retry: Any = self._tokens if known is None and self.half_open.pressed else None
        self._retry = retry
        guarded(super().datagram_received if known is None else known.datagram_received, data, addr)
        if self.retiring:
            self._leave_if_idle()

    def datagrams_received(self, data: list[bytes], addr: Any) -> None:
        """Datagrams of one address that came together: those of one connection are handed on together."""
        run: list[bytes] = []
        owner: LinkProtocol | None = None
        for datagram in data:
            known = self._known(datagram)
            if run and known is not owner:
                guarded(owner.datagrams_received, run, addr)  # type: ignore[union-attr]
                run = []
            owner = known
            if known is None:
                self.datagram_received(datagram, addr)
            else:
                run.append(datagram)
        if run and owner is not None:
            guarded(owner.datagrams_received, run, addr)

    def _known(self, datagram: bytes) -> LinkProtocol | None:
        """Whose it is, if it has a short header."""
        if not datagram or datagram[0] & 0x80:
            return None
        found = self._protocols.get(datagram[1 : 1 + CONNECTION_ID_BYTES])
        if found is None:
            ids = (datagram[1 : 1 + length] for length in self._lengths)
            found = next((self._protocols[cid] for cid in ids if cid in self._protocols), None)
        return cast(LinkProtocol | None, found)

    def _connection_id_issued(self, cid: bytes, protocol: Any) -> None:
        super()._connection_id_issued(cid, protocol)
        protocol.ids.add(cid)

    def _connection_id_retired(self, cid: bytes, protocol: Any) -> None:
        protocol.ids.discard(cid)
        if self._protocols.get(cid) is protocol:
            del self._protocols[cid]

    def _connection_terminated(self, protocol: Any) -> None:
        """Not as the library does it, which looks through the ids of all connections."""
        self.forget(protocol)
        if self.retiring:
            self._leave_if_idle()

    def forget(self, protocol: GateProtocol) -> None:
        """Nothing that comes is for `protocol` any more."""
        self.half_open.discard(protocol)
        for cid in protocol.ids:
            if self._protocols.get(cid) is protocol:
                del self._protocols[cid]

    def _leave_if_idle(self) -> None:
        if not self._protocols and self._transport is not None:
            self._transport.close()


class QuicListener(Listener):
    """A bound UDP port."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._port = server.port

    @property
    def port(self) -> int:
        return self._port

    async def close(self) -> None:
        self._server.retire()
